"""The columns of an index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Features

    from synclr_hf.explorer.index.facts import IndexedEncoder

TEXT_COLUMNS = ("caption", "concept", "source", "template")


def embedding_column(number: int) -> str:
    """Return the name of the column of encoder `number`, counted from 0."""
    return f"embedding_{number}" if number else "embedding"


def index_features(encoders: Sequence[IndexedEncoder]) -> Features:
    """Return the columns of an index: one picture a row.

    `caption_id` and `place` say which picture of which caption it is (place counted from 0), `image` is a thumbnail,
    `caption`, `concept`, `source` and `template` are what is known about it (null where nothing is); an embedding is
    float16 of length one.
    """
    from datasets import Features, Image, List, Value

    columns = {"caption_id": Value("int64"), "place": Value("int32")}
    columns |= {name: Value("string") for name in TEXT_COLUMNS}
    columns |= {"image": Image()}
    columns |= {one.column: List(Value("float16"), length=one.width) for one in encoders}
    return Features(columns)
