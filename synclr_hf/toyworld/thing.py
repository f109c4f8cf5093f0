"""What a drawable thing is: coloured parts, a texture, the way it stands, and the words for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from synclr_hf.toyworld.outlines import Outline, mirrored

BODY = "body"
"""The role of the parts that carry a thing's colour and texture."""


@dataclass(frozen=True)
class Part:
    """One closed outline, painted in one colour; later parts cover earlier ones.

    Args:
        role: key into the thing's `paints`.
        outline: points, shape (n, 2).
        tone: brightness of this part in relation to its paint, about 0.6..1.3.
    """

    role: str
    outline: Outline
    tone: float = 1.0


@dataclass(frozen=True, eq=False)
class Thing:
    """A thing that can be drawn, scaled so that its larger side spans -1..1 around the origin.

    Args:
        name: the noun, singular.
        plural: the noun, plural.
        parts: from back to front.
        paints: for each role the paints it may have, the first ones being the most usual.
        texture: the surface that the body has by nature, a name of `textures.SURFACES`.
        backgrounds: where one finds it, names of `backgrounds.BACKGROUNDS`.
        other_names: further nouns that mean the same thing.
        tilt: how far it may lean to either side, in degrees.
        floats: whether it may hang in the air rather than stand.
        in_bank: whether it is a concept of the toy bank; the others only serve as second things.
    """

    name: str
    plural: str
    parts: tuple[Part, ...]
    paints: dict[str, tuple[str, ...]]
    texture: str = "smooth"
    backgrounds: tuple[str, ...] = ()
    other_names: tuple[str, ...] = ()
    tilt: float = 16.0
    floats: bool = False
    in_bank: bool = True
    points: np.ndarray = field(init=False, repr=False)
    """The outlines of all parts behind each other, shape (n, 2), float64."""
    ends: tuple[int, ...] = field(init=False, repr=False)
    """Where each part ends in `points`."""
    extent: tuple[float, float] = field(init=False, repr=False)
    """Half width and half height; the larger of them is 1."""

    def __post_init__(self) -> None:
        points = np.concatenate([part.outline for part in self.parts])
        low, high = points.min(axis=0), points.max(axis=0)
        half = (high - low) / 2
        object.__setattr__(self, "points", (points - (low + high) / 2) / half.max())
        object.__setattr__(self, "ends", tuple(np.cumsum([len(part.outline) for part in self.parts]).tolist()))
        object.__setattr__(self, "extent", tuple((half / half.max()).tolist()))


def part(role: str, *outlines: Outline, tone: float = 1.0) -> list[Part]:
    """Return one part for each outline, all of the same role and tone."""
    return [Part(role, outline, tone) for outline in outlines]


def pair(role: str, *outlines: Outline, tone: float = 1.0) -> list[Part]:
    """Return each outline and its mirror image around x = 0."""
    return part(role, *(side for outline in outlines for side in (outline, mirrored(outline))), tone=tone)


def thing(
    name: str,
    plural: str,
    parts: Sequence[list[Part]],
    *,
    body: str,
    backgrounds: str,
    other_names: str = "",
    texture: str = "smooth",
    tilt: float = 16.0,
    floats: bool = False,
    in_bank: bool = True,
    **paints: str,
) -> Thing:
    """Build a `Thing` from short descriptions.

    Args:
        name: the noun, singular.
        plural: the noun, plural.
        parts: groups of parts from back to front.
        body: the paints of the body, separated by spaces.
        backgrounds: names of backgrounds, separated by `", "`.
        other_names: further nouns, separated by `", "`.
        texture: see `Thing`.
        tilt: see `Thing`.
        floats: see `Thing`.
        in_bank: see `Thing`.
        **paints: the paints of every other role, separated by spaces.
    """
    return Thing(
        name=name,
        plural=plural,
        parts=tuple(one for group in parts for one in group),
        paints={BODY: tuple(body.split())} | {role: tuple(names.split()) for role, names in paints.items()},
        texture=texture,
        backgrounds=tuple(backgrounds.split(", ")),
        other_names=tuple(other_names.split(", ")) if other_names else (),
        tilt=tilt,
        floats=floats,
        in_bank=in_bank,
    )
