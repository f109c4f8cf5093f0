"""A prepared FAISS index for very large sets: made by `datasets`, with its recall measured.

The exact search answers 100,000 pictures in some 30 ms without it (see RESULTS.md), and is what is used by default. An
approximate index pays from millions of pictures on.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synclr_hf.data.progress import Progress
from synclr_hf.errors import UserInputError
from synclr_hf.explorer.index.facts import FACTS_FILE, FAISS_FILE, IndexFacts

if TYPE_CHECKING:
    from datasets import Dataset

    from synclr_hf.explorer.index.opened import PictureIndex

COLUMN = "embedding"
_QUERIES, _NEAREST = 200, 10
_MORE = 16
"""Candidates beside those that are wanted: what is stored is rounded."""


def has_faiss() -> bool:
    """Tell whether faiss is installed."""
    return find_spec("faiss") is not None


def check_factory(factory: str) -> None:
    """Refuse a factory string that faiss does not know, or a machine without faiss.

    Raises:
        UserInputError: says what to type.
    """
    if not has_faiss():
        raise UserInputError("--faiss needs faiss; type pip install faiss-cpu, or leave --faiss out")
    import faiss

    try:
        faiss.index_factory(64, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise UserInputError(f"--faiss '{factory}' is no factory string of faiss; type --faiss HNSW32") from error


def prepare_faiss(folder: Path, factory: str) -> None:
    """Make the FAISS index of the first encoder beside the rows, and note its recall in the facts.

    Recall at 10: the share of the exact ten nearest among the candidates that are compared exactly, mean over 200 rows
    spread evenly.

    Args:
        folder: of a finished index.
        factory: what faiss shall build, e.g. `Flat`, `HNSW32`, `IVF4096,SQfp16`.

    Raises:
        UserInputError: faiss cannot build it, e.g. for want of rows to train on.
    """
    import faiss

    from synclr_hf.explorer.index.opening import open_index
    from synclr_hf.explorer.search import nearest

    facts = IndexFacts.load(folder / FACTS_FILE, str(folder))
    index = open_index(folder)
    with Progress(f"building the FAISS index {factory}"):
        try:
            index.rows.add_faiss_index(
                COLUMN,
                string_factory=factory,
                metric_type=faiss.METRIC_INNER_PRODUCT,
                train_size=len(index),
                dtype=np.float32,
            )
        except RuntimeError as error:
            reason = str(error).splitlines()[-1][:200]
            raise UserInputError(f"--faiss {factory} cannot be built ({reason}); type another, e.g. HNSW32") from error
        (folder / FAISS_FILE).parent.mkdir(exist_ok=True)
        index.rows.save_faiss_index(COLUMN, folder / FAISS_FILE)
    rows = np.unique(np.linspace(0, len(index) - 1, min(_QUERIES, len(index))).astype(int))
    found = 0
    for row in rows:
        query = index.embedding(int(row))
        exact = {hit.row for hit in nearest(index, query[None], _NEAREST)[0]}
        found += len(exact & set(_asked(index.rows, query.numpy(), _NEAREST + _MORE).tolist()))
    recall = found / (len(rows) * min(_NEAREST, len(index)))
    replace(facts, faiss={"factory": factory, "recall_at_10": round(recall, 4)}).save(folder)


def faiss_nearest(index: PictureIndex, query: np.ndarray, count: int) -> np.ndarray | None:
    """Return the rows that FAISS finds nearest, ascending; `None` where there is none to ask or too few are found.

    Args:
        index: where to look.
        query: (D,) float32 of length one, of the first encoder.
        count: how many are wanted; a few more are returned.
    """
    if index.faiss_file is None or not has_faiss():
        return None
    if not index.rows.is_index_initialized(COLUMN):
        index.rows.load_faiss_index(COLUMN, index.faiss_file)
    found = np.sort(_asked(index.rows, query, count + _MORE))
    return found if len(found) >= min(count, len(index)) else None  # cells of IVF may hold too few: search exactly


def _asked(rows: Dataset, query: np.ndarray, count: int) -> np.ndarray:
    _, places = rows.get_index(COLUMN).search(query, k=min(count, len(rows)))
    return np.asarray([place for place in places if place >= 0], dtype=np.int64)
