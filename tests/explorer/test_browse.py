"""The data browser: words, filters, pages, counts; somebody else's card is shown and does nothing."""

import random
import re

import numpy as np
import pytest
from datasets import Dataset
from tiny_index import COLOURS

from synclr_hf.errors import UserInputError
from synclr_hf.explorer.browse import A_PAGE, Browser, folded, read_query
from synclr_hf.explorer.card_text import shown_card
from synclr_hf.explorer.index.facts import IndexFacts
from synclr_hf.explorer.index.opened import PictureIndex
from synclr_hf.explorer.index.schema import index_features


def index_of(rows):
    columns = {"caption_id": None, "place": 0, "caption": None, "concept": None, "source": None, "template": None}
    rows = [{**columns, **row, "image": {"bytes": b"", "path": None}} for row in rows]
    return PictureIndex(Dataset.from_list(rows, features=index_features(())), IndexFacts((), len(rows)), "some")


@pytest.fixture(scope="module")
def browser():
    captions = ["A red mug, half-full.", "Two Red hats", "A café in the rain", "redwood trees (old)", "A blue mug"]
    return Browser(
        index_of(
            {"caption_id": 10 + k, "place": place, "caption": text, "concept": "mug" if "mug" in text else "other"}
            for place in (1, 0)
            for k, text in enumerate(captions)
        )
    )


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", [10, 11, 12, 13, 14]),
        ("red", [10, 11, 13]),
        ("RED mug", [10]),
        ("mug", [10, 14]),
        ("-red", [12, 14]),
        ('"red mug"', [10]),
        ('"mug red"', []),
        ("cafe", [12]),
        ("CAFÉ", [12]),
        ("(old)", [13]),
        ("oo", []),
        (".*", []),
        ("[", []),
        ('"', [10, 11, 12, 13, 14]),
        ('-"red mug" mug', [14]),
        ("\0", []),
        ("half-full", [10]),
        ("🐦", []),
        ("<script>", []),
        ("other", [11, 12, 13]),
        ("red, mug", [10]),
        ('a mug; "red mug", -blue', [10]),
        ("mug.", [10, 14]),
        ("“red mug”", [10]),
        ("half–full", [10]),
        ("mug –blue", [10]),
        ("red - mug", [10]),
        ("-", [10, 11, 12, 13, 14]),
        ('"A  red\tmug"', [10]),
        ("ed", []),
    ],
)
def test_words(browser, text, ids):
    assert [entry.caption_id for entry in browser.find(text).entries] == ids


@pytest.mark.parametrize(
    ("said", "typed"), [("Lego™", "legotm"), ("İki", "iki"), ("STRASSE", "straße"), ("ﬁne", "FINE")]
)
def test_letters_that_are_written_in_several_ways_are_one(said, typed):
    assert folded(said) == folded(typed)


def test_pictures_of_a_caption_stand_in_order(browser):
    assert browser.find("two").entries[0].rows == (6, 1)


def test_filters_pages_and_order_of_the_tiny_index(explorer):
    browser = Browser(explorer.index)
    first = browser.find()
    assert (first.total, first.pages, first.page) == (9, 2, 1) and len(first.entries) == A_PAGE
    assert first.entries[2].rows == (8, 9, 10, 11) and first.entries[2].template == "relation"
    assert [one.caption_id for one in browser.find(page=99).entries] == [6, 7, 8]
    some = browser.find("table", concepts=["red mug", "blue bell"], templates=["concept"])
    assert [one.caption_id for one in some.entries] == [0, 3, 6]
    assert browser.find(sources=["tiny"]).total == 9
    for filters, words in (({"concepts": ["cat"]}, "unknown concept 'cat'"), ({"sources": ["x"]}, "unknown source")):
        with pytest.raises(UserInputError, match=words):
            browser.find(**filters)


def test_search_is_what_a_plain_one_finds():
    generator = random.Random(0)
    words = ["red", "blue", "mug", "hat", "table", "tab", "ta", "a", "on", "été"]
    captions = [" ".join(generator.choices(words, k=generator.randint(1, 6))) for _ in range(200)]
    browser = Browser(index_of({"caption_id": k, "caption": text} for k, text in enumerate(captions)))
    for _ in range(60):
        wanted, not_wanted = generator.sample(words, 2), generator.choice(words)
        plain = sum(
            all(any(folded(said).startswith(folded(word)) for said in text.split()) for word in wanted)
            and not any(folded(said).startswith(folded(not_wanted)) for said in text.split())
            for text in captions
        )
        assert browser.find(f"{' '.join(wanted)} -{not_wanted}").total == plain


def test_statistics(explorer):
    told = Browser(explorer.index).statistics()
    assert (told["pictures"], told["captions"], told["concepts"]) == (36, 9, 3)
    assert told["captions_a_concept"] == dict.fromkeys(sorted(COLOURS), 3)
    assert told["templates"] == {"background": 3, "concept": 3, "relation": 3} and told["sources"] == {"tiny": 9}
    assert told["words_a_caption"] == {"least": 6, "mean": 6.0, "most": 6}


def test_pictures_without_captions_are_entries_of_their_own():
    browser = Browser(index_of([{"concept": "cat"}, {"concept": "cat"}, {}]))
    assert [entry.rows for entry in browser.find().entries] == [(0,), (1,), (2,)]
    assert browser.find("cat").total == 2
    assert browser.statistics()["words_a_caption"] == {}


def test_too_much_to_search_for():
    for text, words in (("x" * 501, "too long"), (" ".join("abcdefghijklmnopqrstu"), "too many words")):
        with pytest.raises(UserInputError, match=words):
            read_query(text)


CARD = """---
license: mit
---
# Things

![a plot](card/plot.png) ![spy](https://elsewhere.example/spy.gif)
<script>alert(1)</script><img src=x onerror=alert(2)> a < b

[web](https://example.org) [bad](javascript:alert(3)) [here](./data)

| a | b |
|---|---|
| 1 | 2 |
"""


def test_a_card_is_shown_without_what_acts_or_loads():
    shown = shown_card(CARD)
    assert "license: mit" not in shown and shown.startswith("## Things")
    assert not re.search(r"<(script|img)|javascript:|spy\.gif|plot\.png|!\[", shown)
    assert "a plot spy" in shown and "[web](https://example.org)" in shown and "| 1 | 2 |" in shown
    assert "&lt;script>" in shown and "bad here" in shown and "a < b" in shown
    assert len(shown_card("line\n" * 9000)) < 20_100
    assert np.char.count(shown_card("no front matter"), "no") == 1


@pytest.mark.parametrize(
    "card",
    [
        "![a [b] c](https://elsewhere.example/spy.gif)",
        "![a\\]b](https://elsewhere.example/spy.gif)",
        "!![](x)[left over](https://elsewhere.example/spy.gif)",
        "> [k]: https://elsewhere.example/spy.gif\n\n![k]",
        "\\\\![escaped](https://elsewhere.example/spy.gif)",
        "[![badge](https://elsewhere.example/spy.gif)](https://example.org)",
    ],
)
def test_no_picture_of_a_card_is_loaded_however_it_is_written(card):
    assert "![" not in shown_card(card)


@pytest.mark.parametrize("part", ["[", "![", "![](", "[a](", "[a]( ", "[\n"])
def test_a_card_is_read_in_a_time_that_grows_with_its_length(part):
    """Patterns that look ahead from each bracket would need minutes."""
    assert len(shown_card(part * 50_000)) < 120_000
