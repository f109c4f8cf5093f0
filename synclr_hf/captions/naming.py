"""Whether a caption names its concept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from synclr_hf.captions.words import hyphened, stem, stems, words

KINDS = frozenset(
    stem(word)
    for word in "animal bird cat dog fabric fish flower fruit garment herb insect instrument mushroom sport tool "
    "vegetable".split()
)
"""Last words that only tell which meaning of the first one is meant: `kite bird`, `Boxer dog`, `velvet fabric`."""

COMPOUNDS = frozenset(
    stem(word)
    for word in "alley amphibious angel aquatic array athletic baby balloon big bird black blanket blind blue "
    "blushing board boy brain brass bread bush butterfly cape carnivorous cat chili clown cold contact "
    "corn corvine cruciferous cutting deer dip dipterous dog domestic draft drafting dragon dried edible "
    "engine entrenching equestrian farm fast female fiesta flame flamingo flash food frigate game garden "
    "garland globe gold grape green guard guide hand hemipterous honey horse hot house hunting jelly "
    "jungle keyboard kit lady lap lepidopterous lion machine male marine meadow measuring medical miter "
    "moccasin monk musical net optical outdoor oyster pack parrot passion patch pelagic percussion permit "
    "pet pincushion police policeman pool power prairie print protest raw red root sand sandy sausage "
    "schoolmaster sea secretary service sheep shepherd sled social sporting star stick stock stone straw "
    "stringed stuffed sun surgical sword team tiger toy track treasure tropic wading wall water white "
    "wild wind winter woolen working young zebra".split()
)
"""First words that do not name the thing without the second one: `hot dog`, `water sport`, `passion fruit`."""

_SHARE_OF_A_LONG_NAME = 0.6
_LONGEST_RUN = 4


def is_named(caption: str, concept: str) -> bool:
    """Return whether a caption names a concept, in singular or plural, in one word, with a hyphen or apart.

    - One word must be there; a name without any, such as `!!`, is always there.
    - Two words must stand next to each other, in order; only a part of a hyphened word may stand between them
      (`a baseball-style cap`). If the second is one of `KINDS`, the first one is enough, unless it is one of
      `COMPOUNDS`: "A kite soars over a field." is a caption for `kite bird`, "A dog in the hot sun." is none for
      `hot dog`. Which meaning the sentence has is not looked at: the prompt asked for the right one.
    - Of a longer name, such as `Acura TL Sedan 2012 car`, at least 60 % of the words must be there, in any order.
    """
    name = _name(concept)
    given = stems(caption)
    wanted = name.stems
    if not wanted or name.joined in given:
        return True
    if len(wanted) == 2:
        if wanted[0] in given and (name.first_is_enough or _in_order(wanted, given, caption)):
            return True
    elif len(wanted) > 2 and sum(word in given for word in wanted) >= _SHARE_OF_A_LONG_NAME * len(wanted):
        return True
    said = words(caption)
    return name.start in "".join(said) and _apart(name, said)


@dataclass(frozen=True)
class _Name:
    """A concept's name, taken apart once: its stems, the stem of all in one word, and what that starts with."""

    stems: tuple[str, ...]
    joined: str
    start: str
    first_is_enough: bool


@lru_cache(maxsize=65536)
def _name(concept: str) -> _Name:
    parts = stems(concept)
    text = "".join(words(concept))
    enough = len(parts) == 2 and parts[1] in KINDS and parts[0] not in COMPOUNDS
    return _Name(parts, stem(text), text[: max(2, len(text) - 3)], enough)


def _in_order(wanted: tuple[str, ...], given: tuple[str, ...], caption: str) -> bool:
    one, other = wanted
    places = [place for place, word in enumerate(given) if word == one]
    if any(other in given[place + 1 : place + 2] for place in places):
        return True
    between = [place + 1 for place in places if other in given[place + 2 : place + 3]]
    if not between:
        return False
    hyphens = hyphened(caption)
    return any(place in hyphens or place - 1 in hyphens for place in between)


def _apart(name: _Name, said: list[str]) -> bool:
    """Whether a run of two to four words, written in one word, is the name."""
    for first, word in enumerate(said):
        if name.start.startswith(word[:2]):
            for end in range(first + 2, min(first + _LONGEST_RUN, len(said)) + 1):
                if stem("".join(said[first:end])) == name.joined:
                    return True
    return False
