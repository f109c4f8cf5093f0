"""Makes the rows of an index: every picture is decoded once, for its thumbnail and for all encoders."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from synclr_hf.data.pictures import DECODING_ERRORS, open_picture
from synclr_hf.data.shards import Row, ShardTask
from synclr_hf.data.tally import Tally
from synclr_hf.data.workers import Report, usable_cores
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.encoders import Encoder, device_features, evaluating, normalised
from synclr_hf.evaluation.encoding.features import MOST_UNREADABLE, standardised_pixels
from synclr_hf.evaluation.labelled.pictures import resize_and_crop
from synclr_hf.explorer.index.schema import embedding_column
from synclr_hf.explorer.index.sources import IndexSource
from synclr_hf.explorer.index.thumbnails import thumbnail

UNREADABLE = "unreadable"
"""Reason under which pictures that cannot be decoded are counted."""
BATCH = 64
"""Pictures of one forward pass."""
_AHEAD = 2
_ALWAYS_ALLOWED = 20
"""Pictures that may be unreadable whatever their share."""


@dataclass
class _Prepared:
    thumbnail: bytes
    pixels: list[np.ndarray]


@dataclass
class IndexMaker:
    """Makes the rows of a shard.

    Attributes:
        source: the pictures.
        encoders: whose features are stored.
        thumbnail_size: longest side of the stored pictures in pixels.
        heard: is told how many of how many pictures are done.
    """

    source: IndexSource
    encoders: Sequence[Encoder]
    thumbnail_size: int
    heard: Callable[[int, int], None] | None = None
    _read: int = field(default=0, init=False)
    _unreadable: int = field(default=0, init=False)

    def load(self) -> None:
        """Do nothing: the encoders were loaded to know whose index it is."""

    def make(self, task: ShardTask, tally: Tally, report: Report) -> Iterator[Row]:
        """Yield the rows of the pictures that can be decoded, in order; the next ones are decoded meanwhile."""
        last = task.first_row + task.num_rows
        batches = [range(start, min(start + BATCH, last)) for start in range(task.first_row, last, BATCH)]
        with ExitStack() as held:
            pool = held.enter_context(ThreadPoolExecutor(max(2, usable_cores())))
            for encoder in self.encoders:
                if encoder.model is not None:
                    held.enter_context(evaluating(encoder.model))
            waiting: deque[tuple[range, list[Future[_Prepared | None]]]] = deque()
            remaining = iter(batches)
            for _ in range(len(batches) + _AHEAD):
                places = next(remaining, None)
                if places is not None:
                    waiting.append((places, [pool.submit(self._prepare, self.source.pictures[k]) for k in places]))
                if waiting and (len(waiting) > _AHEAD or places is None):
                    yield from self._rows(*waiting.popleft(), tally, report)

    def _rows(
        self, places: range, futures: Sequence[Future[_Prepared | None]], tally: Tally, report: Report
    ) -> Iterator[Row]:
        prepared = [future.result() for future in futures]
        readable = [k for k, one in enumerate(prepared) if one is not None]
        self._count(len(prepared), len(prepared) - len(readable), places)
        tally.dropped += len(prepared) - len(readable)
        if len(readable) < len(prepared):
            tally.counts[UNREADABLE] += len(prepared) - len(readable)
        good = [one for one in prepared if one is not None]
        features = [self._features(number, good) for number in range(len(self.encoders))] if good else []
        for k, place in enumerate(readable):
            row = self.source.row(places[place])
            row["image"] = {"bytes": good[k].thumbnail, "path": None}
            row |= {embedding_column(number): rows[k] for number, rows in enumerate(features)}
            yield row
        report(len(places))
        if self.heard is not None:
            self.heard(places.stop, len(self.source))

    def _prepare(self, picture: object) -> _Prepared | None:
        try:
            image = open_picture(picture)  # type: ignore[arg-type]
            pixels = [
                np.asarray(resize_and_crop(image, encoder.image_size, encoder.resizing)) for encoder in self.encoders
            ]
            return _Prepared(thumbnail(picture, image, self.thumbnail_size), pixels)  # type: ignore[arg-type]
        except DECODING_ERRORS:
            return None

    def _features(self, number: int, prepared: Sequence[_Prepared]) -> np.ndarray:
        """Return unit features of one encoder, (n, D) float16."""
        encoder = self.encoders[number]
        pixels = np.stack([one.pixels[number] for one in prepared])
        if encoder.model is None:
            features = torch.from_numpy(standardised_pixels(pixels))
        else:
            values = torch.from_numpy(pixels).to(encoder.model.device)
            features = (
                device_features(encoder, normalised(values, encoder.image_mean, encoder.image_std)).float().cpu()
            )
        if not features.isfinite().all():
            raise UserInputError(
                f"'{encoder.name}' gives NaN or infinite features; check its weights, or leave this --model out"
            )
        return F.normalize(features, dim=1).half().numpy()

    def _count(self, read: int, unreadable: int, places: range) -> None:
        self._read += read
        self._unreadable += unreadable
        allowed = max(_ALWAYS_ALLOWED, MOST_UNREADABLE * self._read)
        if self._unreadable > allowed or self._unreadable == len(self.source):
            raise UserInputError(
                f"{self._unreadable} of the first {self._read} pictures of '{self.source.name}' cannot be read (the "
                f"last among pictures {places.start} to {places.stop - 1}); {MOST_UNREADABLE:.0%} are allowed: mend "
                "or remove them"
            )
