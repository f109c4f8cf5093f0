"""Which captions of a set are duplicates: exact ones by checksums, near ones by datatrove's minhash.

Memory is about 12 bytes a caption (1.8 GB for 150 million), most of it the 64-bit checksums of all captions, and 16
bytes for each pair in each bucket where it is found. The rest lies in files: 0.4 kB a caption at a similarity of
0.75, 0.8 kB at the most.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synclr_hf.captions.words import normalized
from synclr_hf.data.progress import Progress
from synclr_hf.data.workers import Report, Work, do_tasks
from synclr_hf.errors import UserInputError

if TYPE_CHECKING:
    from datasets import Dataset

KEPT, EXACT, NEAR = 0, 1, 2
KINDS = {EXACT: "exact_duplicate", NEAR: "near_duplicate"}
"""What a removed caption is called in the counts."""

WORDS_PER_SHINGLE = 2
"""Captions are compared by their pairs of neighbouring words, where begin and end count as words.

So every word is in two pairs, also the last one, which is often what tells two captions apart. With one word of n
changed n - 1 of n + 3 pairs are common: 0.69 for 10 words, 0.78 for 15, 0.88 for 30.
"""

ROWS_PER_FILE = 50_000
"""Captions that a process signs at once; for fewer no second process is worth its start."""

_MAX_FILES = 256
_ROWS_AT_ONCE = 1000
_PAIRS_AT_ONCE = 1_000_000
_COMPARED_AT_ONCE = 10_000
_LOOK_BACK = 4
_PARTS = 16

_FATES = "fates.npy"
_KEPT_ROWS = "kept.npy"
_HASHES, _SIGNATURES, _PAIRS, _FOUND = "hashes", "signatures", "pairs", "found"


@dataclass(frozen=True)
class Fates:
    """What becomes of every caption; both arrays are memory-mapped.

    Attributes:
        fates: uint8, one a caption: `KEPT`, `EXACT` or `NEAR`.
        kept: int64, the rows that stay, in order.
    """

    fates: np.ndarray
    kept: np.ndarray

    @classmethod
    def load(cls, folder: Path) -> Fates | None:
        """Return what `find_duplicates` wrote to a folder, `None` if it has not finished there."""
        if not (folder / _KEPT_ROWS).exists():
            return None
        return cls(*(np.load(folder / name, mmap_mode="r") for name in (_FATES, _KEPT_ROWS)))

    def removed(self, first: int, last: int) -> dict[str, int]:
        """Return the number of captions of each kind that go between the kept ones number `first` and `last`."""
        start = 0 if first == 0 else int(self.kept[first])
        end = len(self.fates) if last == len(self.kept) else int(self.kept[last])
        counts = np.bincount(self.fates[start:end], minlength=max(KINDS) + 1)
        return {name: int(counts[kind]) for kind, name in KINDS.items() if counts[kind]}


def find_duplicates(captions: Dataset, folder: Path, similarity: float, workers: int) -> Fates:
    """Decide which captions stay, and leave it in `folder` with everything that was needed for it.

    Of captions with the same normalized text the first one stays. A near-duplicate is a caption whose resemblance
    with an earlier one that stays (Jaccard index of their `shingles`, Broder 1997) is at least `similarity`:
    minhash proposes the pairs, each is then compared in full. So nothing goes that no row of the result resembles, as
    it would in clusters of chained pairs (A like B like C).

    Args:
        captions: rows with `caption`.
        folder: for work files; what an interrupted call left there is removed first.
        similarity: in (0, 1].
        workers: number of processes; the result does not depend on it.

    Raises:
        UserInputError: datatrove is not installed.
        OSError: the folder cannot be written.
        WorkerDied: a process ended without a word.
    """
    _check_datatrove()
    for name in (_HASHES, _SIGNATURES, _PAIRS, _FOUND):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    for name in (_FATES, _KEPT_ROWS):
        (folder / name).unlink(missing_ok=True)
    texts = captions.select_columns(["caption"])
    rows = len(texts)
    rows_per_file = max(ROWS_PER_FILE, -(-rows // _MAX_FILES))
    files = [range(start, min(start + rows_per_file, rows)) for start in range(0, rows, rows_per_file)]
    workers = min(workers, len(files))
    signing = _Signing(texts, folder, similarity)
    _do_all("signing captions", signing, list(enumerate(files)), rows, "caption", workers)
    fates = _exact_duplicates(folder / _HASHES, rows)
    _save(folder / _FATES, fates)
    buckets = _buckets()
    comparing = _Comparing(texts, folder, similarity, rows_per_file)
    _do_all("comparing captions", comparing, buckets, len(buckets), "bucket", workers)
    fates = _near_duplicates(fates, [folder / _FOUND / f"{bucket:05d}.npy" for bucket in buckets])
    _save(folder / _FATES, fates)
    _save(folder / _KEPT_ROWS, np.flatnonzero(fates == KEPT))
    found = Fates.load(folder)
    assert found is not None
    return found


def shingles(text: str) -> set[tuple[str, ...]]:
    """Return the pairs of neighbouring words of a caption, begin and end included; none if it has no words."""
    words = _bounded(normalized(text)).split()
    return set(zip(*(words[start:] for start in range(WORDS_PER_SHINGLE)), strict=False))


@dataclass
class _Signing:
    """Writes checksums and signatures of a range of captions."""

    captions: Dataset
    folder: Path
    similarity: float

    def load(self) -> None:
        pass

    def do(self, task: tuple[int, range], report: Report) -> None:
        from synclr_hf.captions.minhash import write_signatures

        number, rows = task
        hashes = np.empty(len(rows), dtype="<u8")

        def texts() -> Iterator[str]:
            place = 0
            for start in range(rows.start, rows.stop, _ROWS_AT_ONCE):
                batch = self.captions[start : min(start + _ROWS_AT_ONCE, rows.stop)]["caption"]
                for caption in batch:
                    text = normalized(caption or "")
                    hashes[place] = _checksum(text or caption or "")
                    place += 1
                    yield _bounded(text)
                report(len(batch))

        write_signatures(texts(), self.folder / _SIGNATURES, number, self.similarity, WORDS_PER_SHINGLE)
        _save(self.folder / _HASHES / f"{number:05d}.npy", hashes)


@dataclass
class _Comparing:
    """Compares the captions that agree in a bucket, and writes the pairs (later, earlier) that are alike."""

    captions: Dataset
    folder: Path
    similarity: float
    rows_per_file: int

    def load(self) -> None:
        pass

    def do(self, bucket: int, report: Report) -> None:
        from synclr_hf.captions.minhash import write_pairs

        file = write_pairs(self.folder / _SIGNATURES, self.folder / _PAIRS, bucket, self.similarity, WORDS_PER_SHINGLE)
        fates = np.load(self.folder / _FATES, mmap_mode="r")
        found = [np.empty((0, 2), dtype=np.int64)]
        for pairs in _candidates(file, self.rows_per_file, fates):
            found += [part[self._alike(part)] for part in _parts(pairs, _COMPARED_AT_ONCE)]
        _save(self.folder / _FOUND / f"{bucket:05d}.npy", np.concatenate(found))
        report(1)

    def _alike(self, pairs: np.ndarray) -> list[bool]:
        rows = np.unique(pairs).tolist()
        sets = dict(zip(rows, map(shingles, self.captions[rows]["caption"]), strict=True))
        return [_jaccard(sets[later], sets[earlier]) >= self.similarity for later, earlier in pairs.tolist()]


def _jaccard(one: set[Any], other: set[Any]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def _candidates(file: Path, rows_per_file: int, fates: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the pairs of rows (later, earlier) to compare, without exact duplicates.

    Every caption of a group that agrees in a bucket is compared with the first one and the `_LOOK_BACK` before it.
    """
    if file.stat().st_size == 0:
        return
    chain = np.memmap(file, dtype="<u4", mode="r").reshape(-1, 4)
    begins = np.flatnonzero((chain[1:, :2] != chain[:-1, 2:]).any(axis=1)) + 1
    at = np.searchsorted(begins, np.arange(_PAIRS_AT_ONCE, len(chain), _PAIRS_AT_ONCE))
    cuts = np.unique(np.concatenate([[0], begins[at[at < len(begins)]], [len(chain)]]))
    for low, high in pairwise(cuts.tolist()):
        part = chain[low:high].astype(np.int64)
        first, second = (part[:, place] * rows_per_file + part[:, place + 1] for place in (0, 2))
        starts = np.append(True, first[1:] != second[:-1])
        group = np.cumsum(starts)
        rows, groups = np.concatenate([first[starts], second]), np.concatenate([group[starts], group])
        stays = fates[rows] == KEPT
        order = np.lexsort((rows[stays], groups[stays]))
        yield _neighbours(rows[stays][order], groups[stays][order])


def _neighbours(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the pairs (later, earlier) to compare of rows that are sorted within their groups, each pair once."""
    leads = np.flatnonzero(np.diff(groups, prepend=-1))
    leaders = np.repeat(rows[leads], np.diff(np.append(leads, len(rows))))
    pairs = [np.stack([rows, leaders], axis=1)[rows != leaders]]
    for back in range(1, _LOOK_BACK + 1):
        same = groups[back:] == groups[:-back]
        pairs.append(np.stack([rows[back:][same], rows[:-back][same]], axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def _exact_duplicates(folder: Path, rows: int) -> np.ndarray:
    """Return the fates after the checksums: of equal ones the first stays (two texts share one by chance in 10^19)."""
    hashes = np.empty(rows, dtype="<u8")
    place = 0
    for file in sorted(folder.iterdir()):
        part = np.load(file)
        hashes[place : place + len(part)] = part
        place += len(part)
    fates = np.full(rows, KEPT, dtype=np.uint8)
    upper = hashes.view(np.uint8)[7::8] // (256 // _PARTS)
    for part in range(_PARTS):
        members = np.flatnonzero(upper == part)
        values = hashes[members]
        order = np.argsort(values, kind="stable")
        again = np.flatnonzero(values[order][1:] == values[order][:-1]) + 1
        fates[members[order[again]]] = EXACT
    return fates


def _near_duplicates(fates: np.ndarray, files: Sequence[Path]) -> np.ndarray:
    """Return the fates after the pairs that are alike: in order of rows, each goes if an earlier one that stays is."""
    pairs = np.concatenate([np.load(file) for file in files])
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    decided = bytearray(fates.tobytes())
    for part in _parts(pairs, _PAIRS_AT_ONCE):
        for later, earlier in part.tolist():
            if decided[earlier] == KEPT:
                decided[later] = NEAR
    return np.frombuffer(decided, dtype=np.uint8)


def _do_all(what: str, work: Work, tasks: Sequence[Any], total: int, unit: str, workers: int) -> None:
    with Progress(what, total=total, unit=unit) as bar:
        with closing(do_tasks(work, tasks, bar.update, workers)) as results:
            for _ in results:
                pass


def _bounded(text: str) -> str:
    return f"^ {text} $" if text else ""


def _checksum(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _parts(pairs: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (pairs[start : start + size] for start in range(0, len(pairs), size))


def _save(path: Path, array: np.ndarray) -> None:
    """Write an array whole or not at all; `np.save` would not say that the disk is full."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(np.ascontiguousarray(array).data)
    os.replace(temporary, path)


def _check_datatrove() -> None:
    try:
        import synclr_hf.captions.minhash  # noqa: F401
    except ImportError as error:
        raise UserInputError(
            f"near-duplicates are found with datatrove, which is not installed ({error}); "
            'type pip install "synclr-hf[cluster]"'
        ) from error


def _buckets() -> range:
    from synclr_hf.captions.minhash import NUM_BUCKETS

    return range(NUM_BUCKETS)
