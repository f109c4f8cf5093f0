"""Computed features on disk: pieces while they are made, then one file that is read through a memory map."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from synclr_hf.errors import UserInputError

PICTURES_A_PIECE = 2048
"""Pictures whose features are kept together: what an interruption costs at most."""
_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}
"""What the format of safetensors calls the types."""


class FeatureStore:
    """The features of one encoder on one set of pictures.

    Every file is written under another name and then renamed: it is there whole or not at all. Several processes may
    make the same table; they write the same.

    Args:
        file: where the whole table lies or will lie; the pieces lie beside it in a folder until it is complete.
        dtype: of the stored features, float32 or float16.
    """

    def __init__(self, file: Path, dtype: torch.dtype = torch.float32) -> None:
        self.file, self.dtype = file, dtype
        self._pieces = file.with_suffix(".pieces")

    def read(self) -> tuple[Tensor, Tensor] | None:
        """Return rows (N,) int64 and features (N, D); `None` if they are not there or the file is damaged.

        The features are a memory map: they are read from disk where and when they are used.
        """
        return _read(self.file)

    def has_piece(self, number: int) -> bool:
        """Tell whether a piece was made before and is whole."""
        return _read(self._piece(number)) is not None

    def write_piece(self, number: int, rows: np.ndarray, features: Tensor) -> None:
        """Keep a piece.

        Args:
            number: its place among the pieces.
            rows: (n,) int64, places of its readable pictures.
            features: (n, D).
        """
        with self._telling_what_is_full():
            self._pieces.mkdir(parents=True, exist_ok=True)
            _write(self._piece(number), self._pieces, torch.from_numpy(rows), [features.to(self.dtype)])

    def finish(self, count: int) -> tuple[Tensor, Tensor]:
        """Put `count` pieces together into the table, piece by piece, and return it as `read` does."""
        pieces = [_read(self._piece(number)) for number in range(count)]
        if None not in pieces:
            with self._telling_what_is_full():
                rows = torch.cat([rows for rows, _ in pieces])
                _write(self.file, self._pieces, rows, [features for _, features in pieces])
        table = self.read()  # also where another process was first and has removed the pieces
        if table is None:
            raise UserInputError(f"features have vanished from '{self._pieces}'; type the same command again")
        shutil.rmtree(self._pieces, ignore_errors=True)
        return table

    def _piece(self, number: int) -> Path:
        return self._pieces / f"{number:06d}.safetensors"

    @contextmanager
    def _telling_what_is_full(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserInputError(
                f"features cannot be kept in '{self.file.parent}' ({error.strerror or error}); free space there or "
                "give another folder for the cache"
            ) from error


def _read(file: Path) -> tuple[Tensor, Tensor] | None:
    try:
        with safe_open(file, framework="pt") as stored:  # checks the sizes against the length of the file
            rows, features = stored.get_tensor("rows"), stored.get_tensor("features")
    except (OSError, SafetensorError, ValueError):
        return None
    return (rows, features) if len(rows) == len(features) else None


def _write(file: Path, folder: Path, rows: Tensor, parts: Sequence[Tensor]) -> None:
    """Write rows and the features of all parts as one safetensors file without holding them together in memory.

    What is half written lies in `folder`.
    """
    parts = [part for part in parts if len(part)] or list(parts[:1])
    shape = [sum(len(part) for part in parts), parts[0].shape[1]]
    ends = np.cumsum([0, rows.nbytes, sum(part.nbytes for part in parts)]).tolist()
    facts: dict[str, Any] = {
        "rows": {"dtype": _NAMES[rows.dtype], "shape": [len(rows)], "data_offsets": ends[:2]},
        "features": {"dtype": _NAMES[parts[0].dtype], "shape": shape, "data_offsets": ends[1:]},
    }
    header = json.dumps(facts).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of their width

    def write(stream: BinaryIO) -> None:
        stream.write(len(header).to_bytes(8, "little") + header)
        for tensor in (rows, *parts):
            stream.write(tensor.contiguous().numpy().data)

    _write_whole(file, folder, write)


def _write_whole(file: Path, folder: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file so that it is there whole or not at all, also when the machine stops."""
    temporary = folder / f".{file.name}.{os.getpid()}.tmp"
    try:
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
