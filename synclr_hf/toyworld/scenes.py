"""Scenes: concepts that fill the whole picture and are drawn like backgrounds."""

from __future__ import annotations

from synclr_hf.toyworld.landscapes import SKIES
from synclr_hf.toyworld.sketch import Sketch, blend


def draw_mountains(s: Sketch, horizon: float) -> None:
    """Three rows of snow-capped peaks."""
    top, low = s.dice.pick((*SKIES, ((96, 84, 150), (246, 190, 160))))
    s.bands((0, s.shade(top)), (horizon, s.shade(low)), (1, blend(low, (120, 140, 150), 0.5)))
    s.clouds(s.dice.whole(0, 3), 0.05, 0.25, blend(low, (255, 255, 255), 0.6))
    stone = s.shade(s.dice.pick(((92, 104, 128), (118, 104, 108), (84, 98, 104))))
    for layer in range(3):
        base, colour = horizon + 0.14 * layer, blend(low, stone, 0.45 + 0.25 * layer)
        for _ in range(4 - layer):
            x, height = s.dice.between(-0.1, 1.1), s.dice.between(0.22, 0.46) - 0.06 * layer
            width, lean = height * s.dice.between(0.6, 0.9), s.dice.between(-0.05, 0.05)
            peak = base - height
            s.outline((x - width, base + 0.2, x + lean, peak, x + width, base + 0.2), colour)
            s.outline(
                (x + lean, peak, x + width, base + 0.2, x + lean * 2, base + 0.2, x + 0.03, peak + height * 0.4),
                blend(colour, (30, 34, 60), 0.25),
            )
            cap = height * s.dice.between(0.2, 0.3)
            reach = width * cap / (height + 0.2)
            s.outline(
                (
                    x + lean,
                    peak,
                    x + lean + reach,
                    peak + cap,
                    x + lean + reach * 0.3,
                    peak + cap * 0.75,
                    x + lean,
                    peak + cap * 1.1,
                    x + lean - reach * 0.4,
                    peak + cap * 0.7,
                    x + lean - reach,
                    peak + cap,
                ),
                (246, 248, 252),
            )
    s.hills(horizon + 0.36, 0.08, s.shade(s.dice.pick(((70, 110, 70), (96, 120, 70), (60, 84, 84)))))
    s.grain("grain", 6, 0.3)


def draw_skyline(s: Sketch, horizon: float) -> None:
    """Tall houses with lit windows at night."""
    top, low = s.dice.pick(
        (((22, 24, 62), (120, 84, 140)), ((28, 40, 84), (226, 130, 110)), ((16, 30, 60), (70, 120, 150)))
    )
    s.bands((0, s.shade(top)), (0.75, s.shade(low)), (1, blend(top, (0, 0, 0), 0.3)))
    s.specks(16, 0, 0.35, 0.005, ((255, 250, 230),))
    ground = 0.84 + 0.1 * s.dice.roll()
    for layer in range(2):
        wall, x = blend(low, (16, 18, 40), 0.55 + 0.35 * layer), s.dice.between(-0.15, 0)
        while x < 1:
            width, roof = s.dice.between(0.09, 0.19), ground - s.dice.between(0.2, 0.62) + 0.12 * layer
            colour = s.shade(wall, 7)
            s.box(x, roof, x + width, 1, colour)
            if s.dice.chance(0.4):
                s.outline((x, roof, x + width / 2, roof - 0.08, x + width, roof), colour)
            columns, pitch = 3, width / 3.4
            row = roof + 0.03
            while row < ground and layer:
                for column in range(columns):
                    if s.dice.chance(0.55):
                        left = x + pitch * (column + 0.4)
                        s.box(left, row, left + pitch * 0.5, row + 0.022, (255, 220, 130))
                row += 0.055
            x += width + s.dice.between(0, 0.03)
    s.grain("cloud", 4)


def draw_volcano(s: Sketch, horizon: float) -> None:
    """A smoking mountain with lava."""
    top, low = s.dice.pick(
        (((70, 60, 90), (232, 140, 100)), ((120, 150, 180), (236, 214, 190)), ((40, 36, 60), (170, 80, 80)))
    )
    s.bands((0, s.shade(top)), (horizon + 0.2, s.shade(low)), (1, (60, 50, 50)))
    x, peak, wide = s.dice.between(0.3, 0.7), s.dice.between(0.24, 0.42), s.dice.between(0.38, 0.56)
    smoke = blend(low, (90, 84, 92), 0.6)
    drift = s.dice.between(-0.25, 0.25)
    for step in range(8):
        rise = step / 7
        s.oval(
            x + drift * rise + s.dice.between(-0.03, 0.03),
            peak - 0.02 - rise * peak,
            0.05 + 0.09 * rise,
            0.04 + 0.05 * rise,
            blend(s.shade(smoke, 8), low, 0.3 * rise),
        )
    rock = s.shade((84, 66, 70))
    s.outline(
        (x - wide, 0.94, x - 0.2, peak + 0.2, x - 0.08, peak, x + 0.08, peak, x + 0.2, peak + 0.2, x + wide, 0.94),
        rock,
    )
    s.outline(
        (x + 0.01, peak, x + 0.08, peak, x + 0.2, peak + 0.2, x + wide, 0.94, x + 0.08, 0.94),
        blend(rock, (20, 16, 30), 0.35),
    )
    lava = (255, 150, 50)
    s.outline(
        (
            x - 0.08,
            peak,
            x + 0.08,
            peak,
            x + 0.05,
            peak + 0.06,
            x + 0.02,
            peak + 0.03,
            x - 0.02,
            peak + 0.12,
            x - 0.05,
            peak + 0.04,
        ),
        lava,
    )
    s.line(
        x - 0.01, peak + 0.05, x + s.dice.between(-0.1, 0.1), peak + s.dice.between(0.2, 0.4), 0.018, (246, 104, 40)
    )
    s.line(x + 0.03, peak + 0.02, x + s.dice.between(0, 0.2), peak + s.dice.between(0.2, 0.35), 0.014, lava)
    s.glow(x, peak, 0.14, (70, 24, 0))
    s.hills(0.9, 0.1, s.shade((52, 66, 52)))
    s.grain("grain", 7, 0.3)


def draw_island(s: Sketch, horizon: float) -> None:
    """Palms on sand in the middle of the sea."""
    top, low = s.dice.pick((*SKIES, ((230, 120, 110), (255, 214, 150))))
    s.bands(
        (0, s.shade(top)),
        (horizon, s.shade(low)),
        (horizon + 0.001, s.shade((60, 160, 186))),
        (1, s.shade((24, 96, 140))),
    )
    s.clouds(s.dice.whole(0, 3), 0.06, horizon * 0.6, (252, 252, 250))
    x, y, wide = s.dice.between(0.35, 0.65), horizon + s.dice.between(0.1, 0.22), s.dice.between(0.26, 0.38)
    s.oval(x, y + 0.03, wide * 1.15, 0.07, (140, 216, 210))
    s.oval(x, y, wide, 0.07, s.shade((238, 212, 158)))
    s.oval(x - 0.02, y - 0.03, wide * 0.7, 0.05, s.shade((104, 160, 84)))
    for _ in range(s.dice.whole(1, 3)):
        foot, lean, tall = x + s.dice.between(-0.6, 0.6) * wide, s.dice.between(-0.1, 0.1), s.dice.between(0.22, 0.36)
        head, crown = foot + lean, y - tall
        s.line(foot, y, foot + lean * 0.4, y - tall * 0.5, 0.026, (130, 94, 62))
        s.line(foot + lean * 0.4, y - tall * 0.5, head, crown, 0.02, (146, 108, 72))
        for dx, dy in (
            (-0.14, 0.05),
            (-0.1, -0.06),
            (0, -0.09),
            (0.1, -0.06),
            (0.14, 0.05),
            (0.06, 0.1),
            (-0.07, 0.1),
        ):
            s.outline(
                (
                    head,
                    crown,
                    head + dx * 0.6 - dy * 0.2,
                    crown + dy * 0.4 - 0.03,
                    head + dx,
                    crown + dy,
                    head + dx * 0.5,
                    crown + dy * 0.6 + 0.01,
                ),
                s.shade((58, 140, 72)),
            )
    s.grain("streak", 8, horizon)


def draw_waterfall(s: Sketch, horizon: float) -> None:
    """Water falling from a cliff into a pool."""
    s.bands((0, s.shade((150, 204, 226))), (0.3, s.shade((224, 238, 230))), (1, (50, 90, 90)))
    rock, x, wide = (
        s.shade(s.dice.pick(((106, 100, 96), (124, 104, 84), (86, 100, 98)))),
        s.dice.between(0.35, 0.65),
        s.dice.between(0.08, 0.17),
    )
    top, pool = s.dice.between(0.16, 0.32), s.dice.between(0.7, 0.82)
    s.hills(top, 0.07, rock, waves=2)
    for _ in range(14):
        left, y = s.dice.roll(), s.dice.between(top + 0.06, pool)
        s.outline((left, y, left + 0.12, y - 0.03, left + 0.16, y + 0.06, left + 0.03, y + 0.1), s.shade(rock, 16))
    s.box(0, pool, 1, 1, s.shade((46, 134, 150)))
    s.outline(
        (x - wide, top, x + wide, top, x + wide * 1.25, pool + 0.03, x - wide * 1.25, pool + 0.03), (222, 240, 246)
    )
    for _ in range(14):
        lane = s.dice.between(-1, 1)
        s.line(
            x + lane * wide,
            top + s.dice.roll() * 0.2,
            x + lane * wide * 1.2,
            pool,
            0.008,
            s.shade((168, 210, 226), 16),
        )
    for _ in range(9):
        s.oval(x + s.dice.between(-1.5, 1.5) * wide, pool + s.dice.between(0, 0.05), 0.06, 0.03, (242, 250, 250))
    s.specks(14, top - 0.06, top + 0.04, 0.05, ((60, 124, 66), (84, 148, 72)))
    s.specks(10, 0.94, 1.02, 0.07, ((50, 106, 60), (70, 130, 66)))
    s.grain("grain", 6, top)


def draw_rainbow(s: Sketch, horizon: float) -> None:
    """A rainbow over hills."""
    top, low = s.dice.pick(
        (((96, 120, 160), (200, 212, 216)), ((80, 140, 200), (210, 232, 240)), ((120, 120, 150), (226, 206, 196)))
    )
    far, near = s.shade((140, 184, 96)), s.shade((66, 128, 62))
    s.bands((0, s.shade(top)), (horizon + 0.1, s.shade(low)), (1, near))
    x, reach, thick = s.dice.between(0.2, 0.8), s.dice.between(0.34, 0.52), s.dice.between(0.02, 0.034)
    arcs = ((226, 84, 80), (240, 156, 76), (248, 222, 100), (112, 190, 110), (84, 140, 214), (150, 104, 190))
    for step, colour in enumerate(arcs):
        outer = reach - step * thick
        s.oval(x, horizon + 0.1, outer, outer, blend(colour, low, 0.15))
    inner = reach - len(arcs) * thick
    s.oval(x, horizon + 0.1, inner, inner, blend(top, low, 0.75))
    s.clouds(s.dice.whole(1, 4), 0.06, horizon, (250, 250, 252))
    s.hills(horizon + 0.12, 0.1, far)
    s.hills(horizon + 0.22, 0.1, blend(far, near, 0.5), waves=0.8)
    s.grain("grain", 6, horizon + 0.05)
