"""Frozen features: one row a picture, computed once and kept on disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from synclr_hf.data.pictures import DECODING_ERRORS, Picture, open_picture
from synclr_hf.data.progress import Progress
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.encoders import (
    Encoder,
    device_features,
    evaluating,
    normalised,
)
from synclr_hf.evaluation.encoding.feature_store import PICTURES_A_PIECE, FeatureStore
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.evaluation.labelled.pictures import prepared_places

MOST_UNREADABLE = 0.05
"""Share of the pictures that may be unreadable."""
_CACHE_VERSION = "3"


@dataclass(frozen=True)
class FeatureTable:
    """One feature vector a picture, with what the evaluations need to know of it.

    Attributes:
        features: (N, D) float32 (float16 where they are stored so) on the CPU, what describes each picture. Those of a
            cache are a memory map: read where they are used, and never written back.
        labels: (N,) int64, indices into `label_names`; or (N, C) float, 1 for every class that a picture shows.
        groups: (N,) int64, pictures with the same id belong together.
        rows: (N,) int64, the place of each picture in the data it came from.
        label_names: name of each class.
        unreadable: pictures that could not be decoded and are missing here.
    """

    features: Tensor
    labels: Tensor
    groups: Tensor
    rows: Tensor
    label_names: tuple[str, ...]
    unreadable: int = 0

    def __len__(self) -> int:
        return len(self.labels)


def encoder_features(
    encoder: Encoder,
    data: LabelledImages,
    *,
    cache_dir: str | Path | None = None,
    description: str = "features",
    most_unreadable: float = MOST_UNREADABLE,
    store_dtype: torch.dtype = torch.float32,
) -> FeatureTable:
    """Describe every picture by an encoder, or by its own pixels.

    Pictures are read one after another; the next batches are decoded while the model works. In `cache_dir` pieces are
    kept as they come, so that what is interrupted goes on where it was, and the table at the end.

    Args:
        encoder: the model with everything that decides its features; put back into its mode afterwards.
        data: the pictures and their classes.
        cache_dir: folder of computed tables. One is used again when the weights, the settings of the encoder, the
            pictures and `store_dtype` are the same.
        description: what the progress bar says.
        most_unreadable: share of the pictures that may be unreadable, in [0, 1]; they are left out and counted.
        store_dtype: float32, or float16 for half the room (relative error 5e-4) where a table is very large.

    Raises:
        UserInputError: there is no picture, too many cannot be read, or features are NaN or infinite.
    """
    if len(data) == 0:
        raise UserInputError(
            f"there are no pictures to describe ({description}); give a data set with some on each side"
        )
    store = None
    if cache_dir is not None:
        store = FeatureStore(Path(cache_dir) / f"features-{_key(encoder, data, store_dtype)}.safetensors", store_dtype)
    found = store.read() if store else None
    if found is None:
        found = _computed(encoder, data, store, description, most_unreadable, store_dtype)
    rows, features = found
    kept = rows.numpy()
    missing = np.setdiff1d(np.arange(len(data)), kept, assume_unique=True)
    _check_readable(data, missing.tolist(), most_unreadable)
    return FeatureTable(
        features=features,
        labels=torch.from_numpy(data.labels[kept]),
        groups=torch.from_numpy(data.groups[kept]),
        rows=rows,
        label_names=data.label_names,
        unreadable=len(missing),
    )


def standardised_pixels(pixels: np.ndarray) -> np.ndarray:
    """Flatten pixels and standardise each picture by its own mean and standard deviation.

    Mean and deviation are taken over all pixels and channels of a picture: light and contrast go, colour stays, and
    the cosine of two such vectors is the correlation of the two pictures.

    Args:
        pixels: (N, size, size, 3) uint8.

    Returns:
        (N, size * size * 3) float32; zeros for a picture of one grey.
    """
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)
    centred = flat - flat.mean(axis=1, keepdims=True)
    return centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-6)


def _computed(
    encoder: Encoder,
    data: LabelledImages,
    store: FeatureStore | None,
    description: str,
    most_unreadable: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Describe the pictures that no piece on disk holds; return rows (N,) and features (N, D) of all."""
    starts = range(0, len(data), PICTURES_A_PIECE)
    pieces = [range(start, min(start + PICTURES_A_PIECE, len(data))) for start in starts]
    missing = {number: piece for number, piece in enumerate(pieces) if store is None or not store.has_piece(number)}
    in_memory = _MemoryTable(len(data), dtype)
    unreadable: list[int] = []

    def keep(number: int, rows: np.ndarray, features: Tensor) -> None:
        unreadable.extend(np.setdiff1d(np.asarray(pieces[number]), rows, assume_unique=True).tolist())
        _check_readable(data, unreadable, most_unreadable)
        _check_finite(encoder, features, description, dtype)
        if store is None:
            in_memory.add(rows, features)
        else:
            store.write_piece(number, rows, features)

    before = len(data) - sum(map(len, missing.values()))
    with Progress(description, total=len(data), unit="picture", initial=before) as bar:
        _describe(encoder, data, missing, keep, bar)
    return in_memory.table() if store is None else store.finish(len(pieces))


def _describe(
    encoder: Encoder,
    data: LabelledImages,
    pieces: Mapping[int, range],
    keep: Callable[[int, np.ndarray, Tensor], None],
    bar: Progress,
) -> None:
    """Describe the pictures of some pieces and hand each piece to `keep`: number, rows (n,), features (n, D) float32.

    Decoding runs beside the model on other threads. On CUDA nothing waits for the device before a piece is complete.
    """
    size = encoder.batch_size
    batches = [
        (number, range(start, min(start + size, piece.stop)))
        for number, piece in pieces.items()
        for start in range(piece.start, piece.stop, size)
    ]
    device = torch.device("cpu") if encoder.model is None else encoder.model.device
    mean, std = (torch.tensor(values).to(device) for values in (encoder.image_mean, encoder.image_std))
    prepared = prepared_places(
        data.pictures,
        [places for _, places in batches],
        size=encoder.image_size,
        resizing=encoder.resizing,
        is_pinned=device.type == "cuda",
    )
    rows: list[np.ndarray] = []
    features: list[Tensor] = []
    with contextlib.closing(prepared), contextlib.ExitStack() as mode:
        if encoder.model is not None:
            mode.enter_context(evaluating(encoder.model))
        for (number, places), (readable, pixels) in zip(batches, prepared, strict=True):
            rows.append(readable)
            if len(readable) and encoder.model is None:
                features.append(torch.from_numpy(standardised_pixels(pixels.numpy())))
            elif len(readable):
                values = normalised(pixels.to(device, non_blocking=device.type == "cuda"), mean, std)
                features.append(device_features(encoder, values).float())
            bar.update(len(places))
            if places.stop == pieces[number].stop:
                whole = torch.cat(features).cpu() if features else torch.zeros(0, 0)
                keep(number, np.concatenate(rows), whole)
                rows, features = [], []


class _MemoryTable:
    """A table that grows piece by piece in memory, without a second copy of it."""

    def __init__(self, count: int, dtype: torch.dtype) -> None:
        self._count, self._dtype = count, dtype
        self._rows: list[np.ndarray] = []
        self._features: Tensor | None = None
        self._filled = 0

    def add(self, rows: np.ndarray, features: Tensor) -> None:
        """Append rows (n,) and their features (n, D)."""
        if len(rows) == 0:
            return
        if self._features is None:
            self._features = torch.empty(self._count, features.shape[1], dtype=self._dtype)
        self._features[self._filled : self._filled + len(rows)] = features
        self._filled += len(rows)
        self._rows.append(rows)

    def table(self) -> tuple[Tensor, Tensor]:
        """Return rows (N,) and features (N, D)."""
        if self._features is None:
            return torch.zeros(0, dtype=torch.int64), torch.zeros(0, 0, dtype=self._dtype)
        return torch.from_numpy(np.concatenate(self._rows)), self._features[: self._filled]


def _check_finite(encoder: Encoder, features: Tensor, description: str, dtype: torch.dtype) -> None:
    """Refuse features that are NaN or infinite, or become so in the type that they are stored in."""
    bad = int((~torch.isfinite(features.to(dtype))).any(dim=1).sum())
    if bad == 0:
        return
    weights = [] if encoder.model is None else encoder.model.parameters()
    if not all(bool(torch.isfinite(weight).all()) for weight in weights):
        cause = "its weights hold NaN or infinite numbers: the training diverged or the file is damaged; give another"
    elif torch.isfinite(features).all():
        cause = "they do not fit into float16; keep them in float32"
    elif encoder.model is not None and encoder.model.dtype != torch.float32:
        name = str(encoder.model.dtype).removeprefix("torch.")
        cause = f"numbers overflow in {name}; type --dtype float32"
    else:
        cause = "numbers overflow inside the model; check its weights and its image processor (mean and deviation)"
    raise UserInputError(
        f"'{encoder.name}' gives NaN or infinite features for {bad} of {len(features)} pictures ({description}): "
        f"{cause}"
    )


def _check_readable(data: LabelledImages, unreadable: Sequence[int], most: float) -> None:
    """Refuse data of which too many pictures cannot be read."""
    if len(unreadable) == len(data):
        raise UserInputError(
            f"none of the {len(data)} pictures can be read; needed: JPEG, PNG or another format that Pillow opens"
        )
    if len(unreadable) > most * len(data):
        first = int(unreadable[0])
        raise UserInputError(
            f"{len(unreadable)} of the {len(data)} pictures cannot be read, {most:.0%} are allowed; the first is row "
            f"{first} ({_trouble(data.pictures[first])}); needed: JPEG, PNG or another format that Pillow opens; "
            "mend or remove them"
        )


def _trouble(picture: Picture) -> str:
    """Return the name of a picture, where it has one, and why it cannot be read."""
    path = picture.get("path") if isinstance(picture, dict) else picture
    name = f"'{path}': " if isinstance(path, str | PathLike) else ""
    try:
        open_picture(picture)
    except DECODING_ERRORS as error:
        return f"{name}{str(error).splitlines()[0] if str(error) else type(error).__name__}"
    return f"{name}it cannot be resized"


def _key(encoder: Encoder, data: LabelledImages, dtype: torch.dtype) -> str:
    """Hash everything that a table depends on."""
    facts = [_CACHE_VERSION, encoder.fingerprint, data.fingerprint, len(data), PICTURES_A_PIECE, str(dtype)]
    return blake2b(repr(facts).encode(), digest_size=16).hexdigest()
