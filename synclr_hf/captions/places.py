"""What a language model says about places, taken apart and checked."""

from __future__ import annotations

import re
from collections import Counter

from synclr_hf.captions.filters import chat, empty, markup
from synclr_hf.captions.language_models import Refused
from synclr_hf.captions.words import stems

MAX_WORDS = 6
MIN_CHARACTERS, MAX_CHARACTERS = 3, 60

REASONS = (
    "server_refused",
    "refusal",
    "chatter",
    "cut_off",
    "empty",
    "markup",
    "too_short",
    "too_long",
    "sentence",
    "concept_itself",
    "duplicate",
)
"""Why a place is dropped, in the order in which it is looked for; the first three drop a whole list."""

_NUMBERING = re.compile(r"(?:^|(?<=[,;]))\s*(?:\d+[.)]|[-•*])\s*")
_FIRST_NUMBER = re.compile(r"\s*1[.)]\s")
_NEXT_NUMBER = re.compile(r"[.,;]?\s+\d{1,2}[.)]\s+")
_ABBREVIATION = re.compile(r"\b(?:(?:[A-Z]\.){2,}|(?:St|Mt|Ft|Dr|Mr|Mrs)\.)(?=\s+\w)")
_DOT = "\u2024"
"""Stands for the full stop of an abbreviation while sentences are told apart."""

_SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
_LEADING = re.compile(r"^(?:(?:and|or|in|on|at|a|an|the)\s+)+")
_SENTENCE = re.compile(
    r"[.!?:\"“”()]|\b(?:i|it|he|she|we|you|they|this|that|these|which|where|is|are|was|were|be|could|may|has|have|"
    r"do|does|often|usually|such|etc|example|places|backgrounds?)\b"
)


class PlaceList:
    """The places found for one concept so far.

    Attributes:
        concept: its name.
        places: what was kept, in the order of finding: lower case, without article, no two alike.
        rejected: what was dropped, by reason.
    """

    def __init__(self, concept: str, wanted: int) -> None:
        self.concept = concept
        self.places: list[str] = []
        self.rejected: Counter[str] = Counter()
        self._wanted = wanted
        self._seen: set[tuple[str, ...]] = set()

    @property
    def full(self) -> bool:
        """Whether there are as many places as wanted."""
        return len(self.places) >= self._wanted

    def add(self, completion: str) -> None:
        """Take over the good places of one list until there are enough; what is wrong with the others is counted.

        Args:
            completion: one line, `place, place, place.`; without a full stop at its end the last place may be cut.
        """
        if reason := "server_refused" if isinstance(completion, Refused) else chat(completion):
            self.rejected[reason] += 1
            return
        text = _ABBREVIATION.sub(lambda found: found[0].replace(".", _DOT), completion)
        if _FIRST_NUMBER.match(text):
            text = _NEXT_NUMBER.sub(", ", text)
        text = _NUMBERING.sub("", text)
        end = _SENTENCE_END.search(text)
        parts = re.split(r"[,;]", text[: end.start()] if end else text)
        if end is None:
            parts.pop()
            self.rejected["cut_off"] += 1
        for part in parts:
            if self.full:
                return
            place = tidy(part)
            reason = self._reason(place)
            if reason is None:
                self.places.append(place.replace(_DOT, "."))
                self._seen.add(stems(place))
            else:
                self.rejected[reason] += 1

    def _reason(self, place: str) -> str | None:
        if reason := empty(place) or markup(place):
            return reason
        if len(place) < MIN_CHARACTERS:
            return "too_short"
        if len(place.split()) > MAX_WORDS or len(place) > MAX_CHARACTERS:
            return "too_long"
        if _SENTENCE.search(place):
            return "sentence"
        key = stems(place)
        if key == stems(self.concept):
            return "concept_itself"
        return "duplicate" if key in self._seen else None


def tidy(place: str) -> str:
    """Return a place in lower case with single spaces, without quotes around it and without article or preposition."""
    return _LEADING.sub("", " ".join(place.lower().split()).strip("'\"“”‘’ "))
