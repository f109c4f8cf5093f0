from itertools import chain

import pytest

from synclr_hf.captions.filters import first_reason, normalized
from synclr_hf.captions.templates import NUM_EXAMPLES, build_prompt, load_examples
from synclr_hf.concepts.concept import Concept
from synclr_hf.concepts.mixture import RELATIONS, ConceptPrompt

OWL = Concept("barn owl", "test", backgrounds=("old barn",))
POOLS = {"concept": 24, "background": 16, "relation": 12}


@pytest.mark.parametrize(("template", "size"), POOLS.items())
def test_the_pools_are_large_enough_and_hold_no_line_twice(template, size):
    pool = load_examples(template)
    assert len(pool) >= size
    assert len({normalized(example.caption) for example in pool}) == len(pool)


@pytest.mark.parametrize(("template", "fields"), [("concept", 1), ("background", 2), ("relation", 2)])
def test_the_examples_have_the_fields_of_their_template(template, fields):
    assert all(len(example.query.split(", ")) == fields for example in load_examples(template))


def test_every_relation_has_an_example_that_uses_it():
    pool = [(example.query.split(", ")[1], example.caption) for example in load_examples("relation")]
    assert {relation for relation, _ in pool} == set(RELATIONS)
    assert all(f" {relation} " in caption for relation, caption in pool)


@pytest.mark.parametrize("template", POOLS)
def test_every_example_is_a_caption_that_the_filters_keep(template):
    prompt = build_prompt(ConceptPrompt(OWL, "concept"), seed=0)
    for example in load_examples(template):
        concept = example.query.split(", ")[0]
        others = [other.caption for other in prompt.examples]
        if example.caption not in others:
            assert first_reason(example.caption, prompt, concept, set()) is None, example
        assert example.caption[0].isupper() and example.caption.endswith(".")


@pytest.mark.parametrize(
    ("wanted", "query"),
    [
        (ConceptPrompt(OWL, "concept"), "barn owl"),
        (ConceptPrompt(OWL, "background", background="old barn"), "barn owl, old barn"),
        (ConceptPrompt(OWL, "relation", relation="in front of"), "barn owl, in front of"),
    ],
)
def test_three_examples_then_the_query(wanted, query):
    prompt = build_prompt(wanted, seed=3)
    lines = prompt.text.split("\n")
    assert lines[-1] == f"{query} =>" and prompt.query == query
    assert lines[:-1] == [f"{example.query} => {example.caption}" for example in prompt.examples]
    assert len(set(lines[:-1])) == NUM_EXAMPLES == 3
    assert set(prompt.examples) <= set(load_examples(wanted.template)), "one prompt uses one template"


def test_the_seed_draws_the_examples():
    wanted = ConceptPrompt(OWL, "concept")
    drawn = [build_prompt(wanted, seed) for seed in range(200)]
    assert drawn == [build_prompt(wanted, seed) for seed in range(200)]
    used = set(chain.from_iterable(prompt.examples for prompt in drawn))
    assert used == set(load_examples("concept"))


def test_an_unknown_template():
    with pytest.raises(ValueError, match="template is 'poem', not one of concept, relation, background"):
        load_examples("poem")
