// Pictures that gradio leaves without words get those of the field they are in, for screen readers.
(() => {
  const words = (image) => {
    const block = image.closest(".block");
    const label = block && block.querySelector("[data-testid='block-label'], label > span, .label-wrap");
    return (label && label.textContent.trim()) || (block && block.getAttribute("aria-label")) || "picture";
  };
  const mend = () => {
    document.documentElement.lang = document.documentElement.lang || "en";
    for (const image of document.querySelectorAll("img:not([alt]), img[alt='']")) image.alt = words(image);
  };
  const start = () => {
    mend();
    new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
  };
  if (document.body) start();
  else document.addEventListener("DOMContentLoaded", start);
})();
