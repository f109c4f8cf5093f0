from __future__ import annotations

import pytest

from synclr_hf.errors import UserInputError
from synclr_hf.toyworld.bank import load_bank
from synclr_hf.toyworld.lexicon import RELATIONS, SIZES
from synclr_hf.toyworld.scene import Scene, parse_caption, sample
from synclr_hf.toyworld.things import THINGS


@pytest.mark.parametrize(
    ("caption", "scene"),
    [
        ("A mushroom.", Scene("mushroom", count=1)),
        ("mushroom", Scene("mushroom")),
        ("The old mushroom, weathered by time", Scene("mushroom")),
        ("mushrooms everywhere", Scene("mushroom", several=True)),
        ("A photo of mushrooms", Scene("mushroom", several=True)),
        ("A few mushrooms", Scene("mushroom", several=True)),
        ("A tiny, striped blue MUSHROOM!", Scene("mushroom", 1, colour="blue", texture="striped", size="tiny")),
        ("Three polka-dot mugs stand at the beach", Scene("mug", 3, texture="dotted", background="beach")),
        ("The mushroom is bright red and huge.", Scene("mushroom", colour="red", size="huge")),
        ("a mug with stripes", Scene("mug", 1, texture="striped")),
        ("An owl sits on top of a brown stool in the woods.",
         Scene("owl", 1, relation="on", second="stool", second_colour="brown", background="forest")),
        ("Behind a grey rock waits a golden key",
         Scene("key", 1, colour="yellow", relation="behind", second="rock", second_colour="grey")),
        ("In a meadow, a cat.", Scene("cat", 1, background="meadow")),
        ("a hot air balloon over the sea at dusk", Scene("hot-air balloon", 1, background="sea")),
        ("A cat in front of a red brick wall in golden light", Scene("cat", 1, background="brick wall", light="warm")),
        ("Two leaves float on the water", Scene("maple leaf", 2, background="sea")),
        ("red stripes", Scene("stripes", colour="red")),
        ("A distant mountain range in dim light", Scene("mountain range", light="dim")),
        ("an ice-cream cone beside a pine tree", Scene("ice cream", 1, relation="besides", second="pine tree")),
    ],
)  # fmt: skip
def test_sentences_are_read(caption, scene):
    assert parse_caption(caption) == scene


@pytest.mark.parametrize("caption", ["", "   ", "A dog runs.", "=> , , =>", "\x00\x01", "x" * 100_000, "日本語 🙂"])
def test_captions_without_a_known_thing_get_one_line(caption):
    with pytest.raises(UserInputError, match="nothing that the toy world can draw") as caught:
        parse_caption(caption)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_misspelt_thing_is_guessed():
    with pytest.raises(UserInputError, match="did you mean 'mushroom'"):
        parse_caption("A red mushrom.")


def test_sampling_keeps_everything_that_is_stated():
    for number, name in enumerate(THINGS):
        relation = RELATIONS[number % 10]
        second = "rock" if name != "rock" else "crate"
        scene = Scene(name, 1, False, "teal", "striped", None, relation, second, "red", "desert", "warm")
        drawn = sample(scene, number)
        main, other = ([one for one in drawn.things if one.part == part] for part in ("main", "second"))
        assert [(one.name, one.colour, one.texture) for one in main] == [(name, "teal", "striped")]
        assert [(one.name, one.colour) for one in other] == [(second, "red")]
        assert (drawn.background, drawn.light, drawn.stated) == ("desert", "warm", scene)


def test_what_is_left_free_varies_with_the_seed():
    drawn = [sample(Scene("mug", several=True), seed) for seed in range(100)]
    assert {sum(one.part == "main" for one in scene.things) for scene in drawn} == {2, 3, 4}
    drawn = [sample(Scene("mug"), seed) for seed in range(100)]
    mains = [next(one for one in scene.things if one.part == "main") for scene in drawn]
    assert len({one.colour for one in mains}) >= 3
    assert len({scene.background for scene in drawn}) >= 6
    assert len({scene.light for scene in drawn}) == 5
    widths = [2 * one.half for one in mains]
    assert min(widths) < 0.55 and max(widths) > 0.75
    assert sum(0.25 <= one.box[2] - one.box[0] <= 0.95 for one in mains) > 90


def test_everything_lies_in_the_picture_and_the_main_thing_is_the_largest():
    for number, concept in enumerate(one for one in load_bank() if one.kind == "object"):
        for count, size in ((1, None), (2, "tiny"), (4, "huge"), (6, None), (1, "huge")):
            drawn = sample(Scene(concept.name, count, size=size), number)
            mains = [one for one in drawn.things if one.part == "main"]
            assert len(mains) == count
            for one in drawn.things:
                assert one.box[0] >= 0 and one.box[1] >= 0 and one.box[2] <= 1 and one.box[3] <= 1
            others = [one.half for one in drawn.things if one.part != "main"]
            assert not others or min(one.half for one in mains) > 1.2 * max(others)


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_as_stated(size):
    low, high = SIZES[size]
    for number, name in enumerate(THINGS):
        main = next(one for one in sample(Scene(name, 1, size=size), number).things if one.part == "main")
        assert 0.8 * low <= 2 * main.half <= high
