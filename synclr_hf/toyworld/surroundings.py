"""Backgrounds of town and home, of the air and under water.

Every function draws one place on a sketch, given the height of its horizon (0 is the top of the picture).
"""

from __future__ import annotations

from synclr_hf.toyworld.landscapes import daylight
from synclr_hf.toyworld.sketch import Sketch, blend


def draw_night_sky(s: Sketch, horizon: float) -> None:
    """Stars, perhaps a moon, and dark hills."""
    low = s.dice.pick(((74, 72, 130), (110, 74, 132), (48, 86, 128), (60, 60, 110)))
    s.bands((0, s.shade((16, 20, 52))), (horizon, s.shade(low)), (1, blend(low, (20, 24, 48), 0.5)))
    for _ in range(s.dice.whole(18, 46)):
        reach = s.dice.between(0.002, 0.007)
        s.oval(s.dice.roll(), s.dice.roll() * horizon, reach, reach, (255, 250, s.dice.between(190, 255)))
    if s.dice.chance(0.7):
        x, y, reach = s.dice.between(0.1, 0.9), s.dice.between(0.1, 0.35), s.dice.between(0.05, 0.09)
        s.oval(x, y, reach, reach, (250, 240, 208))
        s.oval(x + reach * s.dice.between(-0.6, 0.6), y - reach * 0.2, reach * 0.86, reach * 0.86, (34, 38, 78))
        s.glow(x, y, 0.24, (34, 32, 40))
    s.hills(horizon, 0.12, (24, 28, 54))
    s.hills(horizon + 0.05, 0.06, (34, 42, 62), waves=0.7)
    s.grain("cloud", 5)


def draw_kitchen_table(s: Sketch, horizon: float) -> None:
    """A table top in front of tiles."""
    wall = s.shade(s.dice.pick(((226, 232, 222), (240, 224, 196), (186, 210, 214), (232, 206, 198))))
    wood = s.shade(s.dice.pick(((190, 136, 84), (158, 106, 66), (214, 172, 120))))
    s.bands(
        (0, wall),
        (horizon, blend(wall, (120, 110, 100), 0.15)),
        (horizon + 0.001, wood),
        (1, blend(wood, (70, 40, 24), 0.3)),
    )
    seam = blend(wall, (255, 255, 255), 0.55)
    step = s.dice.between(0.11, 0.17)
    shift = s.dice.roll() * step
    for k in range(10):
        s.line(k * step - shift, 0, k * step - shift, horizon, 0.006, seam)
        if k * step < horizon:
            s.line(0, horizon - k * step, 1, horizon - k * step, 0.006, seam)
    if s.dice.chance(0.45):
        x = s.dice.between(0.05, 0.65)
        s.box(x, 0.04, x + 0.28, horizon - 0.1, (250, 250, 246))
        s.box(x + 0.02, 0.06, x + 0.26, horizon - 0.12, s.shade((160, 208, 232)))
    s.box(0, horizon, 1, horizon + 0.012, blend(wood, (255, 240, 210), 0.4))
    for _ in range(3):
        y = s.dice.between(horizon + 0.08, 1)
        s.line(0, y, 1, y + s.dice.between(-0.04, 0.04), 0.005, blend(wood, (60, 34, 20), 0.5))
    s.grain("streak", 7, horizon)


def draw_brick_wall(s: Sketch, horizon: float) -> None:
    """Bricks all over."""
    brick = s.shade(s.dice.pick(((184, 96, 72), (164, 110, 86), (206, 186, 166), (128, 128, 136))))
    s.bands((0, blend(brick, (255, 246, 230), 0.45)), (1, blend(brick, (225, 214, 200), 0.35)))
    rows = s.dice.whole(9, 13)
    height, width, shift = 1 / rows, 2.1 / rows, s.dice.roll()
    for row in range(rows):
        x = -(shift + 0.5 * (row % 2)) % 1 * width - width
        while x < 1:
            s.box(x + 0.006, row * height + 0.006, x + width - 0.006, (row + 1) * height - 0.006, s.shade(brick, 9))
            x += width
    s.grain("grain", 6)
    s.grain("cloud", 7)


def draw_rainy_street(s: Sketch, horizon: float) -> None:
    """Houses with lit windows, puddles and rain."""
    mist = s.shade((150, 164, 178))
    s.bands(
        (0, blend(mist, (90, 104, 122), 0.5)),
        (horizon, mist),
        (horizon + 0.001, s.shade((104, 112, 124))),
        (1, s.shade((62, 68, 82))),
    )
    x = -0.05
    while x < 1:
        width, top = s.dice.between(0.12, 0.24), s.dice.between(0.05, horizon - 0.18)
        wall = s.shade(s.dice.pick(((120, 108, 112), (100, 116, 130), (138, 120, 108), (92, 98, 116))))
        s.box(x, top, x + width, horizon, wall)
        for column in range(2):
            for row in range(4):
                y, left = top + 0.05 + 0.1 * row, x + width * (0.18 + 0.42 * column)
                if y + 0.06 < horizon:
                    lit = (248, 214, 130) if s.dice.chance(0.4) else blend(wall, (40, 50, 66), 0.5)
                    s.box(left, y, left + width * 0.22, y + 0.055, lit)
        x += width + 0.01
    for _ in range(s.dice.whole(3, 6)):
        s.oval(
            s.dice.roll(),
            s.dice.between(horizon + 0.1, 1),
            s.dice.between(0.06, 0.16),
            0.018,
            blend(mist, (210, 220, 230), 0.3),
        )
    for _ in range(s.dice.whole(24, 40)):
        px, py, drop = s.dice.roll(), s.dice.roll(), s.dice.between(0.03, 0.07)
        s.line(px, py, px - drop * 0.25, py + drop, 0.004, (196, 208, 220))
    s.grain("grain", 5, horizon)


def draw_living_room(s: Sketch, horizon: float) -> None:
    """A wall with pictures, floor boards, perhaps a rug."""
    wall = s.shade(s.dice.pick(((206, 216, 196), (232, 212, 184), (190, 204, 222), (222, 190, 184), (176, 190, 182))))
    floor = s.shade(s.dice.pick(((178, 128, 84), (146, 100, 68), (204, 164, 120))))
    s.bands(
        (0, wall),
        (horizon, blend(wall, (110, 96, 90), 0.2)),
        (horizon + 0.001, floor),
        (1, blend(floor, (70, 42, 28), 0.35)),
    )
    for _ in range(s.dice.whole(1, 3)):
        x, y, reach = s.dice.between(0.02, 0.8), s.dice.between(0.05, horizon * 0.4), s.dice.between(0.07, 0.12)
        s.box(x, y, x + reach * 1.4, y + reach * 1.6, s.shade((110, 82, 58)))
        s.box(
            x + 0.015,
            y + 0.015,
            x + reach * 1.4 - 0.015,
            y + reach * 1.6 - 0.015,
            s.shade(s.dice.pick(((236, 196, 120), (150, 190, 196), (214, 130, 110), (240, 236, 222))), 20),
        )
    s.box(0, horizon - 0.03, 1, horizon, blend(wall, (255, 255, 255), 0.5))
    centre = s.dice.between(0.3, 0.7)
    for k in range(-6, 8):
        s.line(centre + k * 0.09, horizon, centre + k * 0.26, 1, 0.004, blend(floor, (60, 36, 24), 0.35))
    if s.dice.chance(0.6):
        rug = s.shade(s.dice.pick(((170, 70, 66), (70, 100, 140), (206, 170, 96), (96, 130, 110))))
        x, y = s.dice.between(0.2, 0.8), horizon + (1 - horizon) * 0.55
        s.oval(x, y, 0.4, 0.13, rug)
        s.oval(x, y, 0.34, 0.105, blend(rug, (250, 236, 210), 0.4))
        s.oval(x, y, 0.31, 0.095, rug)
    s.grain("streak", 4, horizon)


def draw_blue_sky(s: Sketch, horizon: float) -> None:
    """Sky and clouds, no ground."""
    (_, top), (_, low) = daylight(s, 1.0)
    s.bands((0, blend(top, (40, 96, 180), 0.3)), (1, low))
    s.clouds(s.dice.whole(2, 6), 0.08, 0.95, blend(low, (255, 255, 255), 0.75))
    s.glow(s.dice.roll(), s.dice.between(-0.1, 0.2), 0.3, (46, 42, 26))
    s.grain("cloud", 5)


def draw_coral_reef(s: Sketch, horizon: float) -> None:
    """Rays of light, corals and bubbles."""
    top, low = s.dice.pick(
        (((92, 200, 214), (16, 84, 130)), ((70, 178, 196), (24, 70, 120)), ((120, 210, 190), (20, 96, 120)))
    )
    sand = s.shade((206, 196, 150))
    s.bands((0, s.shade(top)), (horizon, s.shade(low)), (horizon + 0.001, blend(sand, low, 0.45)), (1, sand))
    for _ in range(4):
        x, lean = s.dice.roll(), s.dice.between(-0.15, 0.15)
        s.outline(
            (x, 0, x + 0.06, 0, x + lean + 0.16, horizon, x + lean, horizon),
            blend(top, low, s.dice.between(0.15, 0.4)),
        )
    s.hills(horizon + 0.03, 0.08, blend(sand, low, 0.35), waves=0.8)
    for _ in range(s.dice.whole(5, 9)):
        x, base = s.dice.roll(), horizon + s.dice.between(0.04, 0.16)
        coral = s.shade(
            s.dice.pick(((232, 106, 110), (240, 160, 96), (170, 110, 190), (80, 160, 110), (236, 140, 176)))
        )
        for _ in range(3):
            lean, height = s.dice.between(-0.05, 0.05), s.dice.between(0.06, 0.16)
            s.line(x, base, x + lean, base - height, 0.018, coral)
            s.oval(x + lean, base - height, 0.016, 0.016, coral)
    for _ in range(s.dice.whole(4, 14)):
        reach = s.dice.between(0.004, 0.013)
        s.oval(s.dice.roll(), s.dice.roll(), reach, reach, blend(top, (255, 255, 255), 0.6))
    s.grain("cloud", 6)
