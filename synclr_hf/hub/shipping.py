"""Puts a stage's data set on the Hub: its shards while others are made, its card when all are there."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import TracebackType

from huggingface_hub import HfApi

from synclr_hf.data.cards import UNFINISHED
from synclr_hf.data.progress import Progress
from synclr_hf.data.runs import FINISHING, OPENING, Part, read_record
from synclr_hf.data.shards import DATA_FOLDER, ShardNote, read_note, shard_file
from synclr_hf.errors import UserInputError
from synclr_hf.hub.dataset_files import dataset_mark, dataset_repository, published_card
from synclr_hf.hub.patience import client, patiently, reason, refusal, retry_after
from synclr_hf.hub.repository import MARK_FILE, check_repo_id, mark_file
from synclr_hf.hub.sending import (
    ANY_RUN,
    FILES_PER_COMMIT,
    Remote,
    batches,
    check_free,
    content_checksum,
    create,
    send_all,
    shards_title,
    silent_client,
    stale,
)

logger = logging.getLogger(__name__)

PUSH_OPTION = "--push-to-hub"
CARD = "README.md"
SECONDS_BETWEEN_COMMITS = 60.0
"""All members of a run together commit about once in this time: the Hub has an hourly quota of commits (429)."""
FIRST_WAIT, LONGEST_WAIT = 5.0, 600.0
"""Seconds before the next try after the first failure; each further failure doubles them, up to the longest."""

_SHORT = 0.5
"""Seconds that nobody needs a bar for."""


@dataclass(frozen=True)
class DatasetTarget:
    """Where a generating stage puts its data set; it can be pickled.

    Attributes:
        repo_id: `org/name` on the Hub.
        private: make a new repository private.
        replace: write over a repository that holds other things.
    """

    repo_id: str
    private: bool = False
    replace: bool = False

    def check(self, *, api: HfApi | None = None) -> None:
        """Ask the Hub who we are and what lies there, before anything is paid for.

        Raises:
            UserInputError: a name that the Hub does not allow, no valid token, things of others in the repository, or
                the Hub cannot be reached.
        """
        check_repo_id(PUSH_OPTION, self.repo_id)
        remote = self.remote(api)
        patiently(self.repo_id, remote.api.whoami)
        patiently(self.repo_id, lambda: self.check_free(remote, ANY_RUN))

    @contextmanager
    def shipping(self, part: Part | None = None, *, api: HfApi | None = None) -> Iterator[ShardShipper | None]:
        """Ship the shards that are finished within the block; whoever makes `FINISHING` has none, and pushes.

        Args:
            part: what of the run the block makes; `None`: all of it.
            api: a client with an endpoint or a token of its own; default: those of the environment.
        """
        if part == FINISHING:
            yield None
            return
        with ShardShipper(self, part, api=api) as shipper:
            yield shipper

    def push(self, folder: str | Path, stage: str, *, api: HfApi | None = None) -> str:
        """Publish the folder of a finished stage, less what is there, and return the address.

        Raises:
            UserInputError: the stage is not finished, no right to write, other things in the repository, or the Hub
                cannot be reached.
        """
        folder = Path(folder).expanduser()
        plan = dataset_repository(folder, stage, self.repo_id, option=PUSH_OPTION)
        try:
            return send_all([plan], api, private=self.private, replace=self.replace)[0]
        except UserInputError as error:
            raise UserInputError(f"{error}; the data set is finished and safe in '{folder}'") from error

    def remote(self, api: HfApi | None = None) -> Remote:
        """Return the repository, for who may write it."""
        return Remote(self.repo_id, "dataset", api or client())

    def check_free(self, remote: Remote, mark: str) -> str | None:
        """Refuse a repository with other things than the run of this mark, unless it shall be written over."""
        return check_free(remote, mark, PUSH_OPTION, private=self.private, replace=self.replace)


@dataclass
class ShardShipper:
    """Sends shards in a thread of its own while others are made; whoever makes them is never held up.

    Before the first shard the repository is claimed: made if it is missing, with the mark of the run, and with a card
    that says that the set is not finished. Shards go straight from the disk, several in one commit; those that are
    there already, by their checksums, are not read. While the Hub cannot be reached they wait on the disk. As a
    context manager it ends with the block: after the commit that is under way, or at once if the block fails (but
    without Xet the client first sends what it has begun). What is not sent then is sent by `DatasetTarget.push`; a
    member of a cluster run sends its own before it ends, if it can.

    Attributes:
        target: where to.
        part: what of the run is made here; `None`: all of it.
        api: a client with an endpoint or a token of its own; default: those of the environment.
    """

    target: DatasetTarget
    part: Part | None = None
    api: HfApi | None = None
    _remote: Remote = field(init=False, repr=False)
    _folder: Path = field(init=False, repr=False)
    _thread: threading.Thread | None = field(default=None, init=False, repr=False)
    _news: threading.Condition = field(default_factory=threading.Condition, init=False, repr=False)
    _waiting: set[int] = field(default_factory=set, init=False, repr=False)
    _there: dict[str, str] | None = field(default=None, init=False, repr=False)
    _ended: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        """Nothing is asked of the Hub yet."""
        self._remote = self.target.remote(self.api)

    def opened(self, folder: Path) -> None:
        """Claim the repository for the run in this folder, and start to send; a member finds it claimed.

        Raises:
            UserInputError: another run's things are there, or the Hub cannot be reached.
        """
        self._folder = folder
        if self.part in (None, OPENING):
            patiently(self.target.repo_id, self._claim)
        if self.part != OPENING:
            self._thread = threading.Thread(target=self._send_until_ended, name="shard-shipper", daemon=True)
            self._thread.start()

    def finished(self, index: int, note: ShardNote) -> None:
        """Take note of a shard that is to be sent; what it is, its note on the disk says when its turn comes."""
        with self._news:
            self._waiting.add(index)
            self._news.notify()

    def __enter__(self) -> ShardShipper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._news:
            self._ended = True
            self._news.notify()
        if error is not None:
            return  # a commit that is under way ends with the process
        if self.part == OPENING:
            patiently(self.target.repo_id, self._show_open_card)
        if self._thread is None:
            return
        self._thread.join(_SHORT)
        if self._thread.is_alive():
            with Progress(f"uploading to {self.target.repo_id}"):
                self._thread.join()
        if self.part is not None:
            self._send_the_rest()

    def _claim(self) -> None:
        mark = dataset_mark(read_record(self._folder))
        there = self.target.check_free(self._remote, mark)
        create(self._remote, self.target.private)
        if there != mark:
            others = self._remote.checksums()
            files = {MARK_FILE: mark_file(mark), **self._open_card(others)}
            self._remote.commit("Open a run of synclr_hf", files, stale(others, files, ("",)))

    def _show_open_card(self) -> None:
        """Say that a set which was finished before is not any more: `OPENING` has found shards to make."""
        card = self._open_card(self._checksums())
        if card:
            self._remote.commit("Open a run of synclr_hf", card)

    def _open_card(self, there: dict[str, str]) -> dict[str, bytes]:
        """Return the card if it says that the set is not finished, and is not there yet."""
        if not (self._folder / CARD).is_file():
            return {}
        card = published_card(self._folder, self.target.repo_id)
        if UNFINISHED.encode() not in card or _is_there(CARD, card, there):
            return {}
        return {CARD: card}

    def _send_until_ended(self) -> None:
        wait, failures = 0.0, 0
        while self._has_work(wait):
            try:
                with silent_client():
                    sent = self._send_some()
            except Exception as error:
                failures += 1
                wait = max(min(FIRST_WAIT * 2 ** min(failures - 1, 10), LONGEST_WAIT), retry_after(error))
                if failures == 1:
                    logger.warning(
                        "%s: shards are not sent now (%s); they wait in '%s' while others are made",
                        self.target.repo_id,
                        refusal(self.target.repo_id, error) or reason(error),
                        self._folder,
                    )
            else:
                if failures:
                    logger.warning("%s: shards are sent again", self.target.repo_id)
                members = self.part.tasks if self.part is not None else 1
                wait, failures = SECONDS_BETWEEN_COMMITS * members if sent else 0.0, 0

    def _has_work(self, wait: float) -> bool:
        """Wait so many seconds, and until a shard waits; `False` when the run has ended."""
        earliest = time.monotonic() + wait
        with self._news:
            while not self._ended:
                left = earliest - time.monotonic()
                if left <= 0 and self._waiting:
                    return True
                self._news.wait(left if left > 0 else None)
        return False

    def _send_some(self) -> bool:
        """Send a commit's worth of the waiting shards; `False` if all that were looked at are there already."""
        if self._there is None:
            if self.part is not None:
                self.target.check_free(self._remote, dataset_mark(read_record(self._folder)))
            self._there = self._checksums()
        with self._news:
            looked_at = heapq.nsmallest(FILES_PER_COMMIT, self._waiting)
        notes = {shard_file(index): (index, read_note(self._folder, index)) for index in looked_at}
        told = {path: note.sha256 for path, (_, note) in notes.items() if note is not None}
        missing = {path: self._folder / path for path, sha256 in told.items() if self._there.get(path) != sha256}
        batch = next(batches(missing), {})
        if batch:
            card = self._open_card(self._there) if self.part is None else {}
            self._remote.commit(shards_title(batch), {**batch, **card})
            self._there |= {path: told[path] for path in batch}
            self._there |= {path: content_checksum(text, like="") for path, text in card.items()}
        done = chain(batch, notes.keys() - missing.keys())
        with self._news:
            self._waiting.difference_update(notes[path][0] for path in done)
        return bool(batch)

    def _checksums(self) -> dict[str, str]:
        """Return what lies there of what is shipped here."""
        ours = (f"{DATA_FOLDER}/", CARD)
        return {path: checksum for path, checksum in self._remote.checksums().items() if path.startswith(ours)}

    def _send_the_rest(self) -> None:
        """Send what a member has left; where its node cannot reach the Hub, the call that finishes the run does it."""
        try:
            while self._waiting:
                patiently(self.target.repo_id, self._send_some)
        except Exception as error:  # the member's shards are made, and nothing here may let it fail
            logger.warning("%s; %d shards are left to who finishes the run", reason(error), len(self._waiting))


def _is_there(path: str, content: bytes, there: dict[str, str]) -> bool:
    return path in there and content_checksum(content, like=there[path]) == there[path]
