from collections import Counter

import pytest

from synclr_hf.concepts.concept import Concept
from synclr_hf.concepts.mixture import RELATIONS, ConceptMixture

OWL = Concept("owl", "test", backgrounds=("forest", "barn"))
MUG = Concept("mug", "test")
HARBOR = Concept("harbor", "test", kind="scene", backgrounds=("dawn",))
COUNT = 8_000


def shares(concepts, what):
    mixture = ConceptMixture(concepts)
    counts = Counter(what(mixture.sample(seed)) for seed in range(COUNT))
    return {name: count / COUNT for name, count in counts.items()}


def test_an_object_takes_the_three_templates_in_their_shares():
    found = shares([OWL], lambda prompt: prompt.template)
    assert found == pytest.approx({"concept": 0.44, "relation": 0.11, "background": 0.45}, abs=0.02)


def test_without_backgrounds_the_other_two_keep_their_proportion():
    found = shares([MUG], lambda prompt: prompt.template)
    assert found == pytest.approx({"concept": 0.8, "relation": 0.2}, abs=0.02)
    assert shares([MUG], lambda prompt: prompt.without_list)[True] == pytest.approx(0.45, abs=0.02)
    assert shares([OWL], lambda prompt: prompt.without_list) == {False: 1.0}


@pytest.mark.parametrize("kind", ["scene", "texture"])
def test_scenes_and_textures_take_the_plain_one_only(kind):
    concept = Concept("harbor", "test", kind=kind, backgrounds=("dawn",))
    assert shares([concept], lambda prompt: (prompt.template, prompt.background)) == {("concept", None): 1.0}


def test_fields_belong_to_their_template():
    for seed in range(2000):
        prompt = ConceptMixture([OWL, MUG, HARBOR]).sample(seed)
        assert (prompt.background is not None) == (prompt.template == "background")
        assert (prompt.relation is not None) == (prompt.template == "relation")
        assert prompt.background is None or prompt.background in prompt.concept.backgrounds


def test_relations_and_backgrounds_are_drawn_evenly():
    relations = shares([OWL], lambda prompt: prompt.relation)
    assert set(relations) == {*RELATIONS, None} and len(RELATIONS) == 10
    assert all(relations[name] == pytest.approx(0.011, abs=0.005) for name in RELATIONS)
    assert shares([OWL], lambda prompt: prompt.background)["barn"] == pytest.approx(0.225, abs=0.02)


def test_concepts_follow_their_weights():
    rare = Concept("rare", "test", weight=0.5)
    found = shares([rare, Concept("common", "test", weight=4.5)], lambda prompt: prompt.concept.name)
    assert found == pytest.approx({"rare": 0.1, "common": 0.9}, abs=0.01)


def test_the_same_seed_gives_the_same_prompt():
    drawn = [ConceptMixture([OWL, MUG, HARBOR]).sample(seed) for seed in range(100)]
    assert drawn == [ConceptMixture([OWL, MUG, HARBOR]).sample(seed) for seed in range(100)]
    assert len(set(drawn)) > 10


def test_nothing_to_draw_from():
    with pytest.raises(ValueError, match="at least one concept"):
        ConceptMixture([])
