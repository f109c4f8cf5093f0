import re

import pytest

from synclr_hf.captions.naming import COMPOUNDS, KINDS, is_named
from synclr_hf.captions.words import hyphened, stem, words
from synclr_hf.concepts.banks import CONCEPT_BANKS, load_concepts


@pytest.mark.parametrize(
    ("singular", "plurals"),
    [
        ("cookie", "cookies"),
        ("movie", "movies"),
        ("brownie", "brownies"),
        ("collie", "collies"),
        ("magpie", "magpies"),
        ("zombie", "zombies"),
        ("pie", "pies"),
        ("cherry", "cherries"),
        ("donkey", "donkeys"),
        ("taxi", "taxis"),
        ("bikini", "bikinis"),
        ("ski", "skis"),
        ("iris", "irises"),
        ("emu", "emus"),
        ("bus", "buses"),
        ("cactus", "cacti cactuses"),
        ("fungus", "fungi funguses"),
        ("octopus", "octopi octopuses"),
        ("hippo", "hippos"),
        ("hero", "heroes heros"),
        ("taco", "tacos"),
        ("shoe", "shoes"),
        ("toe", "toes"),
        ("rhinoceros", "rhinoceroses"),
        ("rose", "roses"),
        ("house", "houses"),
        ("horse", "horses"),
        ("purse", "purses"),
        ("vase", "vases"),
        ("canvas", "canvases"),
        ("gas", "gases"),
        ("lens", "lenses"),
        ("glass", "glasses"),
        ("axe", "axes"),
        ("ax", "axes"),
        ("quiche", "quiches"),
        ("bench", "benches"),
        ("maze", "mazes"),
        ("quiz", "quizzes"),
        ("pizza", "pizzas"),
        ("knife", "knives"),
        ("leaf", "leaves"),
        ("bookshelf", "bookshelves"),
        ("glove", "gloves"),
        ("olive", "olives"),
        ("giraffe", "giraffes"),
        ("man", "men"),
        ("snowman", "snowmen"),
        ("fireman", "firemen"),
        ("woman", "women"),
        ("specimen", "specimens"),
        ("person", "people persons"),
        ("ox", "oxen"),
        ("tooth", "teeth"),
        ("foot", "feet"),
        ("goose", "geese"),
        ("mouse", "mice"),
        ("child", "children"),
        ("chateau", "chateaux"),
        ("tv", "tvs"),
        ("737", "737s"),
    ],
)
def test_a_plural_has_the_stem_of_its_singular(singular, plurals):
    assert {stem(plural) for plural in plurals.split()} == {stem(singular)} == {stem(f"{singular}'s")}


@pytest.mark.parametrize(
    ("noun", "participle"),
    [
        ("stripe", "striped"),
        ("dots", "dotted"),
        ("marble", "marbled"),
        ("crack", "cracked"),
        ("lace", "laced"),
        ("groove", "grooved"),
        ("pleats", "pleated"),
    ],
)
def test_patterns_are_found_in_participles(noun, participle):
    assert stem(noun) == stem(participle)


@pytest.mark.parametrize(
    "apart",
    [
        "pin pine",
        "kit kite",
        "car care cart card",
        "plan plane",
        "rap rape",
        "bar bare",
        "cap cape",
        "can cane canoe",
        "cub cube",
        "tub tube",
        "rob robe",
        "strip stripe",
        "star stare",
        "glob globe",
        "hoe hose",
        "to toe too two",
        "no nose",
        "sea sew see",
        "pea pear peach",
        "chai chair chaise",
        "tea tease team",
        "life live",
        "wave waif",
        "the these",
        "men's menu",
        "bed bee beet",
        "rug rugged",
        "seed see",
        "new news",
        "cook cookie",
        "hors horse",
        "glass glas",
        "wasp wash was",
    ],
)
def test_different_words_have_different_stems(apart):
    assert len({stem(word) for word in apart.split()}) == len(apart.split())


def shipped():
    return {concept.name: concept for bank in CONCEPT_BANKS for concept in load_concepts(bank)}


def plural(name):
    """A simple plural, `None` for a name that is one already or that has none."""
    if re.search(r"([^aiousl]s|ls|es|ais|ois|[^b]ous|people|peas|dolman)$", name) and not name.endswith(
        ("ss", "lens")
    ):
        return None
    if name.endswith("man"):
        return f"{name[:-3]}men"
    if re.search(r"([sxz]|ch|sh)$", name):
        return f"{name}es"
    return f"{name[:-1]}ies" if re.search(r"[^aeiou]y$", name) else f"{name}s"


def test_every_shipped_name_is_found_in_itself():
    names = shipped()
    assert len(names) > 10_900
    assert [name for name in names if not is_named(f"Here is {name} at last.", name)] == []


def test_every_shipped_object_is_found_in_its_plural():
    plurals = {name: plural(name) for name, concept in shipped().items() if concept.kind == "object"}
    plurals = {name: many for name, many in plurals.items() if many}
    assert len(plurals) > 10_300
    assert [name for name, many in plurals.items() if not is_named(f"Here are {many} at last.", name)] == []
    assert [name for name, many in plurals.items() if not is_named(f"Here is {name} at last.", many)] == []


def test_no_shipped_name_of_one_word_is_found_in_another():
    """A stem that two names share is that of one word, its plural and its participle."""
    single = sorted({words(name)[0] for name in shipped() if len(words(name)) == 1})
    shared = {}
    for word in single:
        shared.setdefault(stem(word), []).append(word)
    plain = [[word for word in group if not word.endswith(("s", "ed"))] for group in shared.values()]
    assert len(shared) < len(single) and [group for group in plain if len(group) > 1] == [["caddie", "caddy"]]


def test_kinds_and_compounds_are_stems_and_kinds_stand_for_shipped_names():
    last = {stem(words(name)[-1]) for name in shipped() if len(words(name)) == 2}
    assert KINDS <= last
    assert {stem(word) for word in ("hot", "sea", "prairie", "passion")} <= COMPOUNDS


def test_hyphens():
    assert hyphened("A polka-dot dress, well-to-do - old") == {1, 4, 5}
    assert hyphened("") == frozenset()


def test_a_kind_is_left_out_only_behind_a_name():
    assert is_named("A boxer runs.", "Boxer dog") and not is_named("A dog runs.", "Boxer dog")
    assert not is_named("Hot sun over a dog.", "hot dog") and not is_named("A garden in May.", "garden tool")
    assert is_named("A mug.", "!!") and not is_named("!!", "mug")
    assert not is_named("A screech in the wood.", "screech owl"), "an owl is no kind that is left out"


def test_a_part_of_a_hyphened_word_may_stand_between():
    assert is_named("A baseball-style cap.", "baseball cap") and is_named("An oak half-barrel.", "oak barrel")
    assert not is_named("A baseball style cap.", "baseball cap")
    assert not is_named("A baseball - style - cap.", "baseball cap")
