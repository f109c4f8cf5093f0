"""A run folder: who may write in it, which configuration made it, and which of its shards are finished."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from synclr_hf.data.extension import EXTEND, Growth, Inputs, RunSize, differences, extended_record, refusal
from synclr_hf.data.progress import Progress
from synclr_hf.data.shards import (
    DATA_FOLDER,
    NOTES_FOLDER,
    REJECTS_FOLDER,
    TEMPORARY_SUFFIX,
    ShardNote,
    damage,
    note_file,
    read_note,
    remove_temporary_files,
    settle_shards,
    write_text,
)
from synclr_hf.errors import UserInputError

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""Some network file systems have no locks: nothing keeps two runs apart there."""

RUN_FILE = "run.json"
LOCK_FILE = ".lock"


@dataclass(frozen=True)
class Part:
    """What a member of a cluster run makes: the shards with `index % tasks == rank`, in a folder that members share.

    Attributes:
        rank: number of the member, from 0.
        tasks: number of members.
        processes: the most processes that the member may start; `None`: as many as a run on this machine would.
    """

    rank: int
    tasks: int
    processes: int | None = field(default=None, compare=False)

    def shards(self, num_shards: int) -> range:
        """Return the numbers of its shards."""
        return range(self.rank, num_shards, self.tasks) if self.tasks else range(0)


OPENING = Part(0, 0)
"""The part before all others, without shards: refuses what cannot be used, and writes `run.json` and the open card."""

FINISHING = Part(1, 0)
"""The part behind all others, without shards: writes the card if every shard is there."""


@contextmanager
def open_run_folder(
    folder: Path,
    record: dict[str, Any],
    part: Part | None = None,
    growth: Growth | None = None,
    inputs: Inputs | None = None,
) -> Iterator[None]:
    """Hold a run folder for writing: made if it is missing, locked, and known to belong to this very run.

    The whole run, `OPENING` and `FINISHING` are alone in the folder; members of one cluster run are there together.

    Args:
        folder: the run folder.
        part: what of the run is made; `None`: all of it. Members need a folder that `OPENING` has opened.
        record: what `run.json` shall say; `stage`, `rows`, `rows_per_shard` and `configuration` must agree with what
            an earlier run wrote there, the rest is for the reader.
        growth: how the run may grow; if that is wanted, the record there is rewritten first. `None`: not at all.
        inputs: gives rows of the set that the run is made from, to be compared with those that it was made from.

    Raises:
        UserInputError: the folder holds something else, is made with another configuration, or another run writes it;
            or it cannot be extended.
        OSError: it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise UserInputError(f"--output-dir {folder} is a file; type the name of a folder")
    if folder.exists():
        _refuse_foreign(folder)
    member = part is not None and part.tasks > 0
    extends = growth is not None and growth.wanted and not member
    if extends and not (folder / RUN_FILE).is_file():
        raise UserInputError(
            f"--output-dir {folder} holds no run that {EXTEND} could add to; type the folder of one, or leave it out"
        )
    if not member:
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        if member:
            if not folder.is_dir():
                read_record(folder)
            _lock_part(folder, part, held)
            remove_part_leftovers(folder, part)
            settle_shards(folder, lambda index: index % part.tasks == part.rank)
        else:
            _lock_whole(folder, held)
            remove_temporary_files(folder)
        if member or (folder / RUN_FILE).exists():
            before, now = read_record(folder), json.loads(json.dumps(record))
            if not member:
                settle_shards(folder)
            if differences(before, now):
                if part in (None, OPENING) and before.get("stage") == now["stage"] and _holds_nothing(folder):
                    _write_record(folder, record)  # e.g. a model that could not be loaded: nothing is lost
                elif not extends:
                    raise refusal(folder, before, now, growth)
                else:
                    _write_record(folder, extended_record(folder, before, now, growth, inputs))
        else:
            _write_record(folder, record)
        yield


def _holds_nothing(folder: Path) -> bool:
    """Tell whether a run made nothing but its record and its card."""
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return all(path.name in (RUN_FILE, "README.md") or _is_empty_folder(path) for path in visible)


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    write_text(folder / RUN_FILE, json.dumps(record, indent=1, sort_keys=True) + "\n")


def _lock_whole(folder: Path, held: ExitStack) -> None:
    _lock_folder(folder, fcntl.LOCK_EX, held)
    for left in folder.glob(f"{LOCK_FILE}-*"):
        left.unlink(missing_ok=True)  # no member is there to hold one


def _lock_part(folder: Path, part: Part, held: ExitStack) -> None:
    """Hold the folder together with the other members, and the part alone.

    Every member locks its own file before it looks at those of another number of parts: of two that start at the same
    moment, at least one sees the other.
    """
    _lock_folder(folder, fcntl.LOCK_SH, held)
    own = held.enter_context(open(folder / f"{LOCK_FILE}-{part.rank}-of-{part.tasks}", "a+"))
    what = f"part {part.rank} of {part.tasks} of '{folder}'"
    if not locks(own, fcntl.LOCK_EX):
        raise UserInputError(f"{what} is being made by another process now; wait until it ends")
    for path in folder.glob(f"{LOCK_FILE}-*-of-*"):
        tasks = path.name.rpartition("-")[2]
        if tasks != str(part.tasks):
            with open(path, "a+") as other:
                if not locks(other, fcntl.LOCK_SH):
                    raise UserInputError(
                        f"{what} cannot be made: another run makes it in {tasks} parts now; wait until it ends"
                    )


def _lock_folder(folder: Path, kind: int, held: ExitStack) -> None:
    if not locks(held.enter_context(open(folder / LOCK_FILE, "a+")), kind):
        raise UserInputError(
            f"another run is writing '{folder}' now; wait until it ends, or type another --output-dir"
        )


def locks(file: IO[str], kind: int) -> bool:
    """Lock a file, open for reading and writing as NFS wants it, until it is closed; `False` if another holds it."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def remove_part_leftovers(folder: Path, part: Part) -> None:
    """Remove what a killed member left half-written of this part; that of the other parts may be at work."""
    for place in (DATA_FOLDER, NOTES_FOLDER, REJECTS_FOLDER):
        for path in (folder / place).glob(f"*{TEMPORARY_SUFFIX}"):
            number = re.search(r"\d{5}", path.name)
            if number and int(number[0]) % part.tasks == part.rank:
                path.unlink(missing_ok=True)


def read_record(folder: Path) -> dict[str, Any]:
    """Return what `run.json` says.

    Raises:
        UserInputError: it is missing or unreadable.
    """
    try:
        record = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        if isinstance(record, dict) and isinstance(record.get("configuration"), dict):
            return record
    except (OSError, ValueError):
        pass
    raise UserInputError(
        f"'{folder / RUN_FILE}' is missing or damaged; type another folder, or delete this one and make it again"
    )


def finished_shards(
    folder: Path, size: RunSize, shards: Iterable[int] | None = None
) -> Iterator[tuple[int, ShardNote]]:
    """Yield number and note of the shards that are finished and undamaged; a damaged one is named on standard error.

    A shard without a note was never finished (the note is written last), so nothing is said about it. Those that were
    finished before the run was extended are among them; see `RunSize.is_to_grow`.

    Args:
        folder: the run folder.
        size: what the run shall be.
        shards: the ones to look at; `None`: all.
    """
    shards = range(size.num_shards) if shards is None else shards
    candidates = [index for index in shards if (folder / note_file(index)).exists()]
    if not candidates:
        return
    with Progress("checking finished shards", total=len(candidates), unit="shard") as bar:
        for index in candidates:
            note = read_note(folder, index)
            if note is not None:
                problem = damage(
                    folder, note, note.rows_of_task if size.is_to_grow(index, note) else size.rows_of(index)
                )
                if problem is None:
                    yield index, note
                else:
                    bar.message(f"{folder / note.file}: {problem}; making it again")
            bar.update()


def noted_shards(folder: Path, size: RunSize) -> Iterator[tuple[int, ShardNote]]:
    """Yield number and note of the shards that are all there, without reading them: each member checked its own."""
    for index in range(size.num_shards):
        note = read_note(folder, index)
        if note is not None and (folder / note.file).is_file() and not size.is_to_grow(index, note):
            yield index, note


def content_fingerprint(folder: str | Path) -> str:
    """Return a checksum over the contents of all finished shards: same rows, same fingerprint, wherever they lie.

    Raises:
        UserInputError: the folder is not a run folder.
    """
    folder = Path(folder)
    size = RunSize.of(read_record(folder))
    digest = hashlib.sha256()
    for index in range(size.num_shards):
        note = read_note(folder, index)
        told = note.sha256 if note and not size.is_to_grow(index, note) else "unfinished"
        digest.update(f"{index} {told}\n".encode())
    return digest.hexdigest()[:32]


def _refuse_foreign(folder: Path) -> None:
    visible = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    temporary = f"{RUN_FILE}."
    if RUN_FILE in visible or all(name.startswith(temporary) or _is_empty_folder(folder / name) for name in visible):
        return
    raise UserInputError(
        f"--output-dir {folder} holds other things ({', '.join(visible[:3])}{', ...' if len(visible) > 3 else ''}) "
        "and no run of this stage; type the name of a new or empty folder"
    )


def _is_empty_folder(path: Path) -> bool:
    return path.name in (DATA_FOLDER, NOTES_FOLDER) and path.is_dir() and not os.listdir(path)
