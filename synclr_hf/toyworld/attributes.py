"""What a caption states, and the complete scene that a seed makes of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scene:
    """What a caption states; `None` stands for what it leaves free.

    Args:
        thing: name of the main thing, a key of `THINGS` or `FULL_FRAMES`.
        count: how many of it.
        several: more than one, the number left free.
        colour: colour word of the main thing.
        texture: surface of the main thing.
        size: one of `lexicon.SIZES`.
        relation: where the main thing is, in relation to the second one.
        second: name of the second thing.
        second_colour: its colour word.
        background: name of the place.
        light: one of `lexicon.LIGHTS`.
    """

    thing: str
    count: int | None = None
    several: bool = False
    colour: str | None = None
    texture: str | None = None
    size: str | None = None
    relation: str | None = None
    second: str | None = None
    second_colour: str | None = None
    background: str | None = None
    light: str | None = None


@dataclass(frozen=True)
class DrawnThing:
    """One thing in a picture, as drawn; lengths are shares of the picture's side, x to the right and y down.

    Args:
        name: key of `THINGS`.
        part: `"main"`, `"second"` or `"clutter"`.
        paints: RGB in 0..255 of every role.
        colour: colour word of the body.
        texture: surface of the body.
        x: centre.
        y: centre.
        half: half of the larger side, before turning.
        turn: degrees clockwise.
        flip: mirrored left to right.
        stretch: factor on the width.
        shear: how far the top leans over.
        taper: how much narrower the top is than the bottom.
        bend: how far the middle bulges sideways.
        sunk: everything below this height is hidden; 1 or more hides nothing.
        box: left, top, right, bottom.
    """

    name: str
    part: str
    paints: dict[str, tuple[int, int, int]]
    colour: str
    texture: str
    x: float
    y: float
    half: float
    turn: float
    flip: bool
    stretch: float
    shear: float
    taper: float
    bend: float
    sunk: float = 1.0
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class DrawnScene:
    """Everything that decides a picture but its size.

    Args:
        stated: what the caption stated.
        seed: the picture's seed, which also decides the details of the background.
        things: from back to front; empty for textures and scenes.
        background: name of the place, or of the texture or scene.
        horizon: height at which the ground begins.
        paints: of a texture: RGB of the figure and of the ground.
        colour: of a texture: the colour word of the figure or, where the caption states a colour, that one.
        light: name of the light.
        sun: direction the light comes from, in degrees; 270 is from above.
        blur: radius in shares of the side.
        noise: standard deviation of the noise, in steps of 255.
        grain: where in the noise the picture lies, right and down, in shares of the side.
        vignette: how much darker the corners are, as a share.
    """

    stated: Scene
    seed: int
    things: tuple[DrawnThing, ...]
    background: str
    horizon: float
    paints: tuple[tuple[int, int, int], ...] = ()
    colour: str | None = None
    light: str = "plain"
    sun: float = 270.0
    blur: float = 0.0
    noise: float = 2.0
    grain: tuple[float, float] = (0.0, 0.0)
    vignette: float = 0.0
