"""The colours of the toy world: their RGB values, the colour word a person would use, and how they vary."""

from __future__ import annotations

import colorsys

from synclr_hf.toyworld.dice import Dice

PALETTE: dict[str, tuple[tuple[int, int, int], str]] = {
    "red": ((216, 52, 48), "red"),
    "crimson": ((178, 34, 52), "red"),
    "coral": ((240, 98, 84), "red"),
    "orange": ((240, 128, 34), "orange"),
    "amber": ((244, 162, 58), "orange"),
    "yellow": ((248, 208, 62), "yellow"),
    "gold": ((226, 178, 58), "yellow"),
    "lemon": ((252, 228, 108), "yellow"),
    "green": ((78, 160, 66), "green"),
    "lime": ((140, 190, 62), "green"),
    "forest": ((42, 110, 66), "green"),
    "mint": ((122, 200, 150), "green"),
    "teal": ((38, 158, 152), "teal"),
    "aqua": ((88, 200, 196), "teal"),
    "blue": ((56, 108, 208), "blue"),
    "navy": ((42, 66, 138), "blue"),
    "sky": ((98, 164, 228), "blue"),
    "purple": ((132, 78, 178), "purple"),
    "lavender": ((166, 138, 214), "purple"),
    "pink": ((242, 132, 172), "pink"),
    "rose": ((226, 92, 140), "pink"),
    "brown": ((140, 88, 52), "brown"),
    "chocolate": ((98, 62, 42), "brown"),
    "tan": ((184, 136, 86), "brown"),
    "white": ((247, 245, 240), "white"),
    "cream": ((250, 236, 206), "white"),
    "black": ((38, 37, 44), "black"),
    "grey": ((142, 145, 152), "grey"),
    "silver": ((190, 196, 204), "grey"),
    "steel": ((104, 116, 132), "grey"),
}
"""Paint name -> (RGB in 0..255, colour word)."""

COLOUR_WORDS: tuple[str, ...] = tuple(dict.fromkeys(word for _, word in PALETTE.values()))
"""The twelve colours that captions can state; each is also the name of a paint."""


def colour_word(paint: str) -> str:
    """Return the colour word of a paint, e.g. `"red"` for `"crimson"`."""
    return PALETTE[paint][1]


def mix_paint(paint: str, dice: Dice, spread: float = 1.0) -> tuple[int, int, int]:
    """Return one shade of a paint: a little other hue, saturation and brightness each time.

    Args:
        paint: a key of `PALETTE`.
        dice: the source of the variation; exactly three numbers are drawn.
        spread: 1 for the full variation (about 7 degrees of hue, 10 % of saturation and brightness), 0 for none.

    Returns:
        RGB in 0..255.
    """
    red, green, blue = PALETTE[paint][0]
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    turn, fade, dim = (dice.between(-1, 1) for _ in range(3))
    hue = (hue + 0.018 * spread * turn) % 1.0
    saturation = min(max(saturation * (1 + 0.10 * spread * fade), 0.0), 1.0)
    value = min(max(value * (1 + 0.10 * spread * dim), 0.0), 1.0)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
