"""Words of a caption, compared without their endings."""

from __future__ import annotations

import re
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_POSSESSIVE = re.compile(r"['’]s?$")
_IRREGULAR = {"men": "man", "women": "woman", "children": "child", "mice": "mouse", "geese": "goose", "feet": "foot"}


def words(text: str) -> list[str]:
    """Return the words of a text in lower case: runs of letters and digits, with an apostrophe inside."""
    return _WORD.findall(text.casefold())


def normalized(text: str) -> str:
    """Return the words of a text in lower case, without punctuation: two captions that agree in it are the same."""
    return " ".join(words(text))


def stems(text: str) -> list[str]:
    """Return the stems of the words of a text, in order."""
    return [stem(word) for word in words(text)]


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Cut the ending of an English word: good enough to compare, not to read (knives, knife -> knif)."""
    word = _POSSESSIVE.sub("", word)
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
