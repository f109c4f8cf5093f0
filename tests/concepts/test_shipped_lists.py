"""The lists that ship: how many names, how they were cleaned, and the mixture of the paper's Table 11."""

import pickle
import re
import time
from collections import Counter

import pytest

from synclr_hf.concepts.backgrounds import BACKGROUND_DOMAINS, shared_backgrounds
from synclr_hf.concepts.banks import CONCEPT_BANKS, LISTS, load_bank, load_concepts
from synclr_hf.concepts.mixture import ConceptMixture

COUNTS = {
    "imagenet1k": 1000,
    "imagenet21k": 10_140,
    "aircraft": 100,
    "caltech101": 101,
    "cars": 196,
    "dtd": 47,
    "flowers": 102,
    "food101": 101,
    "pets": 37,
    "places365": 351,
    "sun397": 376,
}
KINDS = {"dtd": "texture", "places365": "scene", "sun397": "scene"}
DOMAINS = {"aircraft": "aircraft", "cars": "car", "flowers": "flower", "food101": "food"}
TABLE_11 = {
    ("imagenet1k",): 0.47,
    ("aircraft",): 0.05,
    ("cars",): 0.05,
    ("food101",): 0.05,
    ("flowers",): 0.03,
    ("places365", "sun397"): 0.09,
    ("imagenet21k", "caltech101", "dtd", "pets"): 0.26,
}


def names(bank):
    return [concept.name for concept in load_concepts(bank)]


def test_every_list_is_registered_and_counted():
    files = {path.stem for path in LISTS.glob("*.csv")}
    assert files == set(COUNTS) == set(CONCEPT_BANKS) - {"toyworld", "synclr"}


@pytest.mark.parametrize("bank", COUNTS)
def test_a_list_holds_clean_names(bank):
    loaded = load_bank(bank)
    assert len(loaded.concepts) == COUNTS[bank] and loaded.dropped == {}
    assert {concept.source for concept in loaded.concepts} == {bank}
    assert {concept.kind for concept in loaded.concepts} == {KINDS.get(bank, "object")}
    assert {concept.weight for concept in loaded.concepts} == {1.0}
    for name in names(bank):
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 '.&/-]*", name) and len(name) <= 60, name
        assert name == " ".join(name.split()), name


@pytest.mark.parametrize("bank", COUNTS)
def test_a_list_says_where_it_comes_from(bank):
    lines = (LISTS / f"{bank}.csv").read_text(encoding="utf-8").splitlines()
    head = [line for line in lines if line.startswith("# ")]
    text = " ".join(line[2:] for line in head)
    assert lines[len(head)] == "name,kind,domain"
    assert "Names: " in text and f"{COUNTS[bank]:,}" in text and ("leaned: " in text or "nothing to clean" in text)


@pytest.mark.parametrize(("bank", "domain"), DOMAINS.items())
def test_fine_grained_banks_share_one_list_of_places(bank, domain):
    assert {concept.backgrounds for concept in load_concepts(bank)} == {shared_backgrounds(domain)}


def test_cars_and_aircraft_say_what_they_are():
    assert all(name.endswith(" car") for name in names("cars"))
    assert all(name.endswith(" aircraft") for name in names("aircraft"))
    assert {"Boeing 737-200 aircraft", "Supermarine Spitfire aircraft"} <= set(names("aircraft"))
    assert "Audi S4 Sedan 2007 car" in names("cars")


@pytest.mark.parametrize("bank", ["sun397", "places365"])
def test_scene_names_are_cleaned(bank):
    found = names(bank)
    words = Counter(word for name in found for word in name.split())
    assert not words.keys() & {"indoor", "outdoor", "exterior"}
    assert {"baseball stadium", "carousel", "child's room", "oil rig", "wheat field", "greenhouse"} <= set(found)
    assert not any("/" in name for name in found)


def test_cats_and_dogs():
    pets = {concept.name: concept.backgrounds for concept in load_concepts("pets")}
    cats = [name for name in pets if name.endswith(" cat")]
    assert len(cats) == 12 and all(pets[name] == shared_backgrounds("cat") for name in cats)
    assert all(pets[name] == shared_backgrounds("dog") for name in set(pets) - set(cats))
    assert {"Persian cat", "Boxer dog", "Newfoundland dog", "German Shorthaired Pointer"} <= set(pets)


def test_things_of_one_name_are_told_apart():
    found = set(names("imagenet1k"))
    pairs = ["crane bird", "construction crane", "cricket insect", "kite bird", "Boxer dog", "computer mouse"]
    assert set(pairs) <= found
    assert not found & {"crane", "mouse", "kite", "boxer", "missiles"}
    assert {"missile", "rocket projectile", "sunglasses", "sunglass lenses"} <= found
    wide = set(names("imagenet21k"))
    assert {"drinking glass", "cosmos flower", "print fabric", "crane bird"} <= wide and "glass" not in wide


def test_the_wide_bank_holds_the_narrow_one_under_the_same_names():
    assert len(set(names("imagenet1k")) & set(names("imagenet21k"))) == 993


@pytest.mark.parametrize(("bank", "count"), [("imagenet1k", 750), ("imagenet21k", 6173), ("caltech101", 71)])
def test_concepts_with_places(bank, count):
    concepts = load_concepts(bank)
    assert sum(bool(concept.backgrounds) for concept in concepts) == count
    known = {shared_backgrounds(domain) for domain in BACKGROUND_DOMAINS}
    assert {concept.backgrounds for concept in concepts} <= known | {()}


def test_no_concept_stands_before_itself():
    for concept in load_concepts("synclr"):
        assert concept.name.casefold() not in {place.casefold() for place in concept.backgrounds}, concept


@pytest.mark.parametrize(
    ("name", "domain"),
    [("tench", "fish"), ("goldfinch", "bird"), ("beagle", "dog"), ("lion", "mammal"), ("newt", "amphibian")]
    + [
        ("jellyfish", "marine"),
        ("dugong", "marine"),
        ("hen", "livestock"),
        ("loggerhead sea turtle", "marine"),
        ("convertible", "car"),
    ]
    + [("bee", "insect"), ("school bus", "vehicle"), ("aircraft carrier", "boat"), ("violin", "musical_instrument")]
    + [("pizza", "food"), ("bolete mushroom", "fungus"), ("desk", "furniture"), ("wok", "kitchenware")],
)
def test_some_places(name, domain):
    (concept,) = (concept for concept in load_concepts("imagenet1k") if concept.name == name)
    assert concept.backgrounds == shared_backgrounds(domain)


def test_no_place_is_better_than_a_wrong_one():
    without = {concept.name for concept in load_concepts("imagenet1k") if not concept.backgrounds}
    assert without >= {"construction crane", "hot tub", "vending machine", "yurt", "snail", "missile", "polar bear"}
    for domain, wrong in {"fish": "plate", "marine": "pond", "amphibian": "desert", "tool": "belt"}.items():
        assert not [place for place in shared_backgrounds(domain) if wrong in place]


def test_what_no_picture_shows_and_what_offends_is_left_out():
    found = {name.casefold() for name in names("imagenet21k")}
    words = {word for name in found for word in name.split()}
    assert not found & {"voice mail", "memory cache", "caller id", "ethernet", "oocyte", "complexion", "purplish blue"}
    assert not words & {"squaw", "jewfish", "hottentot", "gypsy", "cadaver", "tampax", "bosom", "lorry", "grey"}
    assert {"long-tailed duck", "goliath grouper", "jelly ear fungus", "spongy moth", "shipwreck", "sherbet"} <= found
    assert [name for name in found if "hang glider" in name] == ["hang glider"]


@pytest.mark.parametrize("word", ["grey", "colour", "harbour", "pavement", "motorway", "chequered", "final approach"])
def test_lists_and_examples_have_one_spelling(word):
    package = LISTS.parent.parent
    texts = [*LISTS.glob("*.csv"), *LISTS.parent.glob("backgrounds/*.txt"), *package.glob("captions/examples/*.txt")]
    lines = [line for path in texts for line in path.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    assert not [line for line in lines if re.search(rf"\b{word}\b", line)]


def test_the_default_mixture_has_the_shares_of_table_11():
    concepts = load_concepts("synclr")
    assert len(concepts) == sum(COUNTS.values())
    weights = Counter()
    for concept in concepts:
        weights[concept.source] += concept.weight
    for banks, share in TABLE_11.items():
        assert sum(weights[bank] for bank in banks) == pytest.approx(share, abs=1e-9), banks
    assert weights.total() == pytest.approx(1.0)
    # within a component every concept weighs the same
    assert weights["sun397"] / weights["places365"] == pytest.approx(376 / 351)


def test_draws_follow_table_11():
    mixture = ConceptMixture(load_concepts("synclr"))
    draws = 20_000
    drawn = Counter(mixture.sample(seed).concept.source for seed in range(draws))
    for banks, share in TABLE_11.items():
        found = sum(drawn[bank] for bank in banks) / draws
        assert abs(found - share) < 4 * (share * (1 - share) / draws) ** 0.5, banks


def test_loading_is_fast_and_what_is_loaded_travels_light():
    started = time.process_time()
    concepts = load_concepts("synclr")
    assert time.process_time() - started < 1  # 0.08 s alone on a machine
    sent = pickle.dumps(concepts)
    assert len(sent) < 2**20 and pickle.loads(sent) == concepts
