"""What pictures are like, and how alike those of one caption are: a sample is looked at row by row."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from operator import itemgetter

import numpy as np
from PIL import Image

from synclr_hf.data.pictures import DECODING_ERRORS, open_picture
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.shards import Row
from synclr_hf.images.quality import Look, difference, look_at

NUM_SHOWN = 12
PICTURES_SHOWN = 6
_COMPARED = 8


@dataclass(frozen=True)
class ShownRow:
    """A caption with its pictures, to be looked at.

    Attributes:
        caption: the caption.
        concept: what it is about.
        pictures: the first `PICTURES_SHOWN` of its pictures, encoded.
        value: how varied the pictures are, or their lowest score; `None` for rows that were chosen at random.
    """

    caption: str
    concept: str
    pictures: tuple[bytes, ...]
    value: float | None = None


@dataclass(frozen=True)
class PictureSample:
    """The pictures of some rows.

    Attributes:
        rows: number of rows.
        pictures: number of their pictures that can be read.
        unreadable: number of those that cannot.
        kilobytes: size of a picture in kB, rounded up -> pictures.
        sizes: `256 x 256` -> pictures of that many pixels, most frequent first.
        brightness: (pictures,) mean of the luminance (ITU-R 601), 0 (black) to 255 (white).
        contrast: (pictures,) standard deviation of the luminance, 0 (one grey) to 127.5.
        within: (rows,) mean distance of the pictures of one caption; rows with one picture have none. The distance of
            two pictures is the mean difference of their grey thumbnails of 16 pixels, 0 (the same) to 255;
            of a caption the first `_COMPARED` pictures are compared, every pair.
        between: (rows - 1,) the same of the first pictures of two captions that follow each other in the sample.
        examples: rows chosen by seed, no concept twice while there are others.
        least_varied: the rows whose pictures are most alike, the most alike first.
        lowest_scored: the rows with the pictures that show their caption worst, the worst first.
    """

    rows: int
    pictures: int
    unreadable: int
    kilobytes: Mapping[int, int]
    sizes: Mapping[str, int]
    brightness: np.ndarray
    contrast: np.ndarray
    within: np.ndarray
    between: np.ndarray
    examples: tuple[ShownRow, ...]
    least_varied: tuple[ShownRow, ...]
    lowest_scored: tuple[ShownRow, ...]


def picture_sample(rows: Iterable[Row], *, seed: int = 0) -> PictureSample:
    """Look at the pictures of some rows, one row at a time.

    Args:
        rows: image rows with encoded pictures.
        seed: decides which rows become examples.
    """
    found = _Found(seed)
    for row in rows:
        found.add(row)
    return PictureSample(
        rows=found.rows,
        pictures=len(found.brightness),
        unreadable=found.unreadable,
        kilobytes=dict(sorted(found.kilobytes.items())),
        sizes=ranked(found.sizes),
        brightness=np.array(found.brightness),
        contrast=np.array(found.contrast),
        within=np.array(found.within),
        between=np.array(found.between),
        examples=tuple(found.chosen()),
        least_varied=tuple(shown for _, _, shown in found.least_varied),
        lowest_scored=tuple(shown for _, _, shown in found.lowest_scored),
    )


class _Found:
    """What was seen of a sample so far."""

    def __init__(self, seed: int) -> None:
        self.seed, self.rows, self.unreadable = seed, 0, 0
        self.kilobytes: Counter[int] = Counter()
        self.sizes: Counter[str] = Counter()
        self.brightness: list[float] = []
        self.contrast: list[float] = []
        self.within: list[float] = []
        self.between: list[float] = []
        self.drawn: list[tuple[float, int, ShownRow]] = []
        self.of_concepts: dict[str, tuple[int, int, ShownRow]] = {}
        self.least_varied: list[tuple[float, int, ShownRow]] = []
        self.lowest_scored: list[tuple[float, int, ShownRow]] = []
        self._first: Look | None = None

    def add(self, row: Row) -> None:
        """Look at the pictures of a row, and keep them if it is to be shown."""
        self.rows += 1
        looks, readable = [], []
        for picture in row["images"] or ():
            try:
                image = open_picture(picture["bytes"])
            except (*DECODING_ERRORS, TypeError):  # a null in place of a picture
                self.unreadable += 1
                continue
            readable.append(picture["bytes"])
            self._look(image, len(picture["bytes"]))
            if len(looks) < _COMPARED:
                looks.append(look_at(image))
        if not readable:
            return
        if self._first is not None:
            self.between.append(difference(self._first, looks[0]))
        self._first = looks[0]
        shown = ShownRow(row["caption"] or "", row["concept"] or "", tuple(readable[:PICTURES_SHOWN]))
        self._keep_example(row, shown)
        if len(looks) > 1:
            self.within.append(float(np.mean([difference(one, other) for one, other in combinations(looks, 2)])))
            _keep_lowest(self.least_varied, self.within[-1], self.rows, replace(shown, value=self.within[-1]))
        scores = [score for score in row.get("scores") or () if score is not None and np.isfinite(score)]
        if scores:
            _keep_lowest(self.lowest_scored, min(scores), self.rows, replace(shown, value=min(scores)))

    def _look(self, image: Image.Image, num_bytes: int) -> None:
        self.kilobytes[-(-num_bytes // 1000)] += 1
        self.sizes[f"{image.width} x {image.height}"] += 1
        luminance = np.asarray(image.convert("L"))
        self.brightness.append(float(luminance.mean()))
        self.contrast.append(float(luminance.std()))

    def _keep_example(self, row: Row, shown: ShownRow) -> None:
        """Keep the rows that come first by seed, and those of the concepts whose rows come first."""
        order = seed_for(self.seed, "example", row["caption_id"] or 0)
        _keep_lowest(self.drawn, order, self.rows, shown)
        if order < self.of_concepts.get(shown.concept, (order + 1,))[0]:
            self.of_concepts[shown.concept] = (order, self.rows, shown)
        if len(self.of_concepts) > NUM_SHOWN:
            del self.of_concepts[max(self.of_concepts, key=lambda concept: self.of_concepts[concept][0])]

    def chosen(self) -> list[ShownRow]:
        """Return the examples: first one row a concept, then any."""
        of_concepts = {number: shown for _, number, shown in sorted(self.of_concepts.values(), key=itemgetter(0))}
        return list({**of_concepts, **{n: s for _, n, s in self.drawn if n not in of_concepts}}.values())[:NUM_SHOWN]


def ranked(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts with the largest first, equal ones by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _keep_lowest(kept: list[tuple[float, int, ShownRow]], value: float, number: int, shown: ShownRow) -> None:
    insort(kept, (value, number, shown), key=itemgetter(0, 1))
    del kept[NUM_SHOWN:]
