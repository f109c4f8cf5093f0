from collections import Counter

import pytest

from synclr_hf.captions.templates import load_pools, shipped_examples
from synclr_hf.errors import UserInputError
from synclr_hf.toyworld.backgrounds import BACKGROUNDS
from synclr_hf.toyworld.bank import load_bank
from synclr_hf.toyworld.language_model import ToyLanguageModel
from synclr_hf.toyworld.place_lists import asks_for_places, is_list

LISTS = "heron => reed bed, lake shore, weir, wet meadow.\nviolin => stage, armchair, open case, shop window.\n"
SETTINGS = {"temperature": 0.8, "top_p": 0.9, "max_new_tokens": 100}


def complete(prompt, seed=0, stop=("\n",)):
    return ToyLanguageModel().complete([prompt], seeds=[seed], stop=stop, **SETTINGS)[0]


def places(text):
    assert text.startswith(" ") and text.endswith("."), text
    return text.strip().removesuffix(".").split(", ")


def test_lists_are_told_from_captions():
    assert all(is_list(example.caption) for example in shipped_examples("places"))
    captions = [example.caption for pool in load_pools().values() for example in pool]
    assert not any(is_list(caption) for caption in captions)
    assert asks_for_places(["a, b, c, d.", "A red fox, asleep."] + ["w, x, y, z"])
    assert not asks_for_places(["a, b, c, d.", "A red fox, asleep."]) and not asks_for_places([])


def test_a_list_names_the_places_of_the_thing_each_once_and_now_and_then_another():
    for concept in load_bank():
        if concept.kind != "object":
            continue
        found = Counter()
        for seed in range(40):
            listed = places(complete(LISTS + f"{concept.name} =>", seed))
            assert len(set(listed)) == len(listed) <= len(concept.backgrounds) + 1
            found.update(listed)
        assert set(concept.backgrounds) <= set(found) <= set(BACKGROUNDS)
        assert sum(found[place] for place in concept.backgrounds) > 0.75 * found.total()


def test_the_same_prompt_and_seed_give_the_same_list_and_another_seed_another():
    lists = [complete(LISTS + "owl =>", seed) for seed in range(30)]
    assert lists == [complete(LISTS + "owl =>", seed) for seed in range(30)]
    assert len(set(lists)) > 10


def test_the_model_goes_on_with_lists_of_other_things_in_the_style_of_the_examples():
    first, second, third = complete(LISTS + "owl =>", stop=()).split("\n")
    assert first == complete(LISTS + "owl =>")
    assert all(is_list(line.partition("=>")[2]) for line in (second, third))
    assert not complete(LISTS.replace(".", "") + "owl =>").endswith(".")


def test_scenes_have_no_list_of_places():
    with pytest.raises(UserInputError, match="lists places for things only, not for the scene 'volcano'; type 'heart"):
        complete(LISTS + "volcano =>")
