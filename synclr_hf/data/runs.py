"""A run folder: who may write in it, which configuration made it, and which of its shards are finished."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synclr_hf.data.progress import Progress
from synclr_hf.data.shards import (
    DATA_FOLDER,
    NOTES_FOLDER,
    ShardNote,
    damage,
    note_file,
    read_note,
    remove_temporary_files,
    write_text,
)
from synclr_hf.errors import UserInputError

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""Some network file systems have no locks: nothing keeps two runs apart there."""

RUN_FILE = "run.json"
LOCK_FILE = ".lock"


@contextmanager
def open_run_folder(folder: Path, record: dict[str, Any]) -> Iterator[None]:
    """Hold a run folder for writing: made if it is missing, locked, and known to belong to this very run.

    Args:
        folder: the run folder.
        record: what `run.json` shall say; `stage`, `rows`, `rows_per_shard` and `configuration` must agree with what
            an earlier run wrote there, the rest is for the reader.

    Raises:
        UserInputError: the folder holds something else, is made with another configuration, or another run writes it.
        OSError: it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise UserInputError(f"--output-dir {folder} is a file; type the name of a folder")
    if folder.exists():
        _refuse_foreign(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK_FILE, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserInputError(
                f"another run is writing '{folder}' now; wait until it ends, or type another --output-dir"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        remove_temporary_files(folder)
        if (folder / RUN_FILE).exists():
            _refuse_other_configuration(folder, record)
        else:
            write_text(folder / RUN_FILE, json.dumps(record, indent=1, sort_keys=True) + "\n")
        yield


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


def finished_shards(folder: Path, rows: int, rows_per_shard: int) -> Iterator[tuple[int, ShardNote]]:
    """Yield number and note of the shards that are finished and undamaged; a damaged one is named on standard error.

    A shard without a note was never finished (the note is written last), so nothing is said about it.
    """
    num_shards = shard_count(rows, rows_per_shard)
    candidates = [index for index in range(num_shards) if (folder / note_file(index)).exists()]
    if not candidates:
        return
    with Progress("checking finished shards", total=len(candidates), unit="shard") as bar:
        for index in candidates:
            note = read_note(folder, index)
            if note is not None:
                problem = damage(folder, note, min(rows_per_shard, rows - index * rows_per_shard))
                if problem is None:
                    yield index, note
                else:
                    bar.message(f"{folder / note.file}: {problem}; making it again")
            bar.update()


def shard_count(rows: int, rows_per_shard: int) -> int:
    """Return the number of shards that `rows` rows need."""
    return -(-rows // rows_per_shard)


def content_fingerprint(folder: str | Path) -> str:
    """Return a checksum over the contents of all finished shards: same rows, same fingerprint, wherever they lie.

    Raises:
        UserInputError: the folder is not a run folder.
    """
    folder = Path(folder)
    record = read_record(folder)
    digest = hashlib.sha256()
    for index in range(shard_count(record["rows"], record["rows_per_shard"])):
        note = read_note(folder, index)
        digest.update(f"{index} {note.sha256 if note else 'unfinished'}\n".encode())
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
    return path.name in (DATA_FOLDER, NOTES_FOLDER) and path.is_dir() and not any(os.scandir(path))


def _refuse_other_configuration(folder: Path, record: dict[str, Any]) -> None:
    before, now = _flat(read_record(folder)), _flat(json.loads(json.dumps(record)))
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names:
        changes = ", ".join(f"{name} {_shown(before, name)} there, {_shown(now, name)} now" for name in sorted(names))
        raise UserInputError(
            f"--output-dir {folder} was made with another configuration: {changes}; "
            f"type another --output-dir, or delete that folder"
        )


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """Return the entries that must agree."""
    fixed = {name: record.get(name) for name in ("stage", "rows", "rows_per_shard")}
    return {**fixed, **record["configuration"]}


def _shown(entries: dict[str, Any], name: str) -> str:
    return str(entries[name]) if name in entries else "(not set)"
