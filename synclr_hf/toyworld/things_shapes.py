"""Plain shapes, and props that only serve as second things. Coordinates run from about -10 to 10, y down."""

from __future__ import annotations

from synclr_hf.toyworld.outlines import blob, box, oval, poly, ring, star, stroke, turned
from synclr_hf.toyworld.thing import Thing, pair, part, thing

# fmt: off
SHAPES: tuple[Thing, ...] = (
    thing(
        "heart",
        "hearts",
        [
            part("body", blob(0, -4.6, -3, -8, -7.4, -8, -9.6, -4, -7.8, 1.4, -3.4, 5.6, 0, 9, 3.4, 5.6, 7.8, 1.4,
                9.6, -4, 7.4, -8, 3, -8)),
            part("shine", blob(-6.6, -5.6, -4.4, -6.8, -3.6, -5.8, -6, -3.4)),
        ],
        body="red pink rose crimson",
        shine="white",
        backgrounds="sunset, brick wall, night sky, living room",
        tilt=24,
        floats=True,
    ),
    thing(
        "star",
        "stars",
        [
            part("body", star(0, 0.6, 10, 4.4, 5)),
            part("body", *(turned(poly(0, 0.6, 0, -9.4, 2.6, -3), a, 0, 0.6) for a in range(0, 360, 72)), tone=0.78),
        ],
        body="yellow gold amber",
        backgrounds="night sky, sunset, blue sky, snow",
        tilt=36,
        floats=True,
    ),
    thing(
        "cube",
        "cubes",
        [
            part("body", poly(-8, -4.6, 0, -0.6, 0, 9.6, -8, 5)),
            part("body", poly(8, -4.6, 0, -0.6, 0, 9.6, 8, 5), tone=0.72),
            part("body", poly(0, -9, 8, -4.6, 0, -0.6, -8, -4.6), tone=1.25),
        ],
        body="blue red green purple",
        texture="checkered",
        backgrounds="living room, desert, kitchen table, snow",
        tilt=20,
    ),
    thing(
        "ball",
        "balls",
        [
            part("body", oval(0, 0, 9)),
            part("stripe", blob(0, -9, 3.4, -5, 3.8, 0, 3.4, 5, 0, 9, -1, 5, -1.4, 0, -1, -5)),
            part("stripe", blob(-4.6, -7.7, -6, -4, -6.4, 0, -6, 4, -4.6, 7.7, -8, 4.4, -9, 0, -8, -4.4)),
            part("stripe", blob(6.6, -6, 6.9, 0, 6.6, 6, 8.6, 2.4, 8.6, -2.4), tone=0.9),
            part("cap", oval(-1.2, -7.9, 1.5, 0.8)),
        ],
        body="red sky green yellow",
        stripe="white cream",
        cap="amber",
        backgrounds="beach, meadow, living room, sea",
        other_names="beach ball",
        tilt=180,
    ),
)

PROPS: tuple[Thing, ...] = (
    thing(
        "rock",
        "rocks",
        [
            part("body", poly(-9, 6, -8, 0, -4, -4.6, 1, -5.6, 6, -3, 9, 2, 9.4, 6)),
            part("body", poly(-4, -4.6, 1, -5.6, 3, -1, -2, 1, -8, 0), tone=1.2),
            part("body", poly(3, -1, 6, -3, 9, 2, 9.4, 6, 2, 6), tone=0.78),
        ],
        body="grey steel tan",
        texture="speckled",
        backgrounds="desert, beach, forest, meadow",
        other_names="stone, boulder",
        tilt=8,
        in_bank=False,
    ),
    thing(
        "basket",
        "baskets",
        [
            part("rim", ring(0, -2, 7.6, 6.6, 0.9)),
            part("body", poly(-9, -1.6, 9, -1.6, 7, 7, -7, 7)),
            part("rim", box(-9.6, -2.6, 9.6, -0.8, 0.8)),
        ],
        body="tan gold",
        rim="brown",
        texture="woven",
        backgrounds="kitchen table, meadow, living room, beach",
        tilt=6,
        in_bank=False,
    ),
    thing(
        "crate",
        "crates",
        [
            part("body", box(-9, -6, 9, 6)),
            part("body", box(-9, -2.4, 9, -1.6), box(-9, 1.6, 9, 2.4), tone=0.62),
            part("body", box(-9, -6, -7, 6), box(7, -6, 9, 6), tone=1.18),
        ],
        body="tan brown",
        texture="wooden",
        backgrounds="rainy street, brick wall, beach, kitchen table",
        other_names="wooden box, box",
        tilt=6,
        in_bank=False,
    ),
    thing(
        "stool",
        "stools",
        [
            pair("leg", stroke(1.1, -5, -2, -7, 7)),
            part("leg", stroke(0.8, -6, 3.4, 6, 3.4), stroke(1, 0, -2, 0, 6.4), tone=0.8),
            part("body", box(-8.6, -4.4, 8.6, -1.6, 1.3)),
        ],
        body="brown tan coral",
        leg="chocolate",
        texture="wooden",
        backgrounds="living room, brick wall, kitchen table, beach",
        tilt=5,
        in_bank=False,
    ),
    thing(
        "bucket",
        "buckets",
        [
            part("rim", ring(0, -4, 7, 6.3, 0.7)),
            part("body", poly(-8, -4, 8, -4, 6, 7, -6, 7), oval(0, 7, 6, 1.2)),
            part("rim", box(-8.4, -4.8, 8.4, -3.2, 0.7)),
        ],
        body="blue red silver",
        rim="steel",
        texture="ribbed",
        backgrounds="beach, meadow, rainy street, snow",
        tilt=6,
        in_bank=False,
    ),
    thing(
        "cushion",
        "cushions",
        [
            part("body", blob(-9.4, -3.6, 0, -4.6, 9.4, -3.6, 8.6, 0, 9.4, 4, 0, 4.8, -9.4, 4, -8.6, 0)),
            part("knot", oval(-9.2, -3.6, 0.8), oval(9.2, -3.6, 0.8), oval(-9.2, 4, 0.8), oval(9.2, 4, 0.8),
                oval(0, 0, 0.7)),
        ],
        body="purple coral teal gold",
        knot="cream",
        texture="woolly",
        backgrounds="living room, beach, autumn park, meadow",
        other_names="pillow",
        tilt=6,
        in_bank=False,
    ),
    thing(
        "book",
        "books",
        [
            part("body", box(-9, -3.6, 9, 4, 0.8)),
            part("page", poly(-7.8, -1.8, 9.2, -1.8, 9.2, 2.4, -7.8, 2.4)),
            part("page", stroke(0.3, -7, -0.4, 9, -0.4), stroke(0.3, -7, 1, 9, 1), tone=0.8),
            part("body", box(-9, -4.4, 9, -2.4, 0.8)),
            part("page", box(-5.4, -3.8, -4.4, -3), box(3.4, -3.8, 5.4, -3)),
        ],
        body="crimson navy forest brown",
        page="cream",
        backgrounds="living room, kitchen table, autumn park, beach",
        tilt=8,
        in_bank=False,
    ),
    thing(
        "flowerpot",
        "flowerpots",
        [
            part("soil", oval(0, -5, 7.4, 1.6)),
            part("body", poly(-7.4, -4, 7.4, -4, 5, 8, -5, 8)),
            part("body", box(-8.6, -5.4, 8.6, -2, 0.5), tone=1.15),
        ],
        body="coral tan sky",
        soil="chocolate",
        backgrounds="meadow, brick wall, living room, kitchen table",
        other_names="flower pot, clay pot",
        tilt=6,
        in_bank=False,
    ),
)
# fmt: on
