"""The data of an index as people read it: captions with their pictures, found by words, concept, template, source."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from synclr_hf.errors import UserInputError, unknown_name

if TYPE_CHECKING:
    from synclr_hf.explorer.index.opened import PictureIndex

A_PAGE = 6
"""Captions of a page."""
MOST_WORDS = 20
_LONGEST_QUERY = 500
_WORDS = re.compile(r'(?P<minus>-?)(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+))')
_BETWEEN_WORDS = ".,;:!?"
"""Ends a word without being one of its letters: "red mug, blue hat" are four words."""
_AS_TYPED = str.maketrans(
    "\u201c\u201d\u201e\u00ab\u00bb\u2018\u2019\u2010\u2011\u2012\u2013\u2014\u2212", '"""""\'\'------'
)
"""Quotes and dashes that a phone puts in by itself -> those of a keyboard."""


@dataclass(frozen=True)
class CaptionEntry:
    """A caption with its pictures; a picture without a caption is an entry of its own.

    Attributes:
        caption_id: number of the caption; -1: none.
        caption: its text; empty where there is none, likewise the others.
        concept: what it is about.
        template: template that it was written with.
        source: list that the concept is from.
        rows: places of its pictures in the index.
    """

    caption_id: int
    caption: str
    concept: str
    template: str
    source: str
    rows: tuple[int, ...]

    def told(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {**asdict(self), "rows": list(self.rows)}


@dataclass(frozen=True)
class CaptionPage:
    """A page of what was found.

    Attributes:
        entries: of this page.
        page: its number, from 1.
        pages: how many there are.
        total: captions that were found.
    """

    entries: Sequence[CaptionEntry]
    page: int
    pages: int
    total: int


class Browser:
    """Searches the captions of an index.

    Args:
        index: an opened index; its texts are read once, its pictures are not.
    """

    def __init__(self, index: PictureIndex) -> None:
        self._index = index
        ids = index.table.column("caption_id").to_numpy()
        alone = np.isnan(ids) if ids.dtype.kind == "f" else np.zeros(len(ids), dtype=bool)
        keys = np.where(alone, -1 - np.arange(len(ids)), np.nan_to_num(ids.astype(np.float64))).astype(np.int64)
        _, first, own = np.unique(keys, return_index=True, return_inverse=True)
        order = np.argsort(first)
        place_of = np.empty(len(order), dtype=np.int64)
        place_of[order] = np.arange(len(order))
        self._first = first[order]
        own = place_of[own]
        places = np.nan_to_num(index.table.column("place").to_numpy().astype(np.float64))
        self._sorted = np.lexsort((places, own))
        self._ends = np.cumsum(np.bincount(own, minlength=len(first)))

    def __len__(self) -> int:
        return len(self._first)

    def column(self, name: str) -> np.ndarray:
        """Return a text of each caption, (C,) of str, empty where it is not known."""
        values = self._index.table.column(name).take(self._first).to_pylist()
        return np.asarray([value or "" for value in values], dtype=object)

    @cached_property
    def _said(self) -> list[str]:
        """Caption and concept of each entry, folded once: folding 25,000 texts takes longer than searching them."""
        concepts = {name: folded(name) for name in set(self._texts["concept"])}
        pairs = zip(self._texts["caption"], self._texts["concept"], strict=True)
        return [f"{folded(caption)}\n{concepts[concept]}" for caption, concept in pairs]

    @cached_property
    def _texts(self) -> dict[str, np.ndarray]:
        return {name: self.column(name) for name in ("caption", "concept", "template", "source")}

    def find(
        self,
        text: str = "",
        concepts: Sequence[str] = (),
        templates: Sequence[str] = (),
        sources: Sequence[str] = (),
        page: int = 1,
    ) -> CaptionPage:
        """Return a page of the captions that fit, in the order of the index.

        Args:
            text: words that all occur in the caption or its concept, as the beginning of a word, whatever the case and
                the accents; `"a phrase"` occurs as it stands; `-word` does not occur. Commas and the like after a
                word, and the quotes and dashes that phones put in, do not matter.
            concepts: allowed concepts; default: all, likewise the next two.
            templates: allowed templates.
            sources: allowed sources.
            page: from 1; beyond the last: the last.

        Raises:
            UserInputError: the query is too long, or there is no such concept, template or source.
        """
        fits = self._fitting(read_query(text), concept=concepts, template=templates, source=sources)
        found = np.flatnonzero(fits)
        pages = max(1, -(-len(found) // A_PAGE))
        page = min(max(1, int(page)), pages)
        shown = found[(page - 1) * A_PAGE : page * A_PAGE]
        return CaptionPage([self.entry(int(place)) for place in shown], page, pages, len(found))

    def entry(self, place: int) -> CaptionEntry:
        """Return caption number `place` of the index, counted from 0 in the order of the rows."""
        start = self._ends[place - 1] if place else 0
        rows = tuple(int(row) for row in self._sorted[start : self._ends[place]])
        told = self._index.picture(rows[0])
        return CaptionEntry(told.caption_id, told.caption, told.concept, told.template, told.source, rows)

    def statistics(self) -> dict[str, Any]:
        """Return counts of what the index holds, as plain values."""
        concepts = self._texts["concept"]
        names, counts = np.unique(concepts[concepts != ""].astype(str), return_counts=True)
        order = np.lexsort((names, -counts))
        lengths = np.asarray([len(text.split()) for text in self._texts["caption"] if text])
        return {
            "pictures": len(self._index),
            "captions": int((self._texts["caption"] != "").sum()),
            "concepts": len(names),
            "captions_a_concept": {str(names[place]): int(counts[place]) for place in order},
            "templates": _counted(self._texts["template"]),
            "sources": _counted(self._texts["source"]),
            "words_a_caption": {
                "least": int(lengths.min()),
                "mean": round(float(lengths.mean()), 2),
                "most": int(lengths.max()),
            }
            if len(lengths)
            else {},
        }

    def _fitting(self, query: Query, **allowed: Sequence[str]) -> np.ndarray:
        fits = np.ones(len(self), dtype=bool)
        for column, names in allowed.items():
            if not names:
                continue
            known = set(self._index.distinct(column))
            for name in names:
                if name not in known:
                    raise unknown_name(column, name, sorted(known)[:20], "one of those in the list")
            fits &= np.isin(self._texts[column].astype(str), list(names))
        if query.is_empty:
            return fits
        for place in np.flatnonzero(fits):
            fits[place] = query.fits(self._said[place])
        return fits


@dataclass(frozen=True)
class Query:
    """What a caption must and must not say, as beginnings of words; texts are folded.

    Attributes:
        wanted: texts that all occur.
        unwanted: texts of which none occurs.
    """

    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether it fits everything."""
        return not self.wanted and not self.unwanted

    def fits(self, said: str) -> bool:
        """Tell whether a folded text fits."""
        return all(_begins(one, said) for one in self.wanted) and not any(_begins(one, said) for one in self.unwanted)


def read_query(text: str) -> Query:
    """Read what somebody typed into the search box; see `Browser.find`.

    Raises:
        UserInputError: it is too long.
    """
    if len(text) > _LONGEST_QUERY:
        raise UserInputError(f"this is too long to search for; type up to {_LONGEST_QUERY} characters")
    wanted, unwanted = [], []
    for found in _WORDS.finditer(folded(text)):
        said = found["phrase"] if found["phrase"] is not None else found["word"].rstrip(_BETWEEN_WORDS)
        if (said := " ".join(said.split())).strip("-"):
            (unwanted if found["minus"] else wanted).append(said)
    if len(wanted) + len(unwanted) > MOST_WORDS:
        raise UserInputError(f"these are too many words; type up to {MOST_WORDS}")
    return Query(tuple(wanted), tuple(unwanted))


def folded(text: str) -> str:
    """Return a text without case and accents, with plain quotes and dashes, and one space between words."""
    text = str(text).translate(_AS_TYPED)
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text)
        text = "".join(part for part in parts if not unicodedata.combining(part))
    return " ".join(text.casefold().split())


def _begins(beginning: str, said: str) -> bool:
    """Tell whether a word of a text, or several in a row, begin so."""
    place = said.find(beginning)
    while place > 0 and _is_of_a_word(said[place - 1]):
        place = said.find(beginning, place + 1)
    return place >= 0


def _is_of_a_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"


def _counted(texts: np.ndarray) -> dict[str, int]:
    names, counts = np.unique(texts[texts != ""].astype(str), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}
