import pickle

import pytest

from synclr_hf.captions import filters
from synclr_hf.captions.filters import REASONS, CaptionFilters
from synclr_hf.captions.language_models import CutOff, Refused
from synclr_hf.captions.prompt_tokens import TokenCounter
from synclr_hf.captions.templates import Prompt, parse_examples, shipped_pools
from synclr_hf.captions.unsafe_words import UnsafeWords
from synclr_hf.captions.words import normalized
from synclr_hf.errors import UserInputError

EXAMPLES = parse_examples("here", "cat => A striped cat sleeps.\ndog => A dog, waiting.\nowl => An owl.")
PROMPT = Prompt("...", "tall mug, kitchen table", EXAMPLES)


def reason(caption, concept="mug", seen=(), filters=CaptionFilters()):  # noqa: B008 - it never changes
    found = filters.first_reason(caption, PROMPT, concept, set(seen))
    assert found is None or found in REASONS
    return found


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
    assert reason("tea " + "mug " * 74) is None, "with the two special tokens it is 77"
    assert reason("tea " + "mug " * 75) == "too_long"
    assert reason("tea " + "mug " * 75, filters=CaptionFilters(max_tokens=78)) is None


def test_tokens_are_estimated_as_clip_counts_them():
    """The counts on the right are those of CLIP's own tokenizer, made once with its vocabulary."""
    counted = {
        "A cat.": 5,
        "Five orange pumpkins of different sizes are lined up on a farm porch.": 16,
        "A Boeing 737-200 aircraft taking off.": 15,
    }
    for caption, tokens in counted.items():
        assert abs(TokenCounter()(caption) - tokens) <= 2, caption
    assert TokenCounter()("猫" * 30) > 30 and TokenCounter()("mug " * 10_000) == 10_002


def test_tokens_of_a_real_tokenizer(tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(WordLevel({"a": 0, "mug": 1, "?": 2}, unk_token="?"))
    plain.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="?").save_pretrained(tmp_path)
    counter = TokenCounter(str(tmp_path))
    assert counter("a mug, a mug!") == 6
    assert pickle.loads(pickle.dumps(counter))("a mug") == 2
    assert reason("a mug , a mug", filters=CaptionFilters(counter, max_tokens=4)) == "too_long"
    with pytest.raises(UserInputError, match="the tokenizer '.*nothing' cannot be loaded .*; type --prompt-tokenizer"):
        TokenCounter(str(tmp_path / "nothing"))("a mug")


@pytest.mark.parametrize(
    "caption",
    [
        "I'm sorry, but I cannot write about a mug.",
        "I cannot help with a mug.",
        "As an AI language model, I have never seen a mug.",
        "I am unable to describe a mug.",
        "Sorry, a mug is not something I can describe.",
    ],
)
def test_refusals(caption):
    assert reason(caption) == "refusal"


@pytest.mark.parametrize(
    "caption",
    [
        "Sure! A red mug on a table.",
        "Here is a caption about a mug on a table.",
        "Here's one possible caption: a mug on a table.",
        "Caption: A red mug on a table.",
        "Caption 2: a mug on a table",
        "A red mug on a table. Let me know if you need more.",
        "Certainly, a red mug on a table.",
        "Assistant: a mug stands on a table",
        "This caption shows a mug on a table.",
    ],
)
def test_chatter(caption):
    assert reason(caption) == "chatter"


@pytest.mark.parametrize(
    "caption",
    [
        "Sure-footed goats beside a mug.",
        "A mug that says sorry in red letters.",
        "Here a mug lies broken on the floor.",
        "A great mug, okay for tea: blue with white dots.",
        "Great waves painted on a mug.",
        "A system of pipes behind a mug.",
    ],
)
def test_plain_words_are_neither(caption):
    assert reason(caption) is None


def test_the_examples_that_ship_pass_the_filters():
    for name, pool in shipped_pools().items():
        for example in pool:
            concept = example.query.partition(",")[0]
            assert CaptionFilters().first_reason(example.caption, PROMPT, concept, set()) is None, (name, example)


def unsafe_words(folder, text):
    path = folder / "unsafe.txt"
    path.write_text(text, encoding="utf-8")
    return UnsafeWords.read(path)


def test_unsafe_words(tmp_path):
    words = CaptionFilters(unsafe=unsafe_words(tmp_path, "# mine\nGun\n\nhot dog\nblood-red\n"))
    assert reason("Two guns and a mug.", filters=words) == "unsafe_word"
    assert reason("A mug with hot dogs printed on it.", filters=words) == "unsafe_word"
    assert reason("A blood red mug on a table.", filters=words) == "unsafe_word"
    assert reason("A hot mug beside a dog, on a gunwale.", filters=words) is None
    assert words.unsafe.listed() == ["gun", " blood red ", " hot dog "]


def test_unsafe_words_do_not_find_words_that_only_look_like_them(tmp_path):
    words = CaptionFilters(unsafe=unsafe_words(tmp_path, "rape\nbare\nsex\n"))
    for caption in ("A rap singer with a mug.", "A chocolate bar and a mug.", "Six mugs on a table."):
        assert reason(caption, filters=words) is None
    assert reason("Bare feet beside a mug.", filters=words) == "unsafe_word"


@pytest.mark.parametrize("text", ["", "# nothing\n\n", "...\n"])
def test_unsafe_words_that_are_none(tmp_path, text):
    with pytest.raises(UserInputError, match="holds no words; type --unsafe-words FILE.txt"):
        unsafe_words(tmp_path, text)


def test_unsafe_words_that_cannot_be_read(tmp_path):
    (tmp_path / "picture.txt").write_bytes(b"\xff\xd8\xff\xe0")
    for path, why in (("nothing.txt", "there is no"), ("picture.txt", "is not UTF-8 text"), (".", "it is a folder")):
        with pytest.raises(UserInputError, match=f"{why}.* type --unsafe-words FILE.txt"):
            UnsafeWords.read(tmp_path / path)


def test_repeats_prompt():
    assert reason("Tall mug, kitchen table.") == "repeats_prompt"
    assert reason("a dog -- waiting", concept="dog") == "repeats_prompt"
    assert reason("A dog, waiting for a mug.", concept="dog") is None
    assert reason("mug mug mug mug mug") == "repeats_prompt"
    assert reason("The mugs, a tall table") == "repeats_prompt"
    assert reason("A tall mug on a table") is None, "where it is, is more"
    car = Prompt("...", "Acura TL Sedan 2012 car, road", EXAMPLES)
    assert filters.repeats_prompt("An Acura TL Sedan 2012 car.", car) == "repeats_prompt"
    assert filters.repeats_prompt("A white Acura TL Sedan 2012 car.", car) is None


@pytest.mark.parametrize("text", ["", "A mug stands on", "Tall mug, kitchen table."])
def test_marks_of_the_back_end_come_first(text):
    assert REASONS[:2] == ("server_refused", "cut_off")
    assert reason(Refused(text)) == "server_refused"
    assert reason(CutOff(text)) == "cut_off"


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
        ("Acura TL Sedan 2012 car", "A silver Acura TL sedan parked by a lake."),
        ("Boeing 737-200 aircraft", "A Boeing 737-200 lands in the rain."),
        ("baseball cap", "A baseball-style cap on a hook."),
        ("hot dog", "Two hot dogs on a grill."),
        ("hot dog", "A hot-dog stand."),
        ("flower bed", "Rain on the flowerbeds."),
        ("flowerbed", "Rain on the flower beds."),
        ("snowman", "Three snow men in a yard."),
        ("kite bird", "A kite soars over a field."),
        ("jay bird", "Two jays on a branch."),
        ("track sport", "Track sports in a stadium."),
        ("Persian cat", "A white Persian sleeps on a rug."),
        ("Boxer dog", "A boxer runs along the beach."),
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
        ("Acura TL Sedan 2012 car", "A silver sedan car parked by a lake."),
        ("Boeing 737-200 aircraft", "A Boeing aircraft lands in the rain."),
        ("pin", "A tall pine on a hill."),
        ("kite", "A first aid kit on a shelf."),
        ("car", "A nurse takes care of a child."),
        ("plane", "The plan of a house on a desk."),
        ("bar", "Bare feet on sand."),
        ("toe", "A road to the sea."),
        ("hoe", "A hose in a garden."),
        ("horse", "Some hors d'oeuvres on a tray."),
        ("tea", "Two boys tease a dog."),
        ("life preserver", "A live preserver of jam."),
        ("hot dog", "A dog lies in the hot sun."),
        ("sea lion", "A lion stands by the sea."),
        ("baseball cap", "Baseball with cap and bat."),
        ("baseball cap", "A cap for baseball on a hook."),
        ("prairie dog", "Wind over the prairie grass."),
        ("jay bird", "A bird on a branch."),
        ("water sport", "Clear water in a lake."),
    ],
)
def test_a_caption_without_its_concept(concept, caption):
    assert reason(caption, concept=concept) == "lacks_concept"


def test_duplicate():
    seen = {normalized("A red mug on a table.")}
    assert reason("A RED mug, on a table", seen=seen) == "duplicate"
    assert reason("A blue mug on a table.", seen=seen) is None
