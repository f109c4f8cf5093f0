"""Backgrounds under the open sky.

Every function draws one place on a sketch, given the height of its horizon (0 is the top of the picture).
"""

from __future__ import annotations

from synclr_hf.toyworld.sketch import Sketch, blend

SKIES = (
    ((92, 158, 222), (206, 230, 242)),
    ((120, 186, 226), (246, 236, 214)),
    ((74, 128, 200), (190, 214, 240)),
    ((150, 196, 214), (238, 240, 226)),
)
"""Colours of the day's skies, at the top and at the horizon."""


def daylight(sketch: Sketch, horizon: float) -> tuple[tuple, tuple]:
    """Return the two colour stops of a daytime sky, at the top and at the horizon."""
    top, low = sketch.dice.pick(SKIES)
    top, low = sketch.shade(top), sketch.shade(low)
    return (0.0, top), (horizon, low)


def draw_meadow(s: Sketch, horizon: float) -> None:
    """Grass, hills and flowers under a clear sky."""
    far, near = s.shade((150, 192, 96)), s.shade((72, 140, 62))
    sky = daylight(s, horizon)
    s.bands(*sky, (horizon + 0.001, far), (1, near))
    s.clouds(s.dice.whole(0, 3), 0.06, horizon * 0.6, (252, 250, 246))
    s.hills(horizon, 0.10, blend(far, sky[1][1], 0.45), down_to=horizon + 0.02)
    s.hills(horizon + 0.03, 0.06, blend(far, near, 0.3), waves=0.8)
    bloom = s.dice.pick(((250, 246, 230), (250, 214, 90), (236, 140, 170), (190, 150, 226)))
    s.specks(s.dice.whole(8, 26), horizon + 0.08, 1.0, 0.011, (bloom, blend(bloom, near, 0.3)))
    s.grain("grain", 7, horizon)


def draw_beach(s: Sketch, horizon: float) -> None:
    """Sea, surf and sand."""
    sand, shore = s.shade((236, 208, 154)), min(horizon + s.dice.between(0.1, 0.2), 0.8)
    s.bands(
        *daylight(s, horizon),
        (horizon + 0.001, s.shade((46, 134, 176))),
        (shore, (130, 212, 208)),
        (shore + 0.001, sand),
        (1, blend(sand, (206, 160, 104), 0.5)),
    )
    s.clouds(s.dice.whole(0, 2), 0.06, horizon * 0.7, (255, 252, 244))
    s.hills(shore + 0.03, 0.03, (246, 250, 246), waves=0.9)
    s.hills(shore + 0.05, 0.03, sand, waves=0.9)
    s.specks(s.dice.whole(3, 12), shore + 0.1, 1, 0.012, ((250, 238, 220), (206, 150, 120), (196, 168, 128)))
    s.grain("streak", 7, horizon, shore)
    s.grain("grain", 6, shore + 0.05)


def draw_snow(s: Sketch, horizon: float) -> None:
    """A white field, firs far away, snowflakes."""
    white = s.shade((236, 242, 250), 6)
    top, low = s.dice.pick(
        (((150, 184, 216), (222, 232, 242)), ((176, 176, 206), (248, 224, 220)), ((92, 140, 196), (208, 226, 240)))
    )
    s.bands((0, s.shade(top)), (horizon, s.shade(low)), (horizon + 0.001, white), (1, s.shade((198, 214, 236), 6)))
    s.hills(horizon, 0.12, blend(low, (150, 170, 200), 0.5), down_to=horizon + 0.05)
    for _ in range(s.dice.whole(0, 7)):
        x, height = s.dice.roll(), s.dice.between(0.06, 0.16)
        y = horizon + 0.03
        s.outline((x, y - height, x + height * 0.3, y, x - height * 0.3, y), s.shade((84, 118, 120)))
    s.hills(horizon + 0.05, 0.06, white, waves=0.8)
    s.specks(s.dice.whole(10, 40), 0, 1, 0.009, ((255, 255, 255),))
    s.grain("cloud", 4, horizon)


def draw_forest(s: Sketch, horizon: float) -> None:
    """Trunks in the mist, leaves above, moss below."""
    mist = s.shade(s.dice.pick(((176, 204, 160), (206, 212, 160), (140, 178, 160))))
    s.bands(
        (0, blend(mist, (30, 60, 40), 0.35)),
        (horizon, mist),
        (horizon + 0.001, s.shade((88, 112, 58))),
        (1, s.shade((48, 66, 36))),
    )
    for layer in range(3):
        trunk = blend(mist, (52, 44, 34), 0.3 + 0.25 * layer)
        for _ in range(s.dice.whole(3, 5)):
            x, width = s.dice.roll(), (0.012 + 0.012 * layer) * s.dice.between(0.7, 1.4)
            s.outline(
                (
                    x - width,
                    0,
                    x + width,
                    0,
                    x + width * 1.4,
                    horizon + 0.05 * layer,
                    x - width * 1.4,
                    horizon + 0.05 * layer,
                ),
                trunk,
            )
    s.specks(s.dice.whole(10, 18), -0.02, 0.14, 0.09, ((52, 92, 48), (74, 118, 58), (40, 76, 46)))
    s.specks(s.dice.whole(6, 16), horizon + 0.1, 1, 0.016, ((120, 146, 64), (140, 104, 56), (60, 92, 44)))
    s.glow(s.dice.roll(), 0.2, 0.35, (44, 40, 10))
    s.grain("grain", 8, horizon)


def draw_desert(s: Sketch, horizon: float) -> None:
    """A mesa and three rows of dunes."""
    sand = s.shade((226, 168, 98))
    s.bands(
        (0, s.shade((106, 170, 206))),
        (horizon, s.shade((250, 222, 176))),
        (horizon + 0.001, sand),
        (1, blend(sand, (180, 104, 62), 0.5)),
    )
    if s.dice.chance(0.6):
        s.oval(s.dice.roll(), s.dice.between(0.08, horizon), 0.05, 0.05, (255, 240, 196))
    x, width = s.dice.roll(), s.dice.between(0.1, 0.2)
    top = horizon - s.dice.between(0.05, 0.16)
    s.outline(
        (x - width, horizon + 0.02, x - width * 0.7, top, x + width * 0.7, top, x + width, horizon + 0.02),
        s.shade((194, 116, 82)),
    )
    s.hills(horizon + 0.04, 0.08, blend(sand, (250, 214, 150), 0.4), waves=0.7)
    s.hills(horizon + 0.16, 0.10, sand, waves=0.6)
    s.hills(horizon + 0.32, 0.12, blend(sand, (196, 120, 70), 0.35), waves=0.5)
    s.grain("streak", 6, horizon)


def draw_sea(s: Sketch, horizon: float) -> None:
    """Waves up to the horizon."""
    far, near = s.shade((92, 168, 196)), s.shade(s.dice.pick(((18, 84, 136), (22, 108, 128), (34, 72, 120))))
    s.bands(*daylight(s, horizon), (horizon + 0.001, far), (1, near))
    s.clouds(s.dice.whole(0, 3), 0.06, horizon * 0.7, (250, 250, 250))
    for step in range(7):
        depth = (step + s.dice.roll()) / 7
        y = horizon + 0.03 + (1 - horizon) * depth**1.4
        s.hills(
            y,
            0.015 + 0.03 * depth,
            blend(blend(far, near, depth), (255, 255, 255), 0.14 * (step % 2)),
            waves=3 - 1.6 * depth,
        )
    for _ in range(s.dice.whole(6, 16)):
        x, y, reach = s.dice.roll(), s.dice.between(horizon + 0.02, 1), s.dice.between(0.01, 0.05)
        s.line(x - reach, y, x + reach, y, 0.005, (222, 240, 246))
    s.grain("streak", 8, horizon)


def draw_sunset(s: Sketch, horizon: float) -> None:
    """A low sun over dark hills."""
    top, middle, low = s.dice.pick(
        (
            ((82, 62, 130), (224, 106, 112), (255, 200, 112)),
            ((60, 76, 140), (240, 140, 110), (255, 216, 150)),
            ((124, 60, 110), (238, 104, 76), (252, 190, 90)),
        )
    )
    s.bands(
        (0, s.shade(top)),
        (horizon * 0.6, s.shade(middle)),
        (horizon, s.shade(low)),
        (1, blend(top, (30, 24, 40), 0.4)),
    )
    x, y = s.dice.between(0.1, 0.9), horizon - s.dice.between(0.0, 0.16)
    s.oval(x, y, 0.07, 0.07, (255, 236, 170))
    s.glow(x, y, 0.3, (60, 36, 4))
    for _ in range(s.dice.whole(0, 5)):
        cx, cy, reach = s.dice.roll(), s.dice.between(0.05, horizon - 0.08), s.dice.between(0.08, 0.2)
        s.oval(cx, cy, reach, 0.014, blend(middle, (255, 220, 180), 0.4))
    ground = blend(top, (36, 26, 44), 0.3)
    s.hills(horizon + 0.02, 0.10, blend(ground, low, 0.3))
    s.hills(horizon + 0.08, 0.08, blend(ground, low, 0.12), waves=0.8)
    s.hills(horizon + 0.2, 0.10, ground, waves=0.6)
    s.grain("grain", 5, horizon)


def draw_autumn_park(s: Sketch, horizon: float) -> None:
    """Yellow trees, a path and fallen leaves."""
    s.bands(*daylight(s, horizon), (horizon + 0.001, s.shade((178, 164, 84))), (1, s.shade((134, 118, 58))))
    leaves = ((224, 140, 50), (204, 84, 46), (234, 186, 72), (168, 110, 52))
    for _ in range(s.dice.whole(5, 9)):
        x, reach = s.dice.roll(), s.dice.between(0.06, 0.13)
        s.box(x - 0.012, horizon - reach * 1.4, x + 0.012, horizon + 0.03, (104, 78, 62))
        tint = blend(s.shade(s.dice.pick(leaves)), (240, 226, 200), 0.25)
        s.oval(x, horizon - reach * 1.7, reach, reach * 1.1, tint)
        s.oval(x - reach * 0.5, horizon - reach * 1.2, reach * 0.7, reach * 0.7, blend(tint, (90, 60, 30), 0.15))
    path = s.dice.between(0.2, 0.8)
    s.outline((path, horizon, path + 0.05, horizon, path + 0.36, 1, path - 0.3, 1), s.shade((206, 186, 150)))
    s.specks(s.dice.whole(16, 36), horizon + 0.04, 1, 0.016, leaves)
    s.grain("grain", 7, horizon)
