"""Labelled pictures in memory or read one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from synclr_hf.data.pictures import Picture
from synclr_hf.data.seeds import seed_for
from synclr_hf.evaluation.labelled.splits import stratification_classes


@dataclass(frozen=True)
class LabelledImages:
    """Pictures with one class each, or with any number of classes.

    Attributes:
        pictures: read one by one when they are needed, still encoded.
        labels: (N,) int64, indices into `label_names`; or (N, C) float32 multi-hot, 1 where a class is there.
        label_names: name of each class, the same on the train and the test side.
        groups: (N,) int64; pictures with the same id belong together (drawn from one caption).
        fingerprint: changes when the pictures or their labels change.
    """

    pictures: Sequence[Picture]
    labels: np.ndarray
    label_names: tuple[str, ...]
    groups: np.ndarray
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, rows: Sequence[int] | np.ndarray) -> LabelledImages:
        """Return the chosen rows, in the given order."""
        rows = np.asarray(rows, dtype=np.int64)
        mark = blake2b(rows.tobytes(), digest_size=8).hexdigest()
        return LabelledImages(
            pictures=Chosen(self.pictures, rows),
            labels=self.labels[rows],
            label_names=self.label_names,
            groups=self.groups[rows],
            fingerprint=f"{self.fingerprint}-{mark}",
        )

    def at_most(self, count: int, *, seed: int) -> LabelledImages:
        """Return `count` rows with the classes as even as they can be, or all rows if there are no more.

        A picture with several classes counts to its rarest one.
        """
        if len(self) <= count:
            return self
        order = np.random.default_rng(seed_for(seed, "at most")).permutation(len(self))
        classes = stratification_classes(self.labels)
        seen = np.zeros(len(self.label_names) + 1, dtype=np.int64)
        turn = np.zeros(len(self), dtype=np.int64)  # how many of its class come before a row in the order
        for row in order:
            turn[row] = seen[classes[row]]
            seen[classes[row]] += 1
        kept = order[np.argsort(turn[order], kind="stable")[:count]]
        return self.rows(np.sort(kept))


def labelled_pictures(
    pictures: Sequence[Picture],
    labels: Sequence[int] | np.ndarray,
    label_names: Sequence[str],
    groups: Sequence[int] | None = None,
) -> LabelledImages:
    """Make `LabelledImages` of pictures in memory; every picture is a group of its own unless `groups` is given."""
    labels = np.asarray(labels)
    labels = labels.astype(np.float32 if labels.ndim == 2 else np.int64)
    digest = blake2b(repr((list(label_names), labels.tolist())).encode(), digest_size=16)
    for picture in pictures:
        digest.update(_picture_bytes(picture))
    return LabelledImages(
        pictures=pictures,
        labels=labels,
        label_names=tuple(label_names),
        groups=np.arange(len(labels)) if groups is None else np.asarray(groups, dtype=np.int64),
        fingerprint=digest.hexdigest(),
    )


class Chosen(Sequence[Any]):
    """Rows of another sequence, read when they are asked for."""

    def __init__(self, items: Sequence[Any], rows: np.ndarray) -> None:
        self._items, self._rows = items, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> Any:
        return self._items[int(self._rows[place])]


def _picture_bytes(picture: Picture) -> bytes:
    if isinstance(picture, Image.Image):
        return repr((picture.mode, picture.size)).encode() + picture.tobytes()
    if isinstance(picture, dict):
        picture = picture["bytes"] if picture.get("bytes") is not None else picture["path"]
    return picture if isinstance(picture, bytes) else Path(picture).read_bytes()
