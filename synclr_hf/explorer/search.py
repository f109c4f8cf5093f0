"""The pictures of an index that are nearest to a query: exact, by cosine similarity, straight from the memory map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.neighbours import first_largest
from synclr_hf.explorer.index.faiss_file import faiss_nearest
from synclr_hf.explorer.index.opened import PictureIndex

ROWS_AT_ONCE = 1024
"""Rows that are turned into float32 together: 3 MiB at 768 features, which the caches of a core hold."""


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
    rows: Sequence[int] | np.ndarray | None = None,
    excluded: Sequence[int] = (),
) -> list[list[Hit]]:
    """Return the nearest pictures for each query, best first; of equals the one with the smaller row.

    Every similarity is computed, in float32. Where the index has a prepared FAISS index of its first encoder, faiss is
    installed and nothing is filtered, that one says which rows are looked at.

    Args:
        index: where to look.
        queries: (Q, D) float, any scale.
        count: at most so many for each query.
        encoder: number of the encoder whose features the queries are.
        rows: look among these rows only, e.g. those of a concept; ascending; default: all.
        excluded: rows that are not to be found, such as the query itself.

    Raises:
        UserInputError: nothing to search, or a query of another width, or one that is not finite.
    """
    width = index.facts.encoders[encoder].width
    if queries.ndim != 2 or queries.shape[1] != width:
        raise UserInputError(
            f"the query has {queries.shape[-1]} numbers, '{index.facts.encoders[encoder].name}' describes pictures of "
            f"'{index.name}' by {width}; search with the encoder that made the index"
        )
    if not queries.isfinite().all():
        raise UserInputError("the features of the query are NaN or infinite; check the model, or give another picture")
    if len(index) == 0 or (rows is not None and len(rows) == 0):
        raise UserInputError("there is no picture to be found: nothing fits the filter; choose another one")
    queries = F.normalize(queries.float(), dim=1)
    left_out = set(map(int, excluded))
    if rows is None and encoder == 0 and len(queries) == 1:
        rows = faiss_nearest(index, queries[0].numpy(), count + len(left_out))  # candidates, compared exactly below
    if rows is None:
        similarity = similarities(index, queries, encoder)
        places = None
    else:
        places = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        similarity = _chosen(index, queries, encoder, places)
    wanted = count + len(left_out)
    # A row and its copy may differ in the last bits, by where in a product they stand: they are equal all the same.
    values, found = first_largest(similarity.round_(decimals=6), wanted)
    answers = []
    for near, columns in zip(values.clamp(-1, 1).tolist(), found, strict=True):
        numbers = (columns if places is None else places[columns]).tolist()
        hits = [Hit(row, value) for row, value in zip(numbers, near, strict=True) if row not in left_out]
        answers.append(hits[:count])
    return answers


@torch.inference_mode()
def similarities(index: PictureIndex, queries: Tensor, encoder: int = 0) -> Tensor:
    """Return the cosine of each query (Q, D), of length one, with every row, (Q, N) float32."""
    similarity = torch.empty(len(index), len(queries))
    start = 0
    for piece in index.embeddings(encoder):
        for rows in piece.split(ROWS_AT_ONCE):
            torch.matmul(rows.float(), queries.T, out=similarity[start : start + len(rows)])
            start += len(rows)
    return similarity.div_(index.lengths(encoder)[:, None]).T.contiguous()


def _chosen(index: PictureIndex, queries: Tensor, encoder: int, rows: Tensor) -> Tensor:
    """Return the similarities with some rows only, (Q, len(rows)); the others are not read."""
    pieces = index.embeddings(encoder)
    ends = torch.tensor([len(piece) for piece in pieces]).cumsum(0)
    parts = []
    for some in rows.split(ROWS_AT_ONCE):
        numbers, counts = torch.searchsorted(ends, some, right=True).unique_consecutive(return_counts=True)
        gathered = [
            pieces[number][inside - (ends[number] - len(pieces[number]))]
            for number, inside in zip(numbers.tolist(), some.split(counts.tolist()), strict=True)
        ]
        parts.append(torch.cat(gathered).float() @ queries.T)
    return (torch.cat(parts) / index.lengths(encoder)[rows, None]).T.contiguous()
