"""What a finished set of pictures is like: counts over all rows, the pictures themselves of an even sample of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synclr_hf.data.parquet_rows import ParquetRows
from synclr_hf.data.schemas import IMAGE_COLUMNS
from synclr_hf.images.samples import PictureSample, picture_sample, ranked

SAMPLE_ROWS = 256
"""Rows of the sample at most."""

_SAMPLE_BLOCKS = 64
_VALUES_HELD = 64
_COUNTED = ("concept", "source", "provenance", "guidance_scale")

OTHER_VALUES = "others"
"""Stands in for values of the provenance behind the first `_VALUES_HELD` different ones."""


@dataclass(frozen=True)
class ImageStatistics:
    """Numbers of a finished set of pictures.

    Attributes:
        rows: captions.
        pictures: all pictures.
        sources: pictures by concept bank, like the next one with the most frequent first.
        concepts: pictures by concept.
        pictures_per_caption: number of pictures -> captions with so many.
        made: name of an entry of the provenance, `guidance_scale` too -> its values as text -> pictures.
        scores: score in hundredths, rounded down -> pictures; empty where there are none.
        score_mean: mean of the scores, or `None`.
        sample: what the pictures of the sample are like.
    """

    rows: int
    pictures: int
    sources: Mapping[str, int]
    concepts: Mapping[str, int]
    pictures_per_caption: Mapping[int, int]
    made: Mapping[str, Mapping[str, int]]
    scores: Mapping[int, int]
    score_mean: float | None
    sample: PictureSample


def image_rows(path_or_hub_id: str | Path) -> ParquetRows:
    """Open image rows with all columns of `image_features`, `scores` too where there are any; see `ParquetRows`."""
    rows = ParquetRows(path_or_hub_id, IMAGE_COLUMNS)
    return ParquetRows(path_or_hub_id, (*IMAGE_COLUMNS, "scores")) if rows.has_column("scores") else rows


def image_statistics(rows: ParquetRows, *, seed: int = 0, sample_rows: int = SAMPLE_ROWS) -> ImageStatistics:
    """Look once at all rows, and at the pictures of some; memory grows with the number of different concepts only.

    Args:
        rows: what `image_rows` returned.
        seed: decides which examples are shown.
        sample_rows: rows of the sample at most.
    """
    has_scores = "scores" in rows.column_names
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("concept", "source")}
    made: dict[str, Counter[str]] = {}
    numbers: Counter[int] = Counter()
    scores: Counter[int] = Counter()
    score_sum = 0.0
    for table in rows.tables([*_COUNTED, "images", *(["scores"] if has_scores else [])]):
        pictures = _list_lengths(table["images"])
        numbers.update(pictures.tolist())
        for name, counter in counts.items():
            _add(counter, table[name], pictures)
        for value, count in _weighted(table["provenance"], pictures):
            for entry, told in _entries(value).items():
                _add_bounded(made.setdefault(entry, Counter()), told, count)
        for value, count in _weighted(table["guidance_scale"], pictures):
            _add_bounded(
                made.setdefault("guidance_scale", Counter()),
                "" if value is None or value != value else f"{value:g}",
                count,
            )
        if has_scores:
            found = _numbers(table["scores"])
            score_sum += float(found.sum())
            hundredths, times = np.unique(np.floor(found * 100 + 1e-6).astype(int), return_counts=True)
            scores.update(dict(zip(hundredths.tolist(), times.tolist(), strict=True)))
    return ImageStatistics(
        rows=len(rows),
        pictures=sum(number * count for number, count in numbers.items()),
        sources=ranked(counts["source"]),
        concepts=ranked(counts["concept"]),
        pictures_per_caption=dict(sorted(numbers.items())),
        made={name: ranked(values) for name, values in made.items()},
        scores=dict(sorted(scores.items())),
        score_mean=score_sum / scores.total() if scores else None,
        sample=picture_sample(rows.picked(even_sample(rows, sample_rows)), seed=seed),
    )


def even_sample(rows: ParquetRows, count: int) -> list[int]:
    """Return the numbers of at most `count` rows at even distances, in order.

    Of a set with very many blocks, `_SAMPLE_BLOCKS` of them at even distances are looked at: each is read as a whole.
    """
    blocks = _even(len(rows.block_lengths), _SAMPLE_BLOCKS)
    starts = np.cumsum(rows.block_lengths) - rows.block_lengths
    places = np.concatenate([starts[block] + np.arange(rows.block_lengths[block]) for block in blocks])
    return places[_even(len(places), count)].tolist()


def _even(total: int, count: int) -> np.ndarray:
    """Return at most `count` of the numbers below `total`, at even distances."""
    count = min(total, count)
    return (2 * np.arange(count) + 1) * total // (2 * count)


def _list_lengths(column: object) -> np.ndarray:
    import pyarrow.compute as pc

    return pc.fill_null(pc.list_value_length(column), 0).to_numpy()


def _numbers(column: object) -> np.ndarray:
    """Return the finite numbers in a column of lists."""
    import pyarrow.compute as pc

    flat = pc.list_flatten(column).drop_null().to_numpy()
    return flat[np.isfinite(flat)].astype(np.float64)


def _weighted(column: object, pictures: np.ndarray) -> Iterator[tuple[object, int]]:
    """Yield the different values of a column with the number of pictures that each has."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")  # type: ignore[attr-defined]
    sums = np.bincount(encoded.indices.to_numpy(), weights=pictures, minlength=len(encoded.dictionary))
    yield from zip(encoded.dictionary.to_pylist(), sums.astype(int).tolist(), strict=True)


def _add(counter: Counter[str], column: object, pictures: np.ndarray) -> None:
    for value, count in _weighted(column, pictures):
        counter[str(value or "")] += count


def _add_bounded(counter: Counter[str], value: str, count: int) -> None:
    counter[value if value in counter or len(counter) < _VALUES_HELD else OTHER_VALUES] += count


_OF_ONE_ROW = ("originals", "first_pictures")
"""Entries of a provenance that differ from row to row."""


def _entries(provenance: object) -> dict[str, str]:
    """Return the entries of a provenance as text; nothing where it cannot be read."""
    try:
        told = json.loads(str(provenance))
    except ValueError:
        return {}
    if not isinstance(told, dict):
        return {}
    return {str(name): _text(value) for name, value in told.items() if name not in _OF_ONE_ROW}


def _text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, sort_keys=True)
