"""Filters: each looks at one caption and returns `None` to keep it, or the reason why it is dropped."""

from __future__ import annotations

import re
from collections.abc import Collection

from synclr_hf.captions.templates import Prompt

MIN_WORDS = 3
MAX_WORDS = 60
_LONGEST_RUN = 4
_MARKUP = re.compile(r"[<>{}\[\]|\\`*_#~^\t\n\r\x00-\x1f�]|https?:|www\.|&\w+;|->")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_IRREGULAR = {"men": "man", "women": "woman", "children": "child", "mice": "mouse", "geese": "goose", "feet": "foot"}


def empty(caption: str) -> str | None:
    """Return `"empty"` if no letter is there."""
    return None if any(character.isalpha() for character in caption) else "empty"


def markup(caption: str) -> str | None:
    """Return `"markup"` for arrows, tags, links, brackets and control characters: no sentence of plain words."""
    return "markup" if _MARKUP.search(caption) else None


def length(caption: str) -> str | None:
    """Return `"too_short"` below `MIN_WORDS` words, `"too_long"` above `MAX_WORDS`."""
    words = len(caption.split())
    if words < MIN_WORDS:
        return "too_short"
    return "too_long" if words > MAX_WORDS else None


def repeats_prompt(caption: str, prompt: Prompt) -> str | None:
    """Return `"repeats_prompt"` if it says no more than the query, or is the caption of one of the examples."""
    said = {normalized(prompt.query), *(normalized(example.caption) for example in prompt.examples)}
    return "repeats_prompt" if normalized(caption) in said else None


def lacks_concept(caption: str, concept: str) -> str | None:
    """Return `"lacks_concept"` unless every word of the concept is there, in singular or plural, joined or apart."""
    wanted, given = [_stem(word) for word in _words(concept)], [_stem(word) for word in _words(caption)]
    joined = "".join(wanted)
    runs = (
        "".join(given[start:end]) for start in range(len(given)) for end in range(start + 1, start + 1 + _LONGEST_RUN)
    )
    return None if set(wanted) <= set(given) or joined in runs else "lacks_concept"


def duplicate(caption: str, seen: Collection[str]) -> str | None:
    """Return `"duplicate"` if the `normalized` caption is among those `seen`."""
    return "duplicate" if normalized(caption) in seen else None


def first_reason(caption: str, prompt: Prompt, concept: str, seen: Collection[str]) -> str | None:
    """Return the first reason to drop the caption, `None` if all filters keep it.

    Args:
        caption: one line, stripped.
        prompt: what the language model read.
        concept: name of the concept that the caption is about.
        seen: the normalized captions of the shard so far.
    """
    return (
        empty(caption)
        or markup(caption)
        or length(caption)
        or repeats_prompt(caption, prompt)
        or lacks_concept(caption, concept)
        or duplicate(caption, seen)
    )


def normalized(text: str) -> str:
    """Return the words of a text in lower case, without punctuation."""
    return " ".join(_words(text))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _stem(word: str) -> str:
    """Cut the ending of an English word: good enough to compare, not to read (knives, knife -> knif)."""
    word = re.sub(r"['’]s?$", "", word)
    word = _IRREGULAR.get(word, word)
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        word = word[:-2]
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if len(word) > 4 and word.endswith("ed"):
        word = word[:-2]
        word = word[:-1] if word[-1] == word[-2] else word
    if len(word) > 3 and word.endswith("e"):
        word = word[:-1]
    return word[:-1] + "f" if word.endswith("v") else word
