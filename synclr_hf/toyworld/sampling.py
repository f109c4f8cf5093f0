"""Filling in what a caption leaves free."""

from __future__ import annotations

from synclr_hf.toyworld.attributes import DrawnScene, DrawnThing, Scene
from synclr_hf.toyworld.backgrounds import BACKGROUNDS
from synclr_hf.toyworld.dice import Dice
from synclr_hf.toyworld.full_frames import FULL_FRAMES
from synclr_hf.toyworld.layout import arrange, fit, relate
from synclr_hf.toyworld.lexicon import LIGHTS, SIZES
from synclr_hf.toyworld.palette import COLOUR_WORDS, colour_word, mix_paint
from synclr_hf.toyworld.pose import with_box
from synclr_hf.toyworld.thing import BODY
from synclr_hf.toyworld.things import THINGS

CONTAINERS = ("basket", "crate", "bucket", "flowerpot")
SUPPORTS = ("rock", "crate", "stool", "cushion", "book")
COMPANIONS = ("rock", "basket", "crate", "stool", "bucket", "book", "flowerpot", "cushion")

TYPICAL = 0.8
"""Chance that a part has the paint that is typical of its thing; else any of the thing's paints, that one included."""


def sample(scene: Scene, seed: int, spread: float = 1.0) -> DrawnScene:
    """Fill in what the scene leaves free.

    Args:
        scene: what the caption states; all of it holds in the result.
        seed: decides everything else.
        spread: how far poses and colours stray from the prototype; 1 is the full variation.
    """
    dice = Dice(seed, "toyworld", "scene")
    light = scene.light or dice.pick(("plain", "plain", *LIGHTS))
    finish = {
        "light": light,
        "sun": 270 + dice.between(-70, 70),
        "blur": dice.between(0.002, 0.007) if dice.chance(0.3) else 0.0,
        "noise": dice.between(1, 6),
        "grain": (dice.roll(), dice.roll()),
        "vignette": dice.between(0, 0.3),
    }
    if scene.thing in FULL_FRAMES:
        return _sample_full_frame(scene, seed, dice, finish)
    background = scene.background or _pick_background(scene.thing, dice)
    place = BACKGROUNDS[background]
    horizon = dice.between(*place.horizon)
    count = scene.count or (dice.whole(2, 4) if scene.several else 1)
    low, high = _size_range(scene, count)
    half = dice.between(low, high) / 2
    first = _sample_thing(scene.thing, "main", scene.colour, scene.texture, half, dice, spread)
    upright = scene.relation in ("on", "in")
    group = [_pose(first, dice, spread * (0.4 if upright else 1.0)) for _ in range(count)]
    group = arrange(group, dice) if count > 1 else group
    things = group
    if scene.relation and scene.second:
        share = dice.between(0.62, 0.8) if upright else dice.between(0.42, 0.66)
        second = _sample_thing(scene.second, "second", scene.second_colour, None, half * share, dice, spread)
        things, group = relate(group, _pose(second, dice, spread * 0.4), scene.relation, dice)
    hangs = THINGS[scene.thing].floats and dice.chance(0.75)
    floor = horizon if place.ground and not hangs else None
    things = fit(things, floor, dice)
    things = _sample_clutter(scene, things, floor, dice) + things
    finish["blur"] *= min(1.0, max(one.half for one in things) / 0.2) ** 2
    return DrawnScene(scene, seed, tuple(things), background, horizon, **finish)


def _pick_background(thing: str, dice: Dice) -> str:
    return dice.pick(THINGS[thing].backgrounds) if dice.chance(0.85) else dice.pick(tuple(BACKGROUNDS))


def _size_range(scene: Scene, count: int) -> tuple[float, float]:
    """Return the range of the thing's larger side, as a share of the picture's."""
    low, high = SIZES[scene.size] if scene.size else (0.52, 0.86)
    if scene.relation and not scene.size:
        low, high = 0.45, 0.59
    crowd = 1.0 if count == 1 else 0.8 if count == 2 else 0.68 if count <= 4 else 0.5
    return low * crowd, high * crowd


def _sample_thing(
    name: str, part: str, colour: str | None, texture: str | None, half: float, dice: Dice, spread: float
) -> DrawnThing:
    """Choose the paints and the surface of a thing; its pose is still plain."""
    thing = THINGS[name]
    paints, body = {}, colour or ""
    for role, names in thing.paints.items():
        if role == BODY and colour:
            paints[role] = mix_paint(colour, dice, 0.6 * spread)
            continue
        usual = names[: max(1, round(len(names) * spread))]
        paint = names[0] if dice.chance(TYPICAL) else dice.pick(usual)
        if role == BODY:
            body = colour_word(paint)
        elif colour and colour_word(paint) == colour:
            paint = _other_paint(names, colour)
        paints[role] = mix_paint(paint, dice, spread)
    return DrawnThing(name, part, paints, body, texture or thing.texture, 0, 0, half, 0, False, 1, 0, 0, 0)


def _other_paint(names: tuple[str, ...], colour: str) -> str:
    """Return a paint that is not of the colour of the body, so that the parts stay apart."""
    others = [name for name in names if colour_word(name) != colour]
    return others[0] if others else ("cream" if colour != "white" else "steel")


def _pose(drawn: DrawnThing, dice: Dice, spread: float) -> DrawnThing:
    tilt = THINGS[drawn.name].tilt
    pose = {
        "turn": dice.between(-tilt, tilt) * spread,
        "flip": dice.chance(0.5),
        "stretch": 1 + dice.between(-0.14, 0.1) * spread,
        "shear": dice.between(-0.18, 0.18) * spread,
        "taper": dice.between(-0.14, 0.14) * spread,
        "bend": dice.between(-0.12, 0.12) * spread,
    }
    return with_box(DrawnThing(**{**vars(drawn), **pose}))


def _sample_clutter(scene: Scene, things: list[DrawnThing], floor: float | None, dice: Dice) -> list[DrawnThing]:
    """Add up to two small things behind the others, of kinds that the caption does not name."""
    main = max(one.half for one in things)
    names = [name for name in THINGS if name not in (scene.thing, scene.second)]
    clutter = []
    for _ in range(dice.pick((0, 0, 0, 1, 1, 2))):
        half = min(dice.between(0.05, 0.09), 0.4 * main)
        one = _pose(_sample_thing(dice.pick(names), "clutter", None, None, half, dice, 1.0), dice, 1.0)
        one = fit([one], floor, dice)[0]
        if not any(_overlap(one, other) for other in things):
            clutter.append(one)
    return clutter


def _overlap(first: DrawnThing, second: DrawnThing) -> bool:
    left, top, right, bottom = first.box
    return left < second.box[2] and second.box[0] < right and top < second.box[3] and second.box[1] < bottom


def _sample_full_frame(scene: Scene, seed: int, dice: Dice, finish: dict) -> DrawnScene:
    frame = FULL_FRAMES[scene.thing]
    horizon = dice.between(0.4, 0.62)
    if frame.kind == "scene":
        return DrawnScene(scene, seed, (), frame.name, horizon, **finish)
    figure, ground = dice.pick(frame.paints[0]), dice.pick(frame.paints[1])
    if scene.colour:
        stated_figure = frame.paints[0][0] not in ("white", "cream", "navy", "chocolate")
        figure, ground = (scene.colour, ground) if stated_figure else (figure, scene.colour)
        if colour_word(figure) == colour_word(ground):
            other = "cream" if scene.colour in COLOUR_WORDS and scene.colour != "white" else "steel"
            figure, ground = (figure, other) if stated_figure else (other, ground)
    paints = (mix_paint(figure, dice), mix_paint(ground, dice))
    if frame.name == "wood grain":
        paints = (tuple(round(0.6 * channel) for channel in paints[1]), paints[1])
    colour = scene.colour or colour_word(figure)
    return DrawnScene(scene, seed, (), frame.name, horizon, paints, colour, **finish)
