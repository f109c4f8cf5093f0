import pytest

from synclr_hf.captions import filters
from synclr_hf.captions.templates import Example, Prompt

EXAMPLES = (Example("cat", "A striped cat sleeps."), Example("dog", "A dog, waiting."), Example("owl", "An owl."))
PROMPT = Prompt("...", "tall mug, kitchen table", EXAMPLES)


def reason(caption, concept="mug", seen=()):
    return filters.first_reason(caption, PROMPT, concept, set(seen))


@pytest.mark.parametrize(
    "caption",
    ["A mug stands on a table.", "Three mugs, one of them red.", "Mug-shaped things: a mug & a jug; both old!"],
)
def test_good_captions_are_kept(caption):
    assert reason(caption) is None


@pytest.mark.parametrize("caption", ["", " ", "...", "- 12 -"])
def test_empty(caption):
    assert reason(caption) == "empty"


@pytest.mark.parametrize(
    "caption",
    [
        "A mug => a tall mug",
        "<b>A mug</b> on a table",
        "A mug [1] on a table",
        "See https://mugs.example for a mug",
        "A mug\ton a table",
        "**A mug** on a table",
        "A mug \x07 on a table",
        "A mug &amp; a jug",
        "A mug {color} on a table",
        "A mug � on a table",
        "mug -> a tall mug",
    ],
)
def test_markup(caption):
    assert reason(caption) == "markup"


def test_length():
    assert reason("A mug") == "too_short"
    assert reason("A red mug") is None
    assert reason("mug " * 60) is None
    assert reason("mug " * 61) == "too_long"


def test_repeats_prompt():
    assert reason("Tall mug, kitchen table.") == "repeats_prompt"
    assert reason("a dog -- waiting", concept="dog") == "repeats_prompt"
    assert reason("A dog, waiting for a mug.", concept="dog") is None


@pytest.mark.parametrize(
    ("concept", "caption"),
    [
        ("cherry", "Two ripe cherries on a plate."),
        ("knife", "Three knives lie there."),
        ("knives", "A knife lies there."),
        ("house", "Old houses in a row."),
        ("bus", "Two buses pass by."),
        ("glass", "Empty glasses on a tray."),
        ("wave", "High waves at night."),
        ("polka dots", "A polka-dot pattern in blue."),
        ("polka dots", "A polka dotted dress."),
        ("stripes", "A striped towel, folded."),
        ("hot-air balloon", "A hot air balloon over hills."),
        ("ice cream", "An ice-cream in a cone."),
        ("sailboat", "A small sail boat at sea."),
        ("snow man", "A snowman with a hat."),
        ("ladybug", "The ladybug's red wings."),
        ("watch", "Five watches on a wall."),
        ("woman", "Two women at a well."),
    ],
)
def test_a_concept_is_found_in_its_forms(concept, caption):
    assert filters.lacks_concept(caption, concept) is None


@pytest.mark.parametrize(
    ("concept", "caption"),
    [
        ("cat", "A dog on a mat."),
        ("cat", "A catalogue of things."),
        ("hot-air balloon", "A red balloon over hills."),
        ("sea lion", "A lion in the grass."),
        ("car", "A card on a table."),
    ],
)
def test_a_caption_without_its_concept(concept, caption):
    assert reason(caption, concept=concept) == "lacks_concept"


def test_duplicate():
    seen = {filters.normalized("A red mug on a table.")}
    assert reason("A RED mug, on a table", seen=seen) == "duplicate"
    assert reason("A blue mug on a table.", seen=seen) is None
