"""From a row to its decoded pictures, or to those of the next row that has them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synclr_hf.data.pictures import DECODING_ERRORS
from synclr_hf.errors import UserInputError

logger = logging.getLogger(__name__)

ALWAYS_ALLOWED = 20
"""Rows that may be unreadable whatever their share: one of the first ten is no reason to stop."""


@dataclass(frozen=True)
class DecodedRow:
    """A caption with the pictures that are used of it.

    Attributes:
        row: the row as it was read.
        places: `(N,)` int64, which of its pictures they are, ascending.
        views: what was made of the N pictures.
        replaced: whether it stands in the place of a row that cannot be used.
    """

    row: dict[str, Any]
    places: np.ndarray
    views: Any
    replaced: bool


class RowDecoder:
    """Decodes rows, replaces those that cannot be used by the next, and stops where there are too many of them.

    Args:
        rows: image rows by number, with undecoded pictures.
        num_images: pictures of each caption that are used.
        max_unreadable_share: of the rows that this process was asked for, never fewer than `ALWAYS_ALLOWED` rows.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], num_images: int, max_unreadable_share: float) -> None:
        self.rows, self.num_images, self.max_unreadable_share = rows, num_images, max_unreadable_share
        self._read = self._unreadable = 0

    def decode(self, index: int, rng: np.random.Generator, views_of: Callable[[list[Any]], Any]) -> DecodedRow:
        """Return row `index`, or the next that can be used.

        Args:
            index: number of the row.
            rng: draws the pictures where there are more than used.
            views_of: decodes the N undecoded pictures of a row and returns what is wanted of them; the next row is
                tried when it raises one of `DECODING_ERRORS`.

        Raises:
            UserInputError: no row can be used, or too many cannot.
        """
        self._read += 1
        for skipped in range(len(self.rows)):
            row = self.rows[(index + skipped) % len(self.rows)]
            try:
                places, pictures = self._pictures(row["images"] or [], rng)
                return DecodedRow(row, places, views_of(pictures), replaced=skipped > 0)
            except DECODING_ERRORS as error:
                self._unreadable += skipped == 0
                self._check(row["caption_id"], error, skipped)
        raise UserInputError("no row of the image set has pictures that decode; make the set again")

    def _pictures(self, pictures: list[Any], rng: np.random.Generator) -> tuple[np.ndarray, list[Any]]:
        if len(pictures) < self.num_images:
            raise OSError(f"{len(pictures)} of {self.num_images} pictures")
        places = np.arange(self.num_images)
        if len(pictures) > self.num_images:
            places = np.sort(rng.choice(len(pictures), self.num_images, replace=False))
        return places, [pictures[place] for place in places]

    def _check(self, caption_id: int, error: Exception, skipped: int) -> None:
        """Stop where too many rows could not be used: of those that were asked for, or one after the other."""
        logger.warning("caption %s: its pictures cannot be read (%s); the next row stands in", caption_id, error)
        unreadable, read = max(self._unreadable, skipped + 1), self._read + skipped
        if unreadable > max(ALWAYS_ALLOWED, self.max_unreadable_share * read):
            raise UserInputError(
                f"the pictures of {unreadable} of {read} rows cannot be read, such as caption {caption_id} ({error}); "
                "make the images set again, or allow a larger share: type max_unreadable_share: 0.5"
            )
