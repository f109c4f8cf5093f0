"""Plants. Coordinates run from about -10 to 10, y down."""

from __future__ import annotations

from synclr_hf.toyworld.outlines import blob, box, curve, oval, poly, star, stroke, turned
from synclr_hf.toyworld.thing import Thing, pair, part, thing

# fmt: off
PLANTS: tuple[Thing, ...] = (
    thing(
        "mushroom",
        "mushrooms",
        [
            part("stalk", blob(-2.6, -1, -3.2, 5, -4, 9, 0, 10, 4, 9, 3.2, 5, 2.6, -1)),
            part("gills", oval(0, -0.6, 8.6, 1.9)),
            part("body", blob(-9.6, -0.6, -8, -6, -3.4, -9.6, 3.4, -9.6, 8, -6, 9.6, -0.6, 5, -1.6, 0, -2, -5, -1.6)),
            part("dots", oval(-4.8, -4.6, 1.6, 1.3), oval(0.2, -6.9, 1.8, 1.4), oval(5, -4.2, 1.7, 1.4)),
            part("dots", oval(0.4, -3.4, 1.1, 0.8), oval(-7.4, -2.2, 0.8), oval(7.8, -2, 0.7)),
        ],
        body="red crimson orange brown",
        stalk="cream",
        gills="tan",
        dots="white cream",
        backgrounds="forest, meadow, autumn park, snow",
        other_names="toadstool",
    ),
    thing(
        "tree",
        "trees",
        [
            part("trunk", poly(-1.6, 0, 1.6, 0, 2.1, 7, 3.4, 10, -3.4, 10, -2.1, 7), curve(1, 0, 3, 2, 0, 4, -2)),
            part("body", oval(-4.6, -2, 4.6, 3.8), oval(4.8, -1.8, 4.6, 3.8), tone=0.82),
            part("body", oval(0, -5.4, 5.8, 4.6), oval(0, -1.4, 4.6, 3.4)),
            part("body", oval(-2, -6.6, 2.6, 1.9), oval(3, -3.4, 2, 1.4), oval(-4.6, -2.8, 1.9, 1.4), tone=1.18),
        ],
        body="green forest lime orange",
        trunk="brown chocolate",
        texture="leafy",
        backgrounds="meadow, autumn park, sunset, snow",
        other_names="oak",
        tilt=6,
    ),
    thing(
        "pine tree",
        "pine trees",
        [
            part("trunk", box(-1.1, 5, 1.1, 10)),
            part("body", poly(0, -3, 6.4, 7, 2, 6.2, 0, 7.2, -2, 6.2, -6.4, 7), tone=0.8),
            part("body", poly(0, -6.4, 5.2, 3, 1.6, 2.2, 0, 3, -1.6, 2.2, -5.2, 3), tone=0.95),
            part("body", poly(0, -10, 3.8, -1.8, 1.2, -2.4, 0, -1.8, -1.2, -2.4, -3.8, -1.8), tone=1.12),
        ],
        body="forest green teal",
        trunk="chocolate",
        texture="needles",
        backgrounds="snow, forest, night sky, meadow",
        other_names="fir, fir tree, christmas tree",
        tilt=6,
    ),
    thing(
        "cactus",
        "cactuses",
        [
            part("body", curve(2.6, -2, 3, -6.4, 2.6, -6.6, -3.4), curve(2.4, 2, 0.6, 6, 0, 6.2, -5), tone=0.86),
            part("body", box(-2.7, -9, 2.7, 8, 2.6)),
            part("body", stroke(0.5, -1, -7.6, -1, 7), stroke(0.5, 1, -7.6, 1, 7), tone=0.72),
            part("bloom", star(0, -9.2, 2, 0.9, 6), star(-6.6, -4, 1.3, 0.6, 6)),
            part("pot", poly(-4.4, 6, 4.4, 6, 3.4, 10, -3.4, 10)),
            part("pot", box(-5, 5.2, 5, 6.8), tone=1.15),
        ],
        body="green forest mint",
        bloom="pink rose yellow",
        pot="coral tan",
        texture="spines",
        backgrounds="desert, living room, brick wall, sunset",
        other_names="saguaro",
    ),
    thing(
        "daisy",
        "daisies",
        [
            part("stem", curve(0.9, 0, -2, 0.8, 3, 0, 10), blob(0.4, 6, 4, 2.6, 5.6, 3.4, 3.4, 6)),
            part("body", *(turned(oval(0, -8, 1.4, 2.9), angle, 0, -4) for angle in range(0, 360, 36))),
            part("eye", oval(0, -4, 2)),
            part("eye", oval(-0.5, -4.5, 0.9), tone=1.15),
        ],
        body="white lavender pink",
        stem="green",
        eye="gold amber",
        backgrounds="meadow, autumn park, kitchen table, blue sky",
        other_names="flower",
    ),
    thing(
        "sunflower",
        "sunflowers",
        [
            part("stem", stroke(1.2, 0, -1, 0.4, 10), blob(0.2, 7, 4, 4, 6.6, 4.6, 4, 7.4)),
            part("stem", blob(0, 8.4, -4, 5.4, -6.6, 6, -4, 8.6), tone=0.85),
            part("body", star(0, -3.6, 6.6, 3.6, 16, 11), tone=0.84),
            part("body", star(0, -3.6, 6.2, 3.2, 16)),
            part("eye", oval(0, -3.6, 3.3)),
            part("eye", *(oval(x, y - 3.6, 0.45) for x, y in ((-1.2, -1), (1.2, -1), (0, 0.9), (-1.8, 0.8),
                (1.8, 0.8)))
            , tone=1.7),
        ],
        body="yellow gold amber",
        stem="forest green",
        eye="chocolate",
        backgrounds="meadow, sunset, blue sky, autumn park",
    ),
    thing(
        "tulip",
        "tulips",
        [
            part("stem", stroke(0.9, 0, -2, 0, 10)),
            part("stem", blob(0.2, 9.6, 1.8, 3, 4.6, -1, 4, 5), tone=0.9),
            part("stem", blob(-0.2, 9.6, -1.8, 4, -4.4, 0.6, -4, 6), tone=1.05),
            part("body", poly(0, -9.6, 2.6, -3, 0, -1, -2.6, -3), tone=0.75),
            pair("body", blob(0, -1, -3.4, -2.4, -4, -6, -3.4, -9.6, -1.2, -6.8, 0.2, -3.6), tone=0.92),
            part("body", blob(0, -1, -2, -3.4, 0, -7.8, 2, -3.4), tone=1.1),
        ],
        body="rose red yellow purple",
        stem="green mint",
        backgrounds="meadow, living room, kitchen table, rainy street",
    ),
    thing(
        "maple leaf",
        "maple leaves",
        [
            part("vein", curve(0.6, 0, 3, 0.6, 7, 0, 10)),
            part("body", poly(0, -10, 2, -6.4, 3.6, -7.2, 3.4, -2.8, 6.6, -6, 7.4, -4.4, 9.8, -4.2, 8.8, -1.4, 10, 0,
                              5, 3.4, 5.6, 5.2, 0.5, 4.2, -0.5, 4.2, -5.6, 5.2, -5, 3.4, -10, 0, -8.8, -1.4,
                              -9.8, -4.2, -7.4, -4.4, -6.6, -6, -3.4, -2.8, -3.6, -7.2, -2, -6.4)),
            part("vein", stroke(0.35, 0, 4, 0, -8), stroke(0.3, 0, 3.4, 6.8, -3.4), stroke(0.3, 0, 3.4, -6.8, -3.4)),
        ],
        body="orange red amber crimson",
        vein="brown",
        texture="speckled",
        backgrounds="autumn park, rainy street, blue sky, forest",
        other_names="leaf",
        tilt=60,
        floats=True,
    ),
)
# fmt: on
