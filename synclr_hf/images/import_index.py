"""What an import knows of its source before it reads a picture: where all lies, and which captions are equal."""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

UNKNOWN_SEED = -1
"""Stands in the column `seeds` for a picture whose seed nobody wrote down."""

CAPTION_NAMES = ("caption", "text", "prompt", "txt", "description", "sentence", "title", "alt_text")
"""Names that a column of captions goes by, the likeliest first."""
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")

LARGEST_FILE = 2**28
"""Bytes of an encoded picture; what is larger is not read."""

_OPEN_FILES = 64


@dataclass(frozen=True)
class FoundPicture:
    """A picture of a source, not read yet.

    Attributes:
        name: what the source calls it; stands in `provenance`.
        read: returns its encoded bytes (`OSError` if it is not there).
        seed: the seed that it was drawn with, or `UNKNOWN_SEED`.
    """

    name: str
    read: Callable[[], bytes]
    seed: int = UNKNOWN_SEED


@dataclass(frozen=True)
class Entry:
    """What a source has in one place: a caption, and pictures of it.

    Attributes:
        caption: as `one_line` returns it.
        pictures: in their order.
        concept: the concept that the caption is about, if it is told.
        source: where the concept or the picture is from, if it is told.
    """

    caption: str
    pictures: Sequence[FoundPicture]
    concept: str | None = None
    source: str | None = None


class Source(Protocol):
    """Pictures and captions made elsewhere; it can be pickled, and read from several processes.

    Attributes:
        name: its name in the rows and on the card, without folders of this machine.
    """

    name: str

    def index(self, index: Index) -> None:
        """Add every entry that has a picture, in order, without reading pictures."""
        ...

    def read(self, place: Sequence[int]) -> Entry:
        """Return the entry at a place that `index` was told."""
        ...

    def close(self) -> None:
        """Close files that are open; they are opened again when something is read."""
        ...


def one_line(text: object) -> str:
    """Return a caption without line breaks and doubled spaces, fit for UTF-8; captions are compared like this."""
    return "" if text is None else " ".join(str(text).split()).encode("utf-8", "replace").decode()


class Index:
    """The entries of a source as numbers: a checksum of the caption, the count of pictures, and the place.

    Attributes:
        counts: what was left out, by reason.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._numbers = array("q")
        self._width = 0
        self._digest = blake2b(digest_size=16)

    def add(self, caption: str, place: Sequence[int], contents: object, pictures: int = 1) -> None:
        """Add an entry; one without a caption is counted as `empty_caption`, one without pictures is left out.

        Args:
            caption: as `one_line` returns it.
            place: where `Source.read` finds it, the same count of numbers for all entries.
            contents: what tells the pictures from others, e.g. names and sizes; decides the fingerprint.
            pictures: the number of its pictures.
        """
        if not caption:
            self.counts["empty_caption"] += pictures
        elif pictures:
            checksum = blake2b(caption.encode(), digest_size=8).digest()
            self._digest.update(checksum + repr((contents, pictures)).encode("utf-8", "surrogatepass"))
            self._numbers.append(int.from_bytes(checksum, signed=True))
            self._numbers.append(pictures)
            self._numbers.extend(place)
            self._width = 2 + len(place)

    def groups(self) -> Groups:
        """Put entries of the same caption together, in the order in which captions come up first."""
        if not self._width:
            nothing = np.zeros(0, np.int64)
            return Groups(nothing[:, None], nothing, np.zeros(1, np.int64), 0, self._digest.hexdigest())
        table = np.frombuffer(self._numbers, dtype=np.int64).reshape(-1, self._width)
        _, first, member = np.unique(table[:, 0], return_index=True, return_inverse=True)
        several = np.bincount(member, weights=table[:, 1]) >= 2
        by_appearance = np.argsort(first)
        by_appearance = by_appearance[several[by_appearance]]
        rank = np.full(len(first), -1, dtype=np.int64)
        rank[by_appearance] = np.arange(len(by_appearance))
        ranks = rank[member]
        order = np.argsort(ranks, kind="stable")[np.count_nonzero(ranks < 0) :]
        sizes = np.bincount(ranks[ranks >= 0], minlength=len(by_appearance))
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        single = int(np.count_nonzero(~several))
        return Groups(table[order, 2:], table[order, 1], starts, single, self._digest.hexdigest())


@dataclass(frozen=True)
class Groups:
    """The captions of a source that have two pictures or more.

    Attributes:
        places: `(entries, numbers of a place)` int64, caption by caption.
        pictures: `(entries,)` int64, the number of pictures of each.
        starts: `(captions + 1,)` int64, the first entry of each caption, and the end.
        single: number of captions with a single picture, which are not among these.
        fingerprint: same captions, places and contents, same fingerprint.
    """

    places: np.ndarray
    pictures: np.ndarray
    starts: np.ndarray
    single: int
    fingerprint: str

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def left_out(self) -> Counter[str]:
        """What has no row, by reason."""
        return Counter(single_picture=self.single)

    def of(self, number: int) -> tuple[list[list[int]], int]:
        """Return the places of a caption, and how many pictures it has there."""
        entries = slice(self.starts[number], self.starts[number + 1])
        return self.places[entries].tolist(), int(self.pictures[entries].sum())


class OpenFiles:
    """Files that are read in any order; the last few stay open, and copies in other processes open their own.

    Args:
        paths: the files by number.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self._open: OrderedDict[int, BinaryIO] = OrderedDict()

    def __getitem__(self, number: int) -> BinaryIO:
        if number not in self._open:
            self._open[number] = open(self.paths[number], "rb")  # noqa: SIM115 - it stays open
            if len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(number)
        return self._open[number]

    def close(self) -> None:
        """Close those that are open."""
        while self._open:
            self._open.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths, "_open": OrderedDict()}


def seed_of(value: object) -> int:
    """Return a recorded seed as a number, or `UNKNOWN_SEED` where it is none that fits into 64 bits."""
    try:
        seed = int(str(value))
    except ValueError:
        return UNKNOWN_SEED
    return seed if -(2**63) <= seed < 2**63 else UNKNOWN_SEED
