// Shows step and value of the nearest point while the pointer is over a curve.
for (const svg of document.querySelectorAll("svg.curve")) {
  const points = JSON.parse(svg.dataset.points);
  const group = svg.querySelector(".pointer");
  const draw = (name, attributes) => {
    const node = document.createElementNS(svg.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };
  svg.addEventListener("pointermove", (event) => {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const [x, y, step, value] = points.reduce((a, b) => (Math.abs(a[0] - place.x) <= Math.abs(b[0] - place.x) ? a : b));
    const onTheRight = x > 210;
    const text = draw("text", { x: x + (onTheRight ? -7 : 7), y: 20, "text-anchor": onTheRight ? "end" : "start" });
    text.textContent = `step ${step}: ${value}`;
    group.replaceChildren(draw("line", { x1: x, x2: x, y1: 10, y2: 152 }), draw("circle", { cx: x, cy: y, r: 4 }), text);
  });
  svg.addEventListener("pointerleave", () => group.replaceChildren());
}
