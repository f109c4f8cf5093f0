"""One shard: a parquet file that is either complete or not there, and a note beside it that says what it holds."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synclr_hf.data.tally import Tally

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when a disk, a quota or the largest file is full."""

DATA_FOLDER = "data"
NOTES_FOLDER = "shards"
REJECTS_FOLDER = "rejects"
CARD_FOLDER = "card"
TEMPORARY_SUFFIX = ".tmp"
COMING_SUFFIX = ".next"
"""Ends the hidden name of what waits until its shard is there."""
BYTES_PER_GROUP = 2**28
"""Bytes of pictures after which a row group is closed: pyarrow reads no nested column of more than 2 GiB."""

ROWS_PER_GROUP = 256
"""Rows of a parquet row group; they are the only ones held in memory while a shard is written."""


@dataclass(frozen=True)
class ShardTask:
    """The unit of work: rows `first_row` to `first_row + num_rows - 1` of the run.

    Attributes:
        index: number of the shard.
        first_row: number of its first row in the whole run.
        num_rows: its number of rows, at least 1.
        inputs: the rows of the stage before that it is made from, if there is one.
        kept: an earlier version of the shard, with fewer rows or less in them; see `kept_rows`.
        kept_num_rows: the number of rows that it was made for; those that it lacks of them were dropped, and stay so.
    """

    index: int
    first_row: int
    num_rows: int
    inputs: tuple[Row, ...] = ()
    kept: Path | None = None
    kept_num_rows: int = 0


@dataclass(frozen=True)
class ShardNote:
    """What `shards/00000.json` says about a finished shard.

    Attributes:
        file: path of the parquet file inside the run folder.
        rows: number of rows.
        sha256: checksum of the file, in hexadecimal.
        counts: how many draws were rejected, by reason.
        concepts: rejected draws by concept.
        cost: what it took; see `Tally`.
        dropped: rows of its task for which nothing is written.
        units_per_row: what each row has of the unit that the stage counts, e.g. pictures; `None` in notes of earlier
            versions of this package.
    """

    file: str
    rows: int
    sha256: str
    counts: dict[str, int]
    concepts: dict[str, int] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    dropped: int = 0
    units_per_row: int | None = None

    @property
    def rows_of_task(self) -> int:
        """Number of rows that it was made for, the dropped ones included."""
        return self.rows + self.dropped

    def tally(self) -> Tally:
        """Return the counts, to be added to those of other shards."""
        return Tally(Counter(self.counts), Counter(self.concepts), Counter(self.cost), self.dropped)


def shard_file(index: int) -> str:
    """Return the path of shard `index` inside a run folder."""
    return f"{DATA_FOLDER}/train-{index:05d}.parquet"


def note_file(index: int) -> str:
    """Return the path of the note beside shard `index` inside a run folder."""
    return f"{NOTES_FOLDER}/{index:05d}.json"


def rejects_file(index: int) -> str:
    """Return the path of the rejected draws of shard `index` inside a run folder, one JSON object a line."""
    return f"{REJECTS_FOLDER}/{index:05d}.jsonl"


def write_shard(
    folder: Path, task: ShardTask, rows: Iterable[Row], schema: pa.Schema, tally: Tally, units_per_row: int = 1
) -> ShardNote:
    """Write one shard with its note; after a crash at any moment `settle_shards` makes it the old one or the new one.

    The same rows give the same bytes (on one version of pyarrow).

    Args:
        folder: the run folder.
        task: what is made; what an earlier version of the shard told is added to what this one tells.
        rows: its rows; taken one row group at a time.
        schema: the columns, with the metadata of `datasets`.
        tally: filled by whoever makes the rows; read once they are all written. Rejects go to a file of their own.
        units_per_row: what each row has of the unit that the stage counts.

    Raises:
        OSError: the disk is full, or the folder cannot be written; the temporary file is removed.
    """
    target = folder / shard_file(task.index)
    temporary = _temporary(target)
    earlier = read_note(folder, task.index) if task.kept else None
    try:
        num_rows = _write_parquet(temporary, rows, schema)
        told = earlier.tally() if earlier else Tally()
        told.add(tally)
        counts = (dict(sorted(counts.items())) for counts in (told.counts, told.concepts, told.cost))
        dropped = task.num_rows - num_rows if earlier else tally.dropped
        note = ShardNote(
            shard_file(task.index), num_rows, file_checksum(temporary), *counts, dropped, units_per_row=units_per_row
        )
        _write_rejects(folder, task.index, tally.rejects, keep=earlier is not None)
        write_text(_coming(folder / note_file(task.index)), json.dumps(asdict(note), indent=1) + "\n")
        os.replace(temporary, target)
    except BaseException:
        for path in (temporary, _coming(folder / note_file(task.index)), _coming(folder / rejects_file(task.index))):
            path.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)
    _adopt(folder, task.index)
    return note


def read_note(folder: Path, index: int) -> ShardNote | None:
    """Return the note of shard `index`, or `None` if it is missing or unreadable."""
    return _read_note(folder / note_file(index))


def _read_note(path: Path) -> ShardNote | None:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        told = (dict(fields.get(name, {})) for name in ("counts", "concepts", "cost"))
        units = fields.get("units_per_row")
        return ShardNote(
            str(fields["file"]),
            int(fields["rows"]),
            str(fields["sha256"]),
            *told,
            int(fields.get("dropped", 0)),
            None if units is None else int(units),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def settle_shards(folder: Path, is_ours: Callable[[int], bool] = lambda index: True) -> None:
    """Give shards that a killed run replaced the notes that it could not put beside them any more.

    A note waits under another name while its shard is replaced; it is adopted if the shard has its checksum, and
    removed if the shard is still the old one.

    Args:
        folder: the run folder.
        is_ours: tells by its number whether a shard may be looked at.
    """
    for index, path in _waiting(folder / NOTES_FOLDER):
        if is_ours(index):
            note = _read_note(path)
            if note is not None and damage(folder, note, note.rows_of_task) is None:
                _adopt(folder, index)
            else:
                path.unlink(missing_ok=True)
    for index, path in _waiting(folder / REJECTS_FOLDER):
        if is_ours(index):
            path.unlink(missing_ok=True)


def _waiting(place: Path) -> list[tuple[int, Path]]:
    return [(int(path.name[1:6]), path) for path in place.glob(f".{'[0-9]' * 5}.*{COMING_SUFFIX}")]


def _adopt(folder: Path, index: int) -> None:
    """Put what waits for a shard beside it, the note last."""
    rejects, note = folder / rejects_file(index), folder / note_file(index)
    if _coming(rejects).exists():
        os.replace(_coming(rejects), rejects)
    os.replace(_coming(note), note)
    _sync_folder(note.parent)


def _coming(path: Path) -> Path:
    """Return the name under which a file waits until its shard is there."""
    return path.with_name(f".{path.name}{COMING_SUFFIX}")


def damage(folder: Path, note: ShardNote, num_rows: int) -> str | None:
    """Return what is wrong with the finished shard of `note`, or `None` if it is as it was written."""
    try:
        if file_checksum(folder / note.file) != note.sha256:
            return "its checksum differs"
    except FileNotFoundError:
        return "its file is missing"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    told = note.rows_of_task
    return None if told == num_rows else f"it has {told} rows instead of {num_rows}"


def kept_rows(task: ShardTask) -> Iterator[Row]:
    """Yield the rows of the earlier version of a shard in order, pictures as encoded bytes; none if there is none."""
    import pyarrow.parquet as pq

    if task.kept is not None:
        with pq.ParquetFile(task.kept) as parquet:
            for batch in parquet.iter_batches(ROWS_PER_GROUP):
                yield from batch.to_pylist()


def file_checksum(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a small text file whole or not at all."""
    temporary = _temporary(path)
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _temporary(path: Path) -> Path:
    """Return where a file is written first: hidden, so that nobody reads what a killed run leaves there."""
    return path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")


def remove_temporary_files(folder: Path) -> None:
    """Remove what a killed run left half-written."""
    for place in (folder, folder / DATA_FOLDER, folder / NOTES_FOLDER, folder / REJECTS_FOLDER):
        for path in place.glob(f"*{TEMPORARY_SUFFIX}"):
            path.unlink(missing_ok=True)


def _write_rejects(folder: Path, index: int, rejects: list[dict[str, Any]], keep: bool) -> None:
    """Write them for the shard that comes; `keep` those of the earlier version, else remove any that are there."""
    path = folder / rejects_file(index)
    if not keep:
        path.unlink(missing_ok=True)
    if rejects:
        path.parent.mkdir(exist_ok=True)
        earlier = path.read_text(encoding="utf-8") if path.exists() else ""
        lines = (json.dumps(reject, ensure_ascii=False, sort_keys=True) + "\n" for reject in rejects)
        write_text(_coming(path), earlier + "".join(lines))


def _write_parquet(path: Path, rows: Iterable[Row], schema: pa.Schema) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    num_rows = 0
    with open(path, "wb") as file:
        writer = pq.ParquetWriter(
            file, schema, compression="zstd", write_page_index=True, use_content_defined_chunking=True
        )
        try:
            for group in _groups(rows, ROWS_PER_GROUP):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                num_rows += len(group)
        finally:
            writer.close()
        file.flush()
        os.fsync(file.fileno())
    return num_rows


def _groups(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    group: list[Row] = []
    held = 0
    for row in rows:
        group.append(row)
        held += sum(len(image["bytes"] or b"") for image in row.get("images") or ())
        if len(group) == size or held >= BYTES_PER_GROUP:
            yield group
            group, held = [], 0
    if group:
        yield group


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
