"""The places things can be in: how captions name them and what draws them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from synclr_hf.toyworld import landscapes, surroundings
from synclr_hf.toyworld.sketch import Sketch


@dataclass(frozen=True)
class Background:
    """A place.

    Args:
        phrases: how captions name it, preposition included; the first is the usual one.
        draw: draws it on a sketch, given the height of the horizon.
        horizon: range of the horizon's height, as a share of the picture.
        ground: whether things stand on the ground (or else hang in front of what is behind them).
    """

    phrases: tuple[str, ...]
    draw: Callable[[Sketch, float], None]
    horizon: tuple[float, float] = (0.4, 0.66)
    ground: bool = True


BACKGROUNDS: dict[str, Background] = {
    "meadow": Background(("in a meadow", "on a green meadow", "in a grassy field"), landscapes.draw_meadow),
    "beach": Background(("on a beach", "at the beach", "on a sandy shore"), landscapes.draw_beach, (0.28, 0.46)),
    "night sky": Background(
        ("under a night sky", "beneath the stars", "on a starry night"), surroundings.draw_night_sky, (0.68, 0.86)
    ),
    "snow": Background(("in the snow", "on a snowy field", "in a winter landscape"), landscapes.draw_snow),
    "forest": Background(
        ("in a forest", "in the woods", "among the trees of a forest"), landscapes.draw_forest, (0.48, 0.7)
    ),
    "desert": Background(("in a desert", "in the desert", "among sand dunes"), landscapes.draw_desert),
    "kitchen table": Background(
        ("on a kitchen table", "on the kitchen table", "in a kitchen"), surroundings.draw_kitchen_table
    ),
    "brick wall": Background(
        ("in front of a brick wall", "against a brick wall", "by a brick wall"),
        surroundings.draw_brick_wall,
        (0.9, 0.96),
        ground=False,
    ),
    "sea": Background(("at sea", "on the open sea", "on the water"), landscapes.draw_sea, (0.34, 0.56)),
    "sunset": Background(
        ("at sunset", "under a sunset sky", "in the evening glow"), landscapes.draw_sunset, (0.54, 0.76)
    ),
    "rainy street": Background(
        ("on a rainy street", "in a wet street", "in the rain"), surroundings.draw_rainy_street
    ),
    "living room": Background(
        ("in a living room", "in the living room", "in a cosy room"), surroundings.draw_living_room, (0.5, 0.7)
    ),
    "blue sky": Background(
        ("against a blue sky", "under a blue sky", "in front of the clouds"),
        surroundings.draw_blue_sky,
        (0.9, 1.0),
        ground=False,
    ),
    "coral reef": Background(
        ("in a coral reef", "under water", "at the bottom of the sea"), surroundings.draw_coral_reef, (0.62, 0.8)
    ),
    "autumn park": Background(
        ("in an autumn park", "in a park in autumn", "among fallen leaves"), landscapes.draw_autumn_park
    ),
}
"""Background name -> how to say and draw it."""
