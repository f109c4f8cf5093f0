"""Lists of places: what the toy language model writes when the examples of a prompt are lists, not sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence

from synclr_hf.toyworld.backgrounds import BACKGROUNDS
from synclr_hf.toyworld.choice import Chooser
from synclr_hf.toyworld.things import THINGS

_SHORTEST_LIST = 4
_MOST_WORDS = 5
_OWN, _OTHER = 30.0, 1.0
"""Weights of a place of the thing and of any other."""


def is_list(text: str) -> bool:
    """Whether a text is a list: four or more short parts between commas."""
    parts = [part.split() for part in re.split(r"[,;]", text)]
    return len(parts) >= _SHORTEST_LIST and all(0 < len(words) <= _MOST_WORDS for words in parts)


def asks_for_places(completions: Sequence[str]) -> bool:
    """Whether most examples of a prompt end in lists.

    Args:
        completions: what stands behind the arrows.
    """
    return 2 * sum(is_list(text) for text in completions) > len(completions)


def write_places(thing: str, chooser: Chooser, *, full_stop: bool) -> str:
    """List places where a thing is seen, each once: its own backgrounds in any order, now and then another one.

    Args:
        thing: key of `THINGS`.
        chooser: picks them.
        full_stop: whether the list ends with one.
    """
    own = THINGS[thing].backgrounds
    left = {place: _OWN if place in own else _OTHER for place in BACKGROUNDS}
    places = []
    for _ in range(len(own) + chooser.pick((0, 1), (0.7, 0.3))):
        place = chooser.pick(tuple(left), tuple(left.values()))
        del left[place]
        places.append(place)
    return ", ".join(places) + ("." if full_stop else "")
