"""Exact nearest rows by cosine similarity, in memory that does not grow with the gallery.

Letters: Q queries, N rows of the gallery, D features, K neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from synclr_hf.data.progress import Progress
from synclr_hf.errors import UserInputError

GALLERY_ROWS_AT_ONCE = 16_384
"""Rows of the gallery that are turned into float32 together: 48 MiB at 768 features."""
QUERIES_AT_ONCE = 1024
"""Queries compared at once: 64 MiB of similarities with that many rows of the gallery."""
CELLS_AT_ONCE = 2**26
"""Similarities to a whole gallery that are held at once: 256 MiB."""
_LONG = 2e11
"""Multiplications above which a progress bar is shown (seconds)."""


@torch.inference_mode()
def nearest_rows(
    queries: Tensor,
    gallery: Tensor,
    count: int,
    *,
    device: torch.device | None = None,
    queries_at_once: int = QUERIES_AT_ONCE,
    gallery_rows_at_once: int = GALLERY_ROWS_AT_ONCE,
) -> tuple[Tensor, Tensor]:
    """Return the most similar rows of the gallery for each query, best first.

    Exact: every similarity is computed, in float32. The gallery may be a memory-mapped file of any float type; it is
    read once, piece by piece, and moved to the device likewise. Of equally similar rows the one with the smaller
    number is nearer.

    Args:
        queries: (Q, D) float, any scale; kept whole in float32.
        gallery: (N, D) float, any scale, on any device.
        count: K; at most N are returned.
        device: where to compute; default: where the queries are.
        queries_at_once: changes memory only.
        gallery_rows_at_once: changes memory only.

    Returns:
        Cosine similarities in [-1, 1], (Q, K) float32, and row numbers, (Q, K) int64, both on the device.

    Raises:
        UserInputError: the gallery is empty, or a feature is not finite.
    """
    if len(gallery) == 0:
        raise UserInputError("there is nothing to search: the train side has no picture; give one that is not empty")
    device = device or queries.device
    queries = unit_rows(queries, "test", device)
    count = min(count, len(gallery))
    best = queries.new_empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64, device=device)
    is_long = len(queries) * gallery.numel() > _LONG
    bar = Progress("nearest neighbours", total=len(gallery), unit="row") if is_long else None
    try:
        for start, rows in gallery_pieces(gallery, device, gallery_rows_at_once):
            found = [first_largest(part @ rows.T, count) for part in queries.split(queries_at_once)]
            values, places = (torch.cat(parts) for parts in zip(*found, strict=True))
            best = _merged(best, (values, places + start), count)
            if bar is not None:
                bar.update(len(rows))
    finally:
        if bar is not None:
            bar.close()
    return best


def whole_similarities(
    queries: Tensor, gallery: Tensor, *, device: torch.device | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Yield a few queries after the other with their similarities to the whole gallery.

    Args:
        queries: see `nearest_rows`, likewise the others and the errors.
        gallery: (N, D).
        device: where to compute; default: where the queries are.

    Yields:
        The number of the first query, and cosine similarities, (B, N) float32 on the device, used again for the
        next ones.
    """
    if len(gallery) == 0:
        raise UserInputError("there is nothing to search: the train side has no picture; give one that is not empty")
    device = device or queries.device
    parts = unit_rows(queries, "test", device).split(max(CELLS_AT_ONCE // len(gallery), 1))
    similarity = torch.empty(len(parts[0]), len(gallery), device=device)
    for number, part in enumerate(parts):
        for start, rows in gallery_pieces(gallery, device, GALLERY_ROWS_AT_ONCE):
            similarity[: len(part), start : start + len(rows)] = part @ rows.T
        yield number * len(parts[0]), similarity[: len(part)]


def gallery_pieces(gallery: Tensor, device: torch.device, size: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the place of the first row and the rows of each piece of a gallery as `unit_rows`."""
    for start in range(0, len(gallery), size):
        yield start, unit_rows(gallery[start : start + size], "train", device)


def unit_rows(features: Tensor, side: str, device: torch.device) -> Tensor:
    """Return features as float32 rows of length one (zeros stay zeros), (N, D) on the device.

    Args:
        features: (N, D) float.
        side: whose they are, for the error.
        device: where to.

    Raises:
        UserInputError: a feature is NaN or infinite.
    """
    rows = features.to(device).float()
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    if not lengths.isfinite().all():  # a row of finite numbers below 1e18 has a finite length
        bad = int((~lengths.isfinite()).sum())
        raise UserInputError(
            f"the features of {bad} {side} pictures are not finite (NaN or infinite): a damaged checkpoint, or "
            "numbers that overflow in float16; type --dtype float32"
        )
    return F.normalize(rows, dim=1)


def first_largest(similarity: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest values of each row of (B, n) and their places, (B, min(count, n)), the first of equals first.

    `topk` alone may return any of equal values; rows in which that could matter are sorted.
    """
    size = similarity.shape[1]
    if count >= size:
        return similarity.sort(dim=1, descending=True, stable=True)
    values, places = similarity.topk(count + 1, dim=1)
    unsure = (values[:, 1:] == values[:, :-1]).any(dim=1).nonzero()[:, 0]
    if len(unsure):
        ordered = similarity[unsure].sort(dim=1, descending=True, stable=True)
        values[unsure], places[unsure] = ordered.values[:, : count + 1], ordered.indices[:, : count + 1]
    return values[:, :count], places[:, :count]


def _merged(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
    """Merge two lists of neighbours; rows of the first have smaller numbers and win where values are equal."""
    values, rows = (torch.cat(pair, dim=1) for pair in zip(first, second, strict=True))
    values, order = values.sort(dim=1, descending=True, stable=True)
    return values[:, :count], rows.gather(1, order)[:, :count]
