"""Brings a repository on the Hub into the state that a run wants: what is there stays, what is missing is sent."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from synclr_hf.data.progress import Progress
from synclr_hf.data.shards import CARD_FOLDER, DATA_FOLDER, file_checksum
from synclr_hf.errors import UserInputError
from synclr_hf.hub.patience import WAITS, client, is_conflict, patiently
from synclr_hf.hub.repository import MARK_FILE, Repository

ANY_RUN = "any"
"""Stands for the mark of a run that is not made yet."""
FILES_PER_COMMIT = 100
"""Shards of one commit: the Hub advises 50 to 100 files in each, and has an hourly quota of commits."""
BYTES_PER_COMMIT = 4_000_000_000
"""Shards of one commit, in bytes, so that what was sent is seen after a while, not at the end."""
WRITTEN_BY_THE_HUB = (".gitattributes",)

_SHA256_DIGITS = 64
_STALE = {"dataset": (f"{DATA_FOLDER}/", f"{CARD_FOLDER}/"), "space": ("synclr_hf/", "synclr_hf-")}
"""Where an earlier publication may have left files: shards had other sizes, the package was another version."""


@dataclass(frozen=True)
class Remote:
    """A repository on the Hub, for who may write it.

    Attributes:
        repo_id: `org/name`.
        repo_type: `model`, `dataset` or `space`.
        api: the client; it reads a new token by itself.
    """

    repo_id: str
    repo_type: str
    api: HfApi

    @property
    def where(self) -> dict[str, str]:
        """How the client's methods name it."""
        return {"repo_id": self.repo_id, "repo_type": self.repo_type}

    def checksums(self) -> dict[str, str]:
        """Return path -> checksum of every file: SHA-256 of those that git knows by a pointer only, else git's own."""
        entries = self.api.list_repo_tree(**self.where, recursive=True)
        return {
            entry.path: entry.blob_id if entry.lfs is None else entry.lfs.sha256
            for entry in entries
            if hasattr(entry, "blob_id")  # a file, no folder
        }

    def commit(self, title: str, files: Mapping[str, Path | bytes], gone: Sequence[str] = ()) -> None:
        """Write and delete files in one commit, straight from the disk, whoever else commits at the same moment."""
        for wait in (*WAITS, None):
            changes: list[Any] = [CommitOperationDelete(path) for path in gone]
            changes += [CommitOperationAdd(path, content) for path, content in files.items()]
            try:
                self.api.create_commit(**self.where, operations=changes, commit_message=title)
                return
            except Exception as error:
                if wait is None or not is_conflict(error):
                    raise
                time.sleep(random.uniform(0, wait))  # others wait as well, and shall not meet again

    def mark(self, names: Sequence[str]) -> str | None:
        """Return which run the repository is of, `None` if nothing says it; `names` are its files."""
        if MARK_FILE not in names:
            return None
        with TemporaryDirectory() as folder:
            file = self.api.hf_hub_download(**self.where, filename=MARK_FILE, local_dir=folder)
            try:
                told = json.loads(Path(file).read_text(encoding="utf-8"))
            except ValueError:
                return None
            return told.get("run") if isinstance(told, dict) else None


def check_free(remote: Remote, mark: str, option: str, *, private: bool, replace: bool) -> str | None:
    """Refuse a repository that holds other things than an earlier publication of the same run.

    Args:
        remote: the repository; it may not be there yet.
        mark: of the run, or `ANY_RUN`.
        option: the option that named the repository, for errors.
        private: the user wants it to be private.
        replace: the user wants it to be written over.

    Returns:
        The mark that lies there, if one does.

    Raises:
        UserInputError: it cannot be used.
    """
    named = f"the {remote.repo_type} repository {remote.repo_id}"
    try:
        info = remote.api.repo_info(**remote.where)
    except RepositoryNotFoundError:
        return None
    if private and not info.private:
        raise UserInputError(
            f"{named} is public already; make it private on its page, or type another name with {option}"
        )
    names = [sibling.rfilename for sibling in info.siblings or [] if sibling.rfilename not in WRITTEN_BY_THE_HUB]
    there = remote.mark(names)
    if not names or replace or there == mark or (there and mark == ANY_RUN):
        return there
    if there and set(names) <= {MARK_FILE, "README.md"}:  # of a run that made nothing, e.g. for want of its model
        return there
    told = "another run" if there else f"other things ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
    raise UserInputError(
        f"{named} holds {told}; nothing was written; type another name with {option}, or --replace to write over it"
    )


def send_all(plan: Sequence[Repository], api: HfApi | None, *, private: bool, replace: bool) -> list[str]:
    """Look at all repositories, then write them, and return their addresses.

    Large sets of shards go in several commits, and all else in one behind them: who loads the set at any moment gets
    whole shards. Files that are there are not sent again, and shards are known by what their notes say: nothing is
    read that need not be.

    Raises:
        UserInputError: no right to write, other things in a repository, or the Hub cannot be reached.
    """
    pairs = [(Remote(one.repo_id, one.repo_type, api or client()), one) for one in plan]
    for remote, one in pairs:
        check = partial(check_free, remote, one.mark, one.option, private=private, replace=replace)
        patiently(one.repo_id, check)
    return [_send(remote, one, private, replace) for remote, one in pairs]


def _send(remote: Remote, repository: Repository, private: bool, replace: bool) -> str:
    url = patiently(remote.repo_id, lambda: create(remote, private))
    there = patiently(remote.repo_id, remote.checksums)
    shards = [path for path in repository.files if path.startswith(f"{DATA_FOLDER}/")]
    missing = [path for path in shards if not _is_there(repository, path, there)]
    if missing:
        files = {path: Path(repository.files[path]) for path in missing}  # type: ignore[arg-type]
        done = len(shards) - len(missing)
        with silent_client(), Progress("uploading", total=len(shards), unit="shard", initial=done) as bar:
            for batch in batches(files):
                patiently(remote.repo_id, partial(remote.commit, shards_title(batch), batch))
                bar.update(len(batch))
    patiently(remote.repo_id, lambda: _complete(remote, repository, replace))
    return url


def _complete(remote: Remote, repository: Repository, replace: bool) -> None:
    """Write all that still differs, and delete what is stale, in one commit or none."""
    there = remote.checksums()
    files = {path: content for path, content in repository.files.items() if not _is_there(repository, path, there)}
    folders = ("",) if replace else _STALE.get(repository.repo_type, ())
    gone = stale(there, repository.files, folders)
    if files or gone:
        remote.commit("Publish a run of synclr_hf", files, gone)


def create(remote: Remote, private: bool) -> str:
    """Make the repository if it is missing, and return its address."""
    sdk = {"space_sdk": "gradio"} if remote.repo_type == "space" else {}
    return str(remote.api.create_repo(**remote.where, private=private or None, exist_ok=True, **sdk))


def stale(there: Mapping[str, str], files: Mapping[str, Any], folders: Sequence[str]) -> list[str]:
    """Return the paths in one of the folders that no file of this run takes."""
    kept = (*files, *WRITTEN_BY_THE_HUB)
    return [path for path in there if path not in kept and path.startswith(tuple(folders))]


def batches(files: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """Share files out to commits, in order."""
    batch: dict[str, Path] = {}
    size = 0
    for path, file in files.items():
        num_bytes = file.stat().st_size
        if batch and (len(batch) == FILES_PER_COMMIT or size + num_bytes > BYTES_PER_COMMIT):
            yield batch
            batch, size = {}, 0
        batch[path] = file
        size += num_bytes
    if batch:
        yield batch


def shards_title(batch: Mapping[str, Path]) -> str:
    """Return the title of a commit of shards."""
    return f"Add {len(batch)} shard{'s' if len(batch) > 1 else ''}"


def _is_there(repository: Repository, path: str, there: Mapping[str, str]) -> bool:
    checksum, content = there.get(path), repository.files[path]
    if checksum is None:
        return False
    if len(checksum) == _SHA256_DIGITS and path in repository.checksums:
        return checksum == repository.checksums[path]
    return checksum == content_checksum(content, like=checksum)


def content_checksum(content: Path | bytes, *, like: str) -> str:
    """Return the checksum of a file or of bytes, of the kind of another one; see `Remote.checksums`."""
    if len(like) == _SHA256_DIGITS:
        return file_checksum(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()
    data = content.read_bytes() if isinstance(content, Path) else content  # git holds small files only
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def silent_client() -> Iterator[None]:
    """Keep what the client shows of this thread's calls off the terminal, where a bar of ours is.

    Its bars cannot be told apart by thread: none is drawn meanwhile.
    """
    thread = threading.get_ident()
    handlers = logging.getLogger("huggingface_hub").handlers

    def of_others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    shown = not are_progress_bars_disabled()
    if shown:
        disable_progress_bars()
    for handler in handlers:
        handler.addFilter(of_others)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(of_others)
        if shown:
            enable_progress_bars()
