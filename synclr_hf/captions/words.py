"""Words of a caption, compared without the endings of the plural and of `-ed`."""

from __future__ import annotations

import re
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_POSSESSIVE = re.compile(r"['’]s?$")
_IRREGULAR = {
    "axe": "ax",
    "beaux": "beau",
    "bureaux": "bureau",
    "cacti": "cactus",
    "chateaux": "chateau",
    "children": "child",
    "daises": "dais",
    "dormice": "dormouse",
    "foci": "focus",
    "fungi": "fungus",
    "gateaux": "gateau",
    "gladioli": "gladiolus",
    "grandchildren": "grandchild",
    "hippopotami": "hippopotamus",
    "larvae": "larva",
    "lens": "lens",
    "lenses": "lens",
    "lice": "louse",
    "mice": "mouse",
    "narcissi": "narcissus",
    "news": "news",
    "nuclei": "nucleus",
    "oases": "oasis",
    "octopi": "octopus",
    "oxen": "ox",
    "plateaux": "plateau",
    "schoolchildren": "schoolchild",
    "tableaux": "tableau",
    "titmice": "titmouse",
}
_IRREGULAR_END = re.compile(r"(?:feet|geese|teeth|people|men)$")
_SINGULAR_END = {"feet": "foot", "geese": "goose", "teeth": "tooth", "people": "person", "men": "man"}
_MEN = frozenset(
    "abdomen acumen albumen amen bitumen cyclamen dolmen hymen lumen omen ramen regimen rumen semen somen specimen "
    "stamen yemen".split()
)
_VES = re.compile(
    r"(?:(?P<fe>(?:kni|wi)ves|^lives)|(?:cal|dwar|hal|hoo|lea|loa|scar|shea|shel|thie|whar|wol|^el|^sel)ves)$"
)
_OES = frozenset(
    f"{word}s"
    for word in "aloe backhoe canoe doe felloe floe foe hoe hoopoe joe mahoe mistletoe oboe roe sloe throe tiptoe toe "
    "toetoe woe".split()
)
_ADDS_ES = ("sses", "xes", "zes", "ches", "shes")
_SE_AND_S = re.compile(r"(?:ai|ea|oi|ui|(?:h|m|gr|l|sp)ou|au|oo|ee|[^aeiou])ses$")
_MUTE_E = re.compile(r"(?:(?<![aeiou])[aeiou]s|ss|x|z|ch|sh)e$")
_NO_PARTICIPLE = frozenset(
    "airbed biped bobsled bunkbed crooked daybed dogsled flatbed flowerbed hotbed hundred jagged kindred moped naked "
    "newlywed ragged reedbed riverbed roadbed rugged sacred seabed seedbed sickbed toolshed waterbed watershed wicked "
    "woodshed".split()
)
_WITHOUT_E = re.compile(
    r"(?:^[^aeiou]*[aeiouy][^aeiouwxy]|[cuvz]|[^aeiou]at|[bcdfgkptz]l|[dr]g)$"  # strip(e), carv(e), marbl(e), forg(e)
)


def words(text: str) -> list[str]:
    """Return the words of a text in lower case: runs of letters and digits, with an apostrophe inside."""
    return _WORD.findall(text.casefold())


@lru_cache(maxsize=16)  # the filters ask for the same caption one after the other
def normalized(text: str) -> str:
    """Return the words of a text in lower case, without punctuation: two captions that agree in it are the same."""
    return " ".join(words(text))


@lru_cache(maxsize=16)
def stems(text: str) -> tuple[str, ...]:
    """Return the stems of the words of a text, in order."""
    return tuple(stem(word) for word in words(text))


def hyphened(text: str) -> frozenset[int]:
    """Return the places of the words that a hyphen joins to the one after them: `{1}` for `a polka-dot dress`."""
    found = list(_WORD.finditer(text.casefold()))
    folded = text.casefold()
    return frozenset(
        place
        for place, (one, other) in enumerate(zip(found, found[1:], strict=False))
        if folded[one.end() : other.start()] in ("-", "‐", "‑")
    )


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Return what singular, plural and `-ed` of an English word have in common: to compare, not to read.

    `cookies`, `cookie` -> `cooky`; `taxis`, `taxi` -> `taxis`; `stripes`, `striped` -> `stripe`. Different words
    stay apart: `pin` and `pine`, `care` and `car`.
    """
    singular = _singular(_POSSESSIVE.sub("", word))
    return _one_spelling(_without_ed(singular))


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if (end := _IRREGULAR_END.search(word)) and word not in _MEN:
        return word[: end.start()] + _SINGULAR_END[end[0]]
    if len(word) < 3 or word[-1] != "s" or word[-2] in "saiou":
        return word  # a word in -us, -is, -as or -os keeps its s: `_one_spelling` gives it to taxi and hippo too
    if word.endswith("ves") and (end := _VES.search(word)):
        return word[:-3] + ("fe" if end["fe"] else "f")
    if word.endswith("ies") and len(word) > 3:
        return word[:-3] + "y"
    if word.endswith("oes"):
        return word[:-1] if word in _OES or word.endswith("shoes") else word[:-2]
    if word.endswith(_ADDS_ES):
        return word[:-2]
    if word.endswith("ses") and len(word) > 4 and not _SE_AND_S.search(word):
        return word[:-2]
    return word[:-1]


def _without_ed(word: str) -> str:
    if len(word) < 5 or not word.endswith("ed") or word.endswith("eed") or word in _NO_PARTICIPLE:
        return word
    word = word[:-2]
    if word[-1] == word[-2] and word[-1] not in "lsfz":
        return word[:-1]
    if word[-1] == "i":
        return word[:-1] + "y"
    return word + "e" if _WITHOUT_E.search(word) else word


def _one_spelling(word: str) -> str:
    """Write alike what plurals do not tell apart: house(s) and bus(es), cooki(e)s and cherry, iris and taxi(s)."""
    if len(word) < 3:
        return word
    if word.endswith("ie"):
        return word[:-2] + "y"
    if word[-1] in "aiou":
        return word + "s"
    if word.endswith("zz") or (len(word) > 3 and _MUTE_E.search(word)):
        word = word[:-1]
    return word[:-1] if word.endswith("zz") else word
