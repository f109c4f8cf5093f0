import pickle
import re
from collections import Counter
from itertools import chain

import pytest

from synclr_hf.captions.filters import CaptionFilters, lacks_concept
from synclr_hf.captions.templates import (
    NUM_EXAMPLES,
    POOLS,
    Example,
    build_prompt,
    draw_examples,
    load_examples,
    load_pools,
    pools_fingerprint,
)
from synclr_hf.captions.words import normalized
from synclr_hf.concepts.concept import Concept
from synclr_hf.concepts.mixture import RELATIONS, ConceptPrompt
from synclr_hf.errors import UserInputError

OWL = Concept("barn owl", "test", backgrounds=("old barn",))
COVE = Concept("sea cove", "test", "scene")
PLAID = Concept("plaid", "test", "texture")
SIZES = {"concept": 52, "scene": 33, "texture": 21, "background": 50, "relation": 20}
"""The paper's 106 + 50 + 20; its 106 hold objects, scenes and textures."""


def test_there_are_as_many_examples_as_the_paper_used():
    assert set(POOLS) == set(SIZES)
    assert {pool: len(examples) for pool, examples in load_pools().items()} == SIZES
    assert sum(SIZES[pool] for pool in ("concept", "scene", "texture")) == 106


def test_no_two_examples_are_alike():
    examples = [*chain.from_iterable(load_pools().values())]
    assert len({normalized(example.caption) for example in examples}) == len(examples)
    words = {example: set(normalized(example.caption).split()) for example in examples}
    for example in examples:
        for other in examples:
            shared = len(words[example] & words[other]) / len(words[example] | words[other])
            assert example is other or shared < 0.5, (example, other)


@pytest.mark.parametrize("pool", POOLS)
def test_every_subject_comes_once(pool):
    subjects = Counter(example.query.split(", ")[0] for example in load_examples(pool))
    assert subjects.most_common(1)[0][1] == 1


@pytest.mark.parametrize("pool", POOLS)
def test_every_example_is_one_plain_sentence_that_the_filters_keep(pool):
    prompt = build_prompt(ConceptPrompt(OWL, "concept"), seed=0)
    for example in load_examples(pool):
        concept, *second = example.query.split(", ")
        assert example.caption == " ".join(example.caption.split())
        assert re.fullmatch(r"[A-Z][A-Za-z ,'-]+\.", example.caption), example
        assert 8 <= len(example.caption.split()) <= 25, example
        assert lacks_concept(example.caption, concept) is None, example
        reason = CaptionFilters().first_reason(example.caption, prompt, concept, set())
        assert example in prompt.examples or reason is None, example
        assert len(second) == (pool in ("background", "relation")), example


@pytest.mark.parametrize("pool", POOLS)
def test_more_than_half_of_the_examples_start_with_an_article(pool):
    examples = load_examples(pool)
    assert sum(example.caption.split()[0] in ("A", "An", "The") for example in examples) > len(examples) / 2


def test_the_place_of_a_background_example_is_in_its_sentence():
    for example in load_examples("background"):
        assert lacks_concept(example.caption, example.query.split(", ")[1]) is None, example


def test_every_relation_has_two_examples_that_use_it():
    pool = [(example.query.split(", ")[1], example.caption) for example in load_examples("relation")]
    assert Counter(relation for relation, _ in pool) == dict.fromkeys(RELATIONS, 2)
    # the paper's "besides" is "beside" in English
    assert all(f" {'beside' if relation == 'besides' else relation} " in caption for relation, caption in pool)


@pytest.mark.parametrize(
    ("wanted", "query", "pool"),
    [
        (ConceptPrompt(OWL, "concept"), "barn owl", "concept"),
        (ConceptPrompt(COVE, "concept"), "sea cove", "scene"),
        (ConceptPrompt(PLAID, "concept"), "plaid", "texture"),
        (ConceptPrompt(OWL, "background", background="old barn"), "barn owl, old barn", "background"),
        (ConceptPrompt(OWL, "relation", relation="in front of"), "barn owl, in front of", "relation"),
    ],
)
def test_three_examples_then_the_query(wanted, query, pool):
    prompt = build_prompt(wanted, seed=3)
    lines = prompt.text.split("\n")
    assert lines[-1] == f"{query} =>" and prompt.query == query
    assert lines[:-1] == [f"{example.query} => {example.caption}" for example in prompt.examples]
    assert len(set(lines[:-1])) == NUM_EXAMPLES == 3
    assert set(prompt.examples) <= set(load_examples(pool)), "one prompt uses one pool"


def test_the_seed_draws_the_examples():
    wanted = ConceptPrompt(OWL, "concept")
    drawn = [build_prompt(wanted, seed) for seed in range(300)]
    assert drawn == [build_prompt(wanted, seed) for seed in range(300)]
    used = set(chain.from_iterable(prompt.examples for prompt in drawn))
    assert used == set(load_examples("concept"))
    assert len({prompt.examples for prompt in drawn}) > 290


@pytest.mark.parametrize("size", [3, 4, 20])
def test_every_choice_of_three_is_as_likely(size):
    pool, draws = tuple(Example(str(number), "caption") for number in range(size)), 20_000
    drawn = [draw_examples(pool, seed << 40) for seed in range(draws)]
    assert all(len(set(three)) == 3 for three in drawn)
    for place in range(3):
        counts = Counter(three[place] for three in drawn)
        assert len(counts) == size
        assert all(abs(count / draws * size - 1) < 0.2 for count in counts.values()), counts
    pairs = Counter(frozenset(three[:2]) for three in drawn)
    assert len(pairs) == size * (size - 1) // 2


def own(folder, **pools):
    for name, text in pools.items():
        (folder / f"{name}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


LINES = "# mine\n\nwren =>  A wren.\r\nrook=> A rook.\ntit => A tit.\nwren => A wren.\n"


def test_files_of_a_user_replace_those_that_ship_one_by_one(tmp_path):
    pools = load_pools(own(tmp_path, concept="\ufeff" + LINES))
    assert pools["concept"] == (Example("wren", "A wren."), Example("rook", "A rook."), Example("tit", "A tit."))
    assert {name: pool for name, pool in pools.items() if name != "concept"} == {
        name: pool for name, pool in load_pools().items() if name != "concept"
    }
    prompt = build_prompt(ConceptPrompt(OWL, "concept"), 0, pools)
    assert sorted(prompt.text.split("\n")) == ["barn owl =>", "rook => A rook.", "tit => A tit.", "wren => A wren."]
    assert pickle.loads(pickle.dumps(pools)) == pools
    assert pools_fingerprint(pools) != pools_fingerprint(load_pools()) == pools_fingerprint(load_pools(None))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "concept.txt' holds 0 different examples; needed: 3 or more lines 'query => caption'; add some, or"),
        ("a => A.\nb => B.\na => A.\n", "concept.txt' holds 2 different examples"),
        (LINES + "\nno arrow\n", "concept.txt' line 8: 'no arrow' is not 'query => caption'; write one example a"),
        (LINES + "=> A crow.\n", "concept.txt' line 7: '=> A crow.' is not"),
        (LINES + "crow =>\n", "concept.txt' line 7: 'crow =>' is not"),
        (LINES + "crow => a => b\n", "concept.txt' line 7: 'crow => a => b' is not"),
        (b"cr\xff\xfe", "concept.txt' is not UTF-8 text (line 1); save it as UTF-8"),
        (LINES + "cr\x1bow => A crow.\n", "concept.txt' line 7: the line holds the control character U+001B; take"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, text, said):
    with pytest.raises(UserInputError, match=re.escape(said)) as caught:
        load_pools(own(tmp_path, concept=text))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "scene.txt").mkdir()
    with pytest.raises(UserInputError, match=re.escape("scene.txt': it is a folder; type --examples FOLDER")):
        load_pools(tmp_path)


def test_a_folder_that_cannot_be_used(tmp_path):
    with pytest.raises(UserInputError, match="nowhere' does not exist; type a folder with files of the names concept"):
        load_pools(tmp_path / "nowhere")
    for name in ("x" * 5000, "a\0b", "~nobody_of_that_name"):
        with pytest.raises(UserInputError, match="does not exist; type a folder with files of the names concept.txt"):
            load_pools(name)
    with pytest.raises(UserInputError, match=r"holds no .txt file; type a folder with files of the names concept.txt"):
        load_pools(tmp_path)
    own(tmp_path, concepts=LINES)
    with pytest.raises(UserInputError, match=r"'concepts.txt' \(did you mean 'concept.txt'\?\); allowed: concept.txt"):
        load_pools(tmp_path)
    with pytest.raises(UserInputError, match="is not a folder"):
        load_pools(tmp_path / "concepts.txt")


def test_an_unknown_pool():
    with pytest.raises(ValueError, match="pool is 'poem', not one of concept, scene, texture, background, relation"):
        load_examples("poem")
