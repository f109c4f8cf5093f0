"""Concepts that fill the whole picture: textures and scenes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from synclr_hf.toyworld import scenes, textures
from synclr_hf.toyworld.dice import Dice
from synclr_hf.toyworld.sketch import Sketch


@dataclass(frozen=True)
class FullFrame:
    """A texture or a scene.

    Args:
        name: the noun.
        noun_phrase: the noun with its article, where it takes one.
        kind: `"texture"` or `"scene"`.
        paints: of a texture: the paints of the figure and those of the ground.
        pattern: of a texture: see `textures.Surface`.
        draw: of a scene: draws it on a sketch, given the height of the horizon.
        other_names: further nouns that mean the same.
    """

    name: str
    noun_phrase: str
    kind: str
    paints: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    pattern: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    draw: Callable[[Sketch, float], None] | None = None
    other_names: tuple[str, ...] = ()


def draw_texture(frame: FullFrame, figure: tuple, ground: tuple, size: int, dice: Dice) -> np.ndarray:
    """Draw a texture under a random turn, scale and slant.

    Args:
        frame: which texture.
        figure: RGB of the pattern, 0..255.
        ground: RGB behind it.
        size: side of the picture in pixels.
        dice: the source of the variation.

    Returns:
        float32, shape (3, size, size), about 0..255.
    """
    double = size <= 160
    side = 2 * size if double else size
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    upright = frame.name in ("bricks", "waves", "wood grain", "shingles")
    angle = dice.between(-0.35, 0.35) if upright else dice.between(0, 6.283)
    zoom = dice.between(0.45, 1.25)
    cosine, sine = np.float32(np.cos(angle) * zoom), np.float32(np.sin(angle) * zoom)
    depth = 1 + axis[:, None] * np.float32(dice.between(-0.35, 0.35)) + axis * np.float32(dice.between(-0.3, 0.3))
    u = (axis[:, None] * -sine + axis * cosine) / depth + np.float32(dice.roll())
    v = (axis[:, None] * cosine + axis * sine) / depth + np.float32(dice.roll())
    u, v = u - np.floor(u), v - np.floor(v)
    assert frame.pattern is not None
    share = np.clip(frame.pattern(u, v), -1, 1).astype(np.float32)
    if frame.pattern in (textures._waves, textures._wood, textures._weave):
        share = share * 0.5 + 0.5
    share = np.abs(share)
    if double:
        share = (share[0::2, 0::2] + share[0::2, 1::2] + share[1::2, 0::2] + share[1::2, 1::2]) * np.float32(0.25)
    first, second = (np.asarray(colour, np.float32)[:, None, None] for colour in (figure, ground))
    canvas = second + share * (first - second)
    x, y = dice.whole(0, size - 1), dice.whole(0, size - 1)
    canvas += textures.noise("grain", size)[y : y + size, x : x + size] * np.float32(dice.between(3, 9))
    return canvas


_BRIGHT = ("red", "blue", "teal", "purple", "rose", "orange", "green")
_PALE = ("white", "cream", "lemon", "sky", "pink")

FULL_FRAMES: dict[str, FullFrame] = {
    one.name: one
    for one in (
        FullFrame("polka dots", "polka dots", "texture", (_PALE, _BRIGHT), textures._dots),
        FullFrame("stripes", "stripes", "texture", (_BRIGHT, _PALE), textures._stripes),
        FullFrame(
            "checkerboard",
            "a checkerboard",
            "texture",
            (_BRIGHT + ("black",), _PALE),
            textures._checks,
            other_names=("chessboard",),
        ),
        FullFrame("zigzags", "zigzags", "texture", (_BRIGHT, _PALE), textures._zigzag, other_names=("chevrons",)),
        FullFrame(
            "bricks",
            "bricks",
            "texture",
            (("cream", "grey", "silver"), ("coral", "crimson", "tan", "brown")),
            textures._bricks,
        ),
        FullFrame("wood grain", "wood grain", "texture", (("chocolate", "brown"), ("tan", "amber")), textures._wood),
        FullFrame(
            "shingles",
            "shingles",
            "texture",
            (("navy", "chocolate", "black"), ("steel", "coral", "forest", "teal")),
            textures._scales,
        ),
        FullFrame(
            "mountain range", "a mountain range", "scene", draw=scenes.draw_mountains, other_names=("mountains",)
        ),
        FullFrame("city skyline", "a city skyline", "scene", draw=scenes.draw_skyline, other_names=("skyline",)),
        FullFrame("volcano", "a volcano", "scene", draw=scenes.draw_volcano),
        FullFrame("tropical island", "a tropical island", "scene", draw=scenes.draw_island, other_names=("island",)),
        FullFrame("waterfall", "a waterfall", "scene", draw=scenes.draw_waterfall),
        FullFrame("rainbow", "a rainbow", "scene", draw=scenes.draw_rainbow),
    )
}
"""Name -> texture or scene, in the order of the bank."""
