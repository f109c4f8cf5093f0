"""The pictures of an index that are nearest to a query: exact, by cosine similarity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from synclr_hf.explorer.index.opened import PictureIndex


@dataclass(frozen=True)
class Hit:
    """One picture that was found.

    Attributes:
        row: its place in the index.
        similarity: cosine of its feature and the query's, in [-1, 1].
    """

    row: int
    similarity: float


@torch.inference_mode()
def nearest(
    index: PictureIndex,
    queries: Tensor,
    count: int,
    *,
    encoder: int = 0,
    rows: Sequence[int] | None = None,
    excluded: Sequence[int] = (),
) -> list[list[Hit]]:
    """Return the nearest pictures for each query, best first; of equals the one with the smaller row.

    Args:
        index: where to look.
        queries: (Q, D) float, any scale.
        count: at most so many for each query.
        encoder: number of the encoder whose features the queries are.
        rows: look among these rows only, e.g. those of a concept; default: all.
        excluded: rows that are not to be found, such as the query itself.
    """
    queries = torch.nn.functional.normalize(queries.float(), dim=1)
    similarity = torch.cat([piece.float() @ queries.T for piece in index.embeddings(encoder)]).T
    allowed = torch.zeros(len(index), dtype=torch.bool)
    allowed[torch.as_tensor(rows, dtype=torch.long) if rows is not None else slice(None)] = True
    allowed[torch.as_tensor(list(excluded), dtype=torch.long)] = False
    places = allowed.nonzero()[:, 0]
    values, order = similarity[:, places].sort(dim=1, descending=True, stable=True)
    return [
        [Hit(int(places[place]), float(value)) for value, place in zip(near, found, strict=True)]
        for near, found in zip(values[:, :count].tolist(), order[:, :count].tolist(), strict=True)
    ]
