"""What a caption states, checked against the pixels."""

from __future__ import annotations

import colorsys
from collections import deque
from dataclasses import replace

import numpy as np
import pytest

from synclr_hf.toyworld.backgrounds import BACKGROUNDS
from synclr_hf.toyworld.image_generator import ToyImageGenerator
from synclr_hf.toyworld.lexicon import SIZES
from synclr_hf.toyworld.palette import COLOUR_WORDS, PALETTE
from synclr_hf.toyworld.renderer import render
from synclr_hf.toyworld.things import THINGS

GENERATOR = ToyImageGenerator()
SIZE = 128


def draw(caption, seed, size=SIZE):
    picture, drawn, labels = GENERATOR.draw_with_layers(caption, seed, size)
    return np.asarray(picture), drawn, labels


def label_of(drawn, part):
    return next(number for number, one in enumerate(drawn.things, start=1) if one.part == part)


def share_of_colour(pixels, colour):
    """Share of the pixels (n, 3) that a person would call by the colour word."""
    values = pixels.astype(np.float64) / 255
    high, low = values.max(axis=1), values.min(axis=1)
    saturation = (high - low) / np.maximum(high, 1e-6)
    if colour in ("white", "grey", "black"):
        least, most = {"white": (0.45, 1.01), "grey": (0.18, 0.88), "black": (0.0, 0.45)}[colour]
        return float(((saturation < 0.4) & (high >= least) & (high <= most)).mean())
    hues = np.array([colorsys.rgb_to_hsv(*value)[0] for value in values]) * 360
    wanted = colorsys.rgb_to_hsv(*(channel / 255 for channel in PALETTE[colour][0]))[0] * 360
    away = np.abs((hues - wanted + 180) % 360 - 180)
    return float(((away < 25) & (saturation > 0.15)).mean())


def blobs(mask):
    """Number of connected pieces (4 neighbours) that are larger than a tenth of the largest."""
    left, sizes = mask.copy(), []
    for start in zip(*np.nonzero(mask), strict=True):
        if not left[start]:
            continue
        queue, count = deque([start]), 0
        left[start] = False
        while queue:
            y, x = queue.popleft()
            count += 1
            for ny, nx in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= ny < mask.shape[0] and 0 <= nx < mask.shape[1] and left[ny, nx]:
                    left[ny, nx] = False
                    queue.append((ny, nx))
        sizes.append(count)
    return sum(size > max(sizes) / 10 for size in sizes)


def test_a_stated_colour_is_the_colour_of_the_thing():
    shares = []
    for number, name in enumerate(THINGS):
        for turn in range(3):
            colour = COLOUR_WORDS[(number + 4 * turn) % len(COLOUR_WORDS)]
            pixels, drawn, labels = draw(f"a {colour} {name}", 10 * number + turn, 96)
            shares.append(share_of_colour(pixels[labels == label_of(drawn, "main")], colour))
            assert shares[-1] > 0.2, (name, colour)
    assert np.mean(shares) > 0.55


@pytest.mark.parametrize("colour", COLOUR_WORDS[:8])
def test_the_nearest_colour_word_is_the_stated_one(colour):
    def hue(rgb):
        return colorsys.rgb_to_hsv(*(channel / 255 for channel in rgb))[0] * 360

    for seed in range(8):
        pixels, drawn, labels = draw(f"a {colour} heart", seed)
        seen = hue(np.median(pixels[labels == label_of(drawn, "main")], axis=0))
        away = {word: abs((seen - hue(PALETTE[word][0]) + 180) % 360 - 180) for word in COLOUR_WORDS[:8]}
        assert min(away, key=away.get) == colour, (seed, drawn.light)


@pytest.mark.parametrize("colour", ["red", "green", "blue", "purple"])
def test_a_stated_colour_of_a_texture_is_seen(colour):
    for name in ("polka dots", "stripes", "checkerboard", "bricks", "wood grain"):
        pixels, drawn, _ = draw(f"{colour} {name}", 5)
        assert drawn.colour == colour
        assert share_of_colour(pixels.reshape(-1, 3), colour) > 0.25, name


def test_the_label_map_tells_where_the_pixels_come_from():
    for number, name in enumerate(THINGS):
        _, drawn, labels = draw(f"a {name}", number, 96)
        drawn = replace(drawn, blur=0.0)
        main = label_of(drawn, "main")
        rest = tuple(one for one in drawn.things if one.part != "main")
        full, without = (
            np.asarray(render(scene, 96)[0]).astype(int) for scene in (drawn, replace(drawn, things=rest))
        )
        changed = np.abs(full - without).max(axis=2)
        assert (changed[labels == main] > 6).mean() > 0.8, name
        left, top, right, bottom = (edge * 96 for edge in drawn.things[main - 1].box)
        ys, xs = np.nonzero(labels == main)
        assert abs(xs.min() - left) < 3 and abs(xs.max() + 1 - right) < 3, name
        assert abs(ys.min() - top) < 3 and abs(ys.max() + 1 - bottom) < 3, name


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_counted_things_can_be_counted(count):
    word = {1: "one", 2: "two", 3: "three", 4: "four"}[count]
    for seed, name in enumerate(("apple", "mug", "star", "duck", "house", "cube")):
        _, drawn, labels = draw(f"{word} {name if count == 1 else THINGS[name].plural}", seed, 160)
        mains = [number for number, one in enumerate(drawn.things, start=1) if one.part == "main"]
        assert len(mains) == count
        seen = np.isin(labels, mains)
        assert blobs(seen) == count, (name, seed)


@pytest.mark.parametrize("size", SIZES)
def test_a_stated_size_is_seen(size):
    low, high = SIZES[size]
    for seed, name in enumerate(("heart", "apple", "owl", "cube", "ball", "strawberry")):
        _, drawn, labels = draw(f"a {size} {name}", seed)
        ys, xs = np.nonzero(labels == label_of(drawn, "main"))
        side = max(np.ptp(xs), np.ptp(ys)) / SIZE
        assert 0.75 * low < side < 1.3 * high, (name, side)


def centres(relation, seed):
    _, drawn, labels = draw(f"an owl {relation} a rock", seed)
    boxes = []
    for part in ("main", "second"):
        ys, xs = np.nonzero(labels == label_of(drawn, part))
        boxes.append((xs.min() / SIZE, ys.min() / SIZE, (xs.max() + 1) / SIZE, (ys.max() + 1) / SIZE, len(xs)))
    return *boxes, drawn


@pytest.mark.parametrize("relation", ["over", "above", "on", "under", "below"])
def test_what_is_above_is_above(relation):
    for seed in range(12):
        owl, rock, _ = centres(relation, seed)
        upper, lower = (owl, rock) if relation in ("over", "above", "on") else (rock, owl)
        gap = lower[1] - upper[3]
        assert abs((upper[0] + upper[2]) - (lower[0] + lower[2])) / 2 < max(owl[2] - owl[0], rock[2] - rock[0]) / 2
        assert (-0.06 < gap < 0.02) if relation == "on" else (0.0 < gap < 0.12)


@pytest.mark.parametrize("relation", ["next to", "besides"])
def test_what_is_beside_is_beside(relation):
    sides = set()
    for seed in range(12):
        owl, rock, _ = centres(relation, seed)
        left, right = (owl, rock) if owl[0] < rock[0] else (rock, owl)
        assert -0.01 < right[0] - left[2] < 0.12
        assert abs(owl[3] - rock[3]) < 0.06
        sides.add(left is owl)
    assert len(sides) == 2


@pytest.mark.parametrize(("relation", "hidden"), [("behind", "main"), ("in front of", "second"), ("in", "main")])
def test_what_is_in_front_covers_what_is_behind(relation, hidden):
    for seed in range(12):
        _, _, drawn = centres(relation, seed)
        _, _, both = draw(f"an owl {relation} a rock", seed)
        alone = replace(drawn, things=tuple(one for one in drawn.things if one.part == hidden))
        alpha = render(alone, SIZE)[1][0].alpha
        seen, whole = (both == label_of(drawn, hidden)).sum(), (alpha > 0.5).sum()
        assert seen < 0.99 * whole
        assert seen > 0.4 * whole


def test_every_concept_draws_in_every_background_and_places_look_different():
    for number, name in enumerate(THINGS):
        for background, place in BACKGROUNDS.items():
            picture, drawn = GENERATOR.draw(f"a {name} {place.phrases[number % len(place.phrases)]}", number, 32)
            assert drawn.background == background
            assert np.asarray(picture).std() > 8
    means = {}
    for background, place in BACKGROUNDS.items():
        pictures = [GENERATOR.draw(f"a tiny key {place.phrases[0]} in bright light", seed, 32)[0] for seed in range(8)]
        means[background] = np.mean([np.asarray(picture, dtype=float) for picture in pictures], axis=0)
    names = list(means)
    for first in range(len(names)):
        for second in range(first):
            assert np.abs(means[names[first]] - means[names[second]]).mean() > 6, (names[first], names[second])


def test_a_stated_texture_changes_the_surface_of_the_thing():
    for texture in ("striped", "dotted", "checkered", "zigzag", "wooden", "woolly", "speckled"):
        for name in ("apple", "heart", "mug"):
            _, drawn = GENERATOR.draw(f"a blue {texture} {name}", 2, SIZE)
            drawn = replace(drawn, blur=0.0, noise=0.0)
            plain = tuple(replace(one, texture="smooth") if one.part == "main" else one for one in drawn.things)
            first, second = (
                np.asarray(render(scene, SIZE)[0]).astype(int) for scene in (drawn, replace(drawn, things=plain))
            )
            main = next(one for one in drawn.things if one.part == "main")
            left, top, right, bottom = (round(edge * SIZE) for edge in main.box)
            changed = np.abs(first - second)[top:bottom, left:right].max(axis=2)
            assert (changed > 12).mean() > 0.05, (texture, name)
            changed = np.abs(first - second)
            changed[top - 2 : bottom + 2, left - 2 : right + 2] = 0
            assert changed.max() == 0


def test_light_is_as_stated():
    def mean(light):
        pictures = [GENERATOR.draw(f"a house in a meadow in {light} light", seed, 32)[0] for seed in range(10)]
        return np.mean([np.asarray(picture, dtype=float).mean(axis=(0, 1)) for picture in pictures], axis=0)

    warm, cool, bright, dim = (mean(light) for light in ("warm", "cool", "bright", "dim"))
    assert warm[0] - warm[2] > cool[0] - cool[2] + 10
    assert bright.mean() > dim.mean() + 25
