from __future__ import annotations

import re
from collections import Counter

import pytest

from synclr_hf.errors import UserInputError
from synclr_hf.toyworld.bank import load_bank
from synclr_hf.toyworld.language_model import ToyLanguageModel, read_prompt
from synclr_hf.toyworld.lexicon import RELATIONS
from synclr_hf.toyworld.palette import COLOUR_WORDS
from synclr_hf.toyworld.scene import parse_caption

CONCEPT = "dog => A brown dog runs to its basket.\nsofa => A green sofa with a blanket.\nhat => A hat on a hook.\n"
BACKGROUND = "dog, park => A brown dog runs in a park.\nsofa, attic => An old sofa in an attic.\n"
RELATION = "dog, next to => A dog next to a sofa.\nhat, on => A hat on a dog.\n"
LOWER = "dog => the dog runs\nhat => a hat on a hook\n"


def complete(prompt, seed=0, temperature=0.8, stop=("\n",), max_new_tokens=100, top_p=0.9):
    settings = {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens, "stop": stop}
    return ToyLanguageModel().complete([prompt], seeds=[seed], **settings)[0]


def test_the_same_prompt_and_seed_give_the_same_text_in_any_batch():
    prompts = [CONCEPT + f"{concept.name} =>" for concept in load_bank()]
    settings = {"temperature": 0.8, "top_p": 0.9, "max_new_tokens": 100, "stop": ("\n",)}
    together = ToyLanguageModel().complete(prompts, seeds=range(len(prompts)), **settings)
    assert together == [complete(prompt, seed) for seed, prompt in enumerate(prompts)]


def test_captions_are_varied():
    captions = {complete(CONCEPT + "mushroom =>", seed) for seed in range(1000)}
    assert len(captions) > 700
    coloured = sum(any(re.search(rf"\b{word}\b", text) for word in COLOUR_WORDS) for text in captions)
    assert 0.15 < coloured / len(captions) < 0.4


def test_every_concept_is_named_in_its_captions_and_read_back():
    for number, concept in enumerate(load_bank()):
        for seed in range(5):
            assert parse_caption(complete(CONCEPT + f"{concept.name} =>", 100 * number + seed)).thing == concept.name


def test_the_background_of_the_query_is_in_the_caption():
    for seed, concept in enumerate(load_bank()):
        for background in concept.backgrounds:
            caption = complete(BACKGROUND + f"{concept.name}, {background} =>", seed)
            assert parse_caption(caption).background == background


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_relation_of_the_query_is_in_the_caption(relation):
    for seed in range(25):
        caption = complete(RELATION + f"owl, {relation} =>", seed)
        scene = parse_caption(caption)
        assert relation in caption.lower()
        assert (scene.thing, scene.relation) == ("owl", relation)
        assert scene.second not in (None, "owl")


def test_the_style_of_the_examples_is_taken_over():
    for seed in range(20):
        assert re.fullmatch(r" [A-Z].*\.", complete(CONCEPT + "mug =>", seed))
        assert re.fullmatch(r" [a-z].*[^.]", complete(LOWER + "mug =>", seed))


def test_a_base_model_goes_on_after_the_line_unless_it_is_stopped():
    text = complete(CONCEPT + "mug =>", stop=())
    first, second, *_ = text.split("\n")
    assert first == complete(CONCEPT + "mug =>")
    assert "=>" in second and "," not in second.split("=>")[0]
    assert ", " in complete(BACKGROUND + "mug, beach =>", stop=()).split("\n")[1].split("=>")[0]
    assert complete(CONCEPT + "mug =>", stop=("\n", " mug")) == text[: text.index(" mug")]


def test_the_length_is_cut_by_words():
    assert len(complete(CONCEPT + "mug =>", stop=(), max_new_tokens=3).split()) == 3
    assert complete(CONCEPT + "mug =>", max_new_tokens=0) == ""


def test_temperature_zero_is_greedy_and_high_temperature_draws_wider():
    assert len({complete(CONCEPT + "mug =>", seed, temperature=0) for seed in range(20)}) == 1
    cold = {complete(CONCEPT + "mug =>", seed, temperature=0.3) for seed in range(300)}
    hot = {complete(CONCEPT + "mug =>", seed, temperature=2.0, top_p=1.0) for seed in range(300)}
    assert len(cold) < len(hot)


def test_a_prompt_without_examples_is_read_by_its_query_alone():
    assert read_prompt("an owl, behind =>")[:2] == (read_prompt("owl, behind =>")[0], "relation")
    assert read_prompt("owl, the woods =>")[0].background == "forest"


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "is no query"),
        ("mushroom", "is no query"),
        ("=>", "is no query"),
        (CONCEPT + "mushroom => A red", "is no query"),
        (CONCEPT + "mushrom =>", "nearest names: mushroom"),
        (CONCEPT + "\x00\xff =>", "does not know the concept"),
        (CONCEPT + "mushroom, forest =>", "2 field"),
        (BACKGROUND + "mushroom =>", "1 field"),
        (BACKGROUND + "mushroom, airport =>", "unknown background 'airport'"),
        (RELATION + "mushroom, near by =>", "unknown relation 'near by'"),
        (BACKGROUND + "volcano, forest =>", "without background or relation"),
    ],
)
def test_unreadable_prompts_get_one_line(prompt, message):
    with pytest.raises(UserInputError, match=re.escape(message)) as caught:
        complete(prompt)
    assert "\n" not in str(caught.value)


def test_impossible_settings_get_one_line():
    with pytest.raises(UserInputError, match="type --temperature 0.8"):
        complete(CONCEPT + "mug =>", temperature=-1)
    with pytest.raises(UserInputError, match="1 prompts came with 0 seeds"):
        ToyLanguageModel().complete(["mug =>"], seeds=[])


def test_what_a_caption_says_is_what_is_read():
    numbers = {"two": 2, "pair": 2, "couple": 2, "three": 3, "trio": 3, "four": 4}
    textures = {
        "striped": "striped",
        "spotted": "dotted",
        "checked": "checkered",
        "knitted": "woolly",
        "shiny": "shiny",
    }
    sizes = {"tiny": "tiny", "little": "small", "big": "large", "giant": "huge", "enormous": "huge"}
    found = Counter()
    for seed in range(600):
        caption = complete(CONCEPT + "penguin =>", seed, temperature=1.5)
        words, scene = set(re.findall("[a-z]+", caption.lower())), parse_caption(caption)
        for kind, table in (("count", numbers), ("texture", textures), ("size", sizes)):
            for word in words & set(table):
                found[word] += 1
                assert getattr(scene, kind) == table[word], caption
        assert (scene.colour in words) if scene.colour else not words & set(COLOUR_WORDS) - {"blue", "green"}, caption
        assert scene.count in (1, 2, 3, 4) and scene.second is None, caption
    assert set(found) == {*numbers, *textures, *sizes}
