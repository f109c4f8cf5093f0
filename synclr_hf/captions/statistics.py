"""What a finished set of captions is like: counts over all rows, diversity over an even sample of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from synclr_hf.captions import words as caption_words
from synclr_hf.captions.prompt_tokens import TokenCounter
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.shards import Row

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE_ROWS = 20_000
"""Rows of the sample at most."""

OPENING_WORDS = 3
"""Captions begin alike if they share this many first words."""

NUM_EXAMPLES = 12
NUM_WORDS = 25
NUM_OPENINGS = 8
_PROBES = 1_000
_DISTINCT_HELD = 65_536
_BLOCK_ROWS = 16_384
_COUNTED = ("source", "template", "language_model", "concept")
_COLUMNS = ("caption_id", "caption", "background", "relation", *_COUNTED)

STOP_WORDS = frozenset(
    """a about above across after against all along also am among an and another any are around as at back be because
    been before behind being below beneath beside besides between both but by can could did do does down during each
    every few for from had has have he her here him his how i if in inside into is it its itself just like many may
    more most much my near next no nor not of off on once one only onto or other our out outside over own she so some
    such than that the their them then there these they this those through to toward towards two under until up upon
    very was we were what when where which while who whose will with within without would you your""".split()
)
"""Words of English that say nothing about what a picture shows."""


@dataclass(frozen=True)
class SampleStatistics:
    """Diversity of a sample; a word is a run of letters and digits, in lower case. It depends on the sample's size.

    Attributes:
        rows: captions of the sample.
        tokens: tokens that the image model reads, special ones included -> captions of that length.
        vocabulary: different words.
        words: the most frequent words that are no `STOP_WORDS`, with the share of captions that have them.
        distinct: distinct-1, -2, -3: different n-grams / all n-grams (Li et al. 2016, arXiv 1510.03055); `None` where
            no caption is that long.
        probes: captions whose nearest other caption of the sample was looked for.
        nearest_mean: self-similarity: the mean over the probes of the resemblance with the nearest other caption. The
            resemblance of two captions is the Jaccard index of their sets of word pairs (Broder 1997, with shingles of
            two words); 1 for equal ones. `None` for a single caption.
        nearest_high: the 95th percentile of the same.
        begin_alike: share of captions whose first `OPENING_WORDS` words begin another caption of the sample as well.
        openings: the most frequent first words, with the share of captions that begin so.
    """

    rows: int
    tokens: Mapping[int, int]
    vocabulary: int
    words: tuple[tuple[str, float], ...]
    distinct: tuple[float | None, float | None, float | None]
    probes: int
    nearest_mean: float | None
    nearest_high: float | None
    begin_alike: float
    openings: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class CaptionStatistics:
    """Numbers of a finished set of captions.

    Attributes:
        rows: all captions.
        sources: captions by concept bank, like the next three with the most frequent first.
        templates: captions by template.
        language_models: captions by what wrote them.
        concepts: captions by concept.
        lengths: words (what stands between spaces) -> captions of that length, in order of length.
        duplicates: share of captions that equal an earlier one, letter by letter.
        duplicates_part: they were counted among one of so many different captions, chosen by checksum, so that equal
            ones stay together (adaptive sampling, Flajolet 1990); 1: among all.
        sample: diversity of the sample.
        examples: some rows of the sample.
    """

    rows: int
    sources: Mapping[str, int]
    templates: Mapping[str, int]
    language_models: Mapping[str, int]
    concepts: Mapping[str, int]
    lengths: Mapping[int, int]
    duplicates: float
    duplicates_part: int
    sample: SampleStatistics
    examples: tuple[Row, ...]


def caption_statistics(
    files: Sequence[str | Path],
    *,
    seed: int = 0,
    count_tokens: TokenCounter | None = None,
    sample_rows: int = SAMPLE_ROWS,
) -> CaptionStatistics:
    """Look once at all rows; memory grows with the number of different concepts and with nothing else.

    Args:
        files: Parquet files with the columns of a caption row; their order decides which rows are sampled.
        seed: decides which examples are shown.
        count_tokens: counts the tokens of a caption; `None`: estimates those of CLIP.
        sample_rows: rows of the sample at most; they lie at even distances in the whole set.

    Raises:
        ValueError: there are no rows.
    """
    import pyarrow.parquet as pq

    total = sum(pq.read_metadata(file).num_rows for file in files)
    if total == 0:
        raise ValueError("there are no captions to look at")
    size = min(total, sample_rows)
    places = (2 * np.arange(size) + 1) * total // (2 * size)
    counted: dict[str, Counter[str]] = {name: Counter() for name in _COUNTED}
    lengths: Counter[int] = Counter()
    copies = _Copies()
    sample: list[Row] = []
    start = 0
    for block in _blocks(files):
        for name, counts in counted.items():
            values = block[name].value_counts()
            told = zip(values.field("values").to_pylist(), values.field("counts").to_pylist(), strict=True)
            counts.update({value or "": count for value, count in told})
        captions = [caption or "" for caption in block["caption"].to_pylist()]
        lengths.update(map(len, map(str.split, captions)))
        copies.add(captions)
        first, last = np.searchsorted(places, (start, start + len(captions)))
        sample += block.take(places[first:last] - start).to_pylist()
        start += len(captions)
    return CaptionStatistics(
        rows=total,
        sources=_ranked(counted["source"]),
        templates=_ranked(counted["template"]),
        language_models=_ranked(counted["language_model"]),
        concepts=_ranked(counted["concept"]),
        lengths=dict(sorted(lengths.items())),
        duplicates=copies.share(),
        duplicates_part=copies.part,
        sample=sample_statistics([row["caption"] or "" for row in sample], count_tokens or TokenCounter()),
        examples=_examples(sample, seed),
    )


def sample_statistics(captions: Sequence[str], count_tokens: TokenCounter) -> SampleStatistics:
    """Return the diversity of some captions, at least one; about a second for 20,000."""
    words = [caption_words.words(caption) for caption in captions]
    holding = Counter(word for one in words for word in dict.fromkeys(one))
    openings = Counter(" ".join(one[:OPENING_WORDS]) for one in words)
    nearest = _nearest(words)
    frequent = {word: count for word, count in holding.items() if word not in STOP_WORDS}
    return SampleStatistics(
        rows=len(captions),
        tokens=dict(sorted(Counter(map(count_tokens, captions)).items())),
        vocabulary=len(holding),
        words=_shares(frequent, len(captions), NUM_WORDS),
        distinct=(_distinct(words, 1), _distinct(words, 2), _distinct(words, 3)),
        probes=len(nearest),
        nearest_mean=float(nearest.mean()) if len(nearest) else None,
        nearest_high=float(np.percentile(nearest, 95)) if len(nearest) else None,
        begin_alike=sum(count for count in openings.values() if count > 1) / len(captions),
        openings=_shares(openings, len(captions), NUM_OPENINGS),
    )


class _Copies:
    """Counts equal texts in constant memory.

    Attributes:
        part: one of so many different texts is looked at.
    """

    def __init__(self) -> None:
        self.part = 1
        self._seen: Counter[str] = Counter()

    def add(self, texts: Iterable[str]) -> None:
        self._seen.update(texts if self.part == 1 else filter(self._is_looked_at, texts))
        while len(self._seen) > _DISTINCT_HELD:
            self.part *= 2
            self._seen = Counter({text: count for text, count in self._seen.items() if self._is_looked_at(text)})

    def share(self) -> float:
        """Return the share of texts that equal an earlier one."""
        total = self._seen.total()
        return 1 - len(self._seen) / total if total else 0.0

    def _is_looked_at(self, text: str) -> bool:
        return crc32(text.encode()) % self.part == 0


def _blocks(files: Iterable[str | Path]) -> Iterator[pa.Table]:
    """Yield all rows in tables of about `_BLOCK_ROWS` rows, however small or large the files are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    held: list[pa.RecordBatch] = []
    for file in files:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(_BLOCK_ROWS, columns=list(_COLUMNS), use_threads=False):
                held.append(batch.replace_schema_metadata(None))
                if sum(map(len, held)) >= _BLOCK_ROWS:
                    yield pa.Table.from_batches(held)
                    held = []
    if held:
        yield pa.Table.from_batches(held)


def _distinct(words: Sequence[Sequence[str]], n: int) -> float | None:
    grams = [gram for one in words for gram in zip(*(one[start:] for start in range(n)), strict=False)]
    return len(set(grams)) / len(grams) if grams else None


def _nearest(words: Sequence[Sequence[str]]) -> np.ndarray:
    """Return the resemblance with the nearest other caption, (probes,) float64, of at most `_PROBES` captions.

    Captions that share no word pair are never compared: each pair knows the captions that hold it.
    """
    if len(words) < 2:
        return np.zeros(0)
    shingles = [dict.fromkeys(zip(one, one[1:], strict=False)) or {tuple(one): None} for one in words]
    numbers: dict[tuple[str, ...], int] = {}
    flat = np.array([numbers.setdefault(shingle, len(numbers)) for one in shingles for shingle in one])
    sizes = np.array([len(one) for one in shingles])
    ends = np.cumsum(sizes)
    order = np.argsort(flat, kind="stable")
    holders = np.repeat(np.arange(len(words)), sizes)[order]
    starts = np.searchsorted(flat[order], np.arange(len(numbers) + 1))
    count = min(len(words), _PROBES)
    nearest = np.zeros(count)
    for place, probe in enumerate((2 * np.arange(count) + 1) * len(words) // (2 * count)):
        own = flat[ends[probe] - sizes[probe] : ends[probe]]
        with_any = np.concatenate([holders[starts[shingle] : starts[shingle + 1]] for shingle in own])
        shared = np.bincount(with_any, minlength=len(words))
        resemblance = shared / (sizes + sizes[probe] - shared)
        resemblance[probe] = 0
        nearest[place] = resemblance.max()
    return nearest


def _examples(rows: Sequence[Row], seed: int) -> tuple[Row, ...]:
    """Choose rows by seed, each of the source, then of the template, that was chosen least so far."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: seed_for(seed, "example", row["caption_id"])):
        groups.setdefault((row["source"] or "", row["template"] or ""), []).append(row)
    chosen: list[Row] = []
    used: Counter[tuple[str, ...]] = Counter()
    while groups and len(chosen) < NUM_EXAMPLES:
        group = min(groups, key=lambda group: (used["source", group[0]], used["template", group[1]], used[group]))
        chosen.append(groups[group].pop(0))
        used.update([("source", group[0]), ("template", group[1]), group])
        if not groups[group]:
            del groups[group]
    return tuple(sorted(chosen, key=lambda row: (row["source"] or "", row["template"] or "", row["caption_id"])))


def _ranked(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _shares(counts: Mapping[str, int], total: int, limit: int) -> tuple[tuple[str, float], ...]:
    return tuple((name, count / total) for name, count in list(_ranked(counts).items())[:limit])
