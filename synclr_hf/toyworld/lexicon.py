"""The words that captions use, each with what it means; the grammar writes them and the reader reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from synclr_hf.toyworld.backgrounds import BACKGROUNDS
from synclr_hf.toyworld.full_frames import FULL_FRAMES
from synclr_hf.toyworld.palette import COLOUR_WORDS
from synclr_hf.toyworld.things import THINGS

RELATIONS = ("in", "on", "next to", "behind", "in front of", "over", "under", "above", "below", "besides")
"""The ten relations between the main thing and a second one."""

SIZES: dict[str, tuple[float, float]] = {
    "tiny": (0.17, 0.22),
    "small": (0.24, 0.31),
    "large": (0.62, 0.74),
    "huge": (0.78, 0.9),
}
"""Size -> range of a single thing's larger side, as a share of the picture's side."""

SIZE_WORDS: dict[str, tuple[str, ...]] = {
    "tiny": ("tiny", "miniature"),
    "small": ("small", "little"),
    "large": ("large", "big"),
    "huge": ("huge", "giant", "enormous"),
}

TEXTURE_WORDS: dict[str, tuple[str, ...]] = {
    "striped": ("striped",),
    "dotted": ("dotted", "polka-dot", "spotted", "polka-dotted"),
    "checkered": ("checkered", "checked", "chequered"),
    "zigzag": ("zigzag", "zigzag-patterned"),
    "speckled": ("speckled", "freckled"),
    "wooden": ("wooden",),
    "woolly": ("woolly", "knitted"),
    "shiny": ("shiny", "glossy"),
}

LIGHTS: dict[str, tuple[float, float, float]] = {
    "warm": (1.06, 1.0, 0.91),
    "cool": (0.94, 0.99, 1.08),
    "bright": (1.09, 1.09, 1.07),
    "dim": (0.76, 0.76, 0.8),
}
"""Light -> factors on red, green and blue."""

LIGHT_WORDS: dict[str, tuple[str, ...]] = {
    "warm": ("in warm light", "in golden light", "in warm sunlight"),
    "cool": ("in cool light", "in pale morning light"),
    "bright": ("in bright light", "in bright sunshine"),
    "dim": ("in dim light", "in the shade", "in fading light"),
}

COUNT_WORDS: dict[int, tuple[str, ...]] = {
    1: ("one", "1", "a single", "a lone"),
    2: ("two", "2", "a pair of", "a couple of"),
    3: ("three", "3", "a trio of"),
    4: ("four", "4"),
    5: ("five", "5"),
    6: ("six", "6"),
}

SEVERAL_WORDS = ("a few", "several", "some", "many", "a group of", "a handful of", "a bunch of")

OTHER_COLOUR_WORDS = {
    "gray": "grey", "silver": "grey", "silvery": "grey", "golden": "yellow", "gold": "yellow", "violet": "purple",
    "lilac": "purple", "turquoise": "teal", "crimson": "red", "scarlet": "red", "navy": "blue", "rosy": "pink",
    "ivory": "white", "tan": "brown",
}  # fmt: skip

OTHER_RELATION_WORDS = {
    "inside": "in", "into": "in", "within": "in", "on top of": "on", "onto": "on", "upon": "on", "beside": "besides",
    "near": "next to", "beneath": "under", "underneath": "under", "by": "next to", "alongside": "besides",
}  # fmt: skip

OTHER_BACKGROUND_WORDS: dict[str, tuple[str, ...]] = {
    "meadow": ("meadow", "grassy field", "grass", "lawn"),
    "beach": ("beach", "sandy shore", "seashore", "sand"),
    "night sky": ("night sky", "starry night", "starry sky", "at night"),
    "snow": ("snow", "snowy field", "winter landscape"),
    "forest": ("forest", "woods", "woodland"),
    "desert": ("desert", "sand dunes", "dunes"),
    "kitchen table": ("kitchen table", "kitchen", "table"),
    "brick wall": ("brick wall",),
    "sea": ("sea", "ocean", "open sea", "water"),
    "sunset": ("sunset", "sunset sky", "dusk"),
    "rainy street": ("rainy street", "wet street", "street", "rain"),
    "living room": ("living room", "cosy room", "room"),
    "blue sky": ("blue sky", "sky", "clouds", "cloudy sky"),
    "coral reef": ("coral reef", "reef", "underwater"),
    "autumn park": ("autumn park", "park", "fallen leaves"),
}

_TEXTURE_NOUNS = {"polka dots": "dotted", "dots": "dotted", "spots": "dotted", "stripes": "striped",
                  "zigzags": "zigzag", "checks": "checkered", "speckles": "speckled"}  # fmt: skip


_LONGEST = 6
"""Words in the longest phrase."""


@dataclass(frozen=True)
class Entry:
    """The meaning of a phrase.

    Args:
        kind: `"thing"`, `"background"`, `"relation"`, `"colour"`, `"texture"`, `"size"`, `"count"`, `"several"`,
            `"light"`, `"article"`, `"the"` or `"pattern"` (a texture named by a noun).
        value: the name that the phrase stands for.
        plural: whether a noun is in the plural.
    """

    kind: str
    value: str | int
    plural: bool = False


def plural_of(noun: str) -> str:
    """Return the plural of a noun that is not the main name of a thing."""
    if noun.endswith("leaf"):
        return noun[:-1] + "ves"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def tokens(text: str) -> tuple[str, ...]:
    """Split a text into lower-case words; hyphens separate."""
    return tuple(re.findall(r"[a-z]+|\d+", text.lower().replace("'s", "")))


@lru_cache(maxsize=1)
def entries() -> dict[tuple[str, ...], Entry]:
    """Return the meaning of every known phrase, keyed by its words."""
    phrases: dict[str, Entry] = {"a": Entry("article", 1), "an": Entry("article", 1), "the": Entry("the", 0)}
    for kind, table in (("size", SIZE_WORDS), ("texture", TEXTURE_WORDS), ("light", LIGHT_WORDS)):
        phrases |= {word: Entry(kind, value) for value, words in table.items() for word in words}
    phrases |= {word: Entry("count", number) for number, words in COUNT_WORDS.items() for word in words}
    phrases |= {word: Entry("several", 0) for word in SEVERAL_WORDS}
    phrases |= {word: Entry("colour", word) for word in COLOUR_WORDS}
    phrases |= {word: Entry("colour", value) for word, value in OTHER_COLOUR_WORDS.items()}
    phrases |= {word: Entry("relation", word) for word in RELATIONS}
    phrases |= {word: Entry("relation", value) for word, value in OTHER_RELATION_WORDS.items()}
    phrases |= {word: Entry("pattern", value) for word, value in _TEXTURE_NOUNS.items()}
    for name, place in BACKGROUNDS.items():
        words = (*place.phrases, *OTHER_BACKGROUND_WORDS[name])
        phrases |= {word: Entry("background", name) for word in words}
    for frame in FULL_FRAMES.values():
        phrases |= {word: Entry("thing", frame.name) for word in (frame.name, *frame.other_names)}
    for thing in THINGS.values():
        phrases |= {plural_of(word): Entry("thing", thing.name, True) for word in thing.other_names}
        phrases[thing.plural] = Entry("thing", thing.name, thing.plural != thing.name)
        phrases |= {word: Entry("thing", thing.name) for word in (thing.name, *thing.other_names)}
    return {tokens(phrase): entry for phrase, entry in phrases.items()}


def read(text: str) -> list[Entry]:
    """Return the known phrases of a text in order, the longest match first; unknown words are skipped."""
    known, words = entries(), tokens(text)
    found, start = [], 0
    while start < len(words):
        for length in range(min(_LONGEST, len(words) - start), 0, -1):
            entry = known.get(words[start : start + length])
            if entry is not None:
                found.append(entry)
                break
        start += length
    return found


def known_nouns() -> list[str]:
    """Return the names of everything that can be drawn."""
    return [*THINGS, *FULL_FRAMES]
