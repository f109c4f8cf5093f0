"""Sends what a run publishes to the Hub: created where it is missing, never over other things, nothing sent twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,  # of httpx or httpx2, whichever this version of the client uses
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from synclr_hf.data.shards import CARD_FOLDER, DATA_FOLDER
from synclr_hf.errors import UserInputError
from synclr_hf.hub.publication import (
    MARK_FILE,
    PublishConfig,
    Repository,
    check_repo_id,
    dataset_repository,
    plan_publication,
)

PUSH_OPTION = "--push-to-hub"
ANY_RUN = "any"
"""Stands for the mark of a run that is not made yet."""
WAITS = (1.0, 3.0, 9.0)
"""Seconds before each further try when the Hub is busy or the connection is cut."""
BUSY = (408, 429, 500, 502, 503, 504)
STALE = (f"{DATA_FOLDER}/*", f"{CARD_FOLDER}/*")
"""What an earlier publication may have left of a data set: its shards may have had other sizes, and other names."""
WRITTEN_BY_THE_HUB = (".gitattributes",)

Answer = TypeVar("Answer")


def publish(run: str | Path, config: PublishConfig, *, api: HfApi | None = None) -> list[str]:
    """Publish a run: data sets first, then the encoder, whose card names them.

    All repositories are looked at before the first one is written. After a cut connection the same call goes on:
    files that arrived are not sent again.

    Args:
        run: folder of a run, or of an encoder alone; see `plan_publication`.
        config: what goes where.
        api: a client with an endpoint or a token of its own; default: those of the environment.

    Returns:
        The address of each repository.

    Raises:
        UserInputError: nothing to publish, no right to write, other things in a repository, or the Hub cannot be
            reached.
    """
    return _send_all(plan_publication(run, config), api, private=config.private, replace=config.replace)


@dataclass(frozen=True)
class DatasetTarget:
    """Where a generating stage puts its data set.

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
        client = api or _client()
        _patiently(self.repo_id, client.whoami)
        place = Repository(self.repo_id, "dataset", ANY_RUN, {}, PUSH_OPTION)
        _patiently(self.repo_id, lambda: _check_free(client, place, private=self.private, replace=self.replace))

    def push(self, folder: str | Path, stage: str, *, api: HfApi | None = None) -> str:
        """Publish the folder of a finished stage and return the address; see `publish`.

        Raises:
            UserInputError: the stage is not finished, no right to write, other things in the repository, or the Hub
                cannot be reached.
        """
        plan = dataset_repository(Path(folder).expanduser(), stage, self.repo_id, option=PUSH_OPTION)
        return _send_all([plan], api, private=self.private, replace=self.replace)[0]


def _client() -> HfApi:
    return HfApi(library_name="synclr_hf")


def _send_all(plan: Sequence[Repository], api: HfApi | None, *, private: bool, replace: bool) -> list[str]:
    """Look at all repositories, then write them."""
    api = api or _client()
    for one in plan:
        _patiently(one.repo_id, lambda one=one: _check_free(api, one, private=private, replace=replace))
    return [_patiently(one.repo_id, lambda one=one: _send(api, one, private, replace)) for one in plan]


def _send(api: HfApi, repository: Repository, private: bool, replace: bool) -> str:
    where = {"repo_id": repository.repo_id, "repo_type": repository.repo_type}
    url = api.create_repo(**where, private=private or None, exist_ok=True)
    with repository.folder() as folder:
        api.upload_folder(
            **where,
            folder_path=folder,
            commit_message="Publish a run of synclr_hf",
            delete_patterns="*" if replace else STALE if repository.repo_type == "dataset" else None,
        )
    return str(url)


def _check_free(api: HfApi, repository: Repository, *, private: bool, replace: bool) -> None:
    """Refuse a repository that holds other things than an earlier publication of the same run."""
    repo_id, where = repository.repo_id, {"repo_id": repository.repo_id, "repo_type": repository.repo_type}
    try:
        info = api.repo_info(**where)
    except RepositoryNotFoundError:
        return
    if private and not info.private:
        raise UserInputError(
            f"the {repository.repo_type} repository {repo_id} is public already; make it private on its page, "
            f"or type another name with {repository.option}"
        )
    names = [sibling.rfilename for sibling in info.siblings or [] if sibling.rfilename not in WRITTEN_BY_THE_HUB]
    if not names or replace:
        return
    mark = None
    if MARK_FILE in names:
        with TemporaryDirectory() as folder:
            file = api.hf_hub_download(**where, filename=MARK_FILE, local_dir=folder)
            mark = json.loads(Path(file).read_text()).get("run")
    if mark != repository.mark and not (mark and repository.mark == ANY_RUN):
        told = "another run" if mark else f"other things ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        raise UserInputError(
            f"the {repository.repo_type} repository {repo_id} holds {told}; nothing was written; "
            f"type another name with {repository.option}, or --replace to write over it"
        )


def _patiently(repo_id: str, action: Callable[[], Answer]) -> Answer:
    """Do something on the Hub, again after a while where that may help, with one-line errors."""
    for wait in (*WAITS, None):
        try:
            return action()
        except OfflineModeIsEnabled as error:
            raise UserInputError(
                "HF_HUB_OFFLINE is set: nothing can be published; type unset HF_HUB_OFFLINE"
            ) from error
        except LocalTokenNotFoundError as error:
            raise _refused(repo_id, "no token was found") from error
        except HfHubHTTPError as error:
            status = getattr(error.response, "status_code", None)
            if status == 401:
                raise _refused(repo_id, "the token is missing or not valid") from error
            if status == 403:
                raise _refused(repo_id, "the token has no right to write there") from error
            if status not in BUSY or wait is None:
                raise _stopped(repo_id, f"the Hub answered {status}: {_first_line(error)}") from error
        except (HTTPError, ConnectionError, TimeoutError, RuntimeError) as error:  # the last: bytes that got stuck
            if wait is None:
                raise _stopped(repo_id, f"the connection failed: {_first_line(error)}") from error
        time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def _refused(repo_id: str, reason: str) -> UserInputError:
    return UserInputError(
        f"{repo_id} cannot be written: {reason}; type hf auth login with a token that may write, or set HF_TOKEN"
    )


def _stopped(repo_id: str, reason: str) -> UserInputError:
    return UserInputError(f"{repo_id}: {reason}; type the same command again: what arrived is not sent twice")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]


def listing(plan: Iterable[Repository]) -> str:
    """Return the files and sizes of every repository as text."""
    lines = []
    for repository in plan:
        sizes = repository.sizes()
        lines.append(f"{repository.repo_type} {repository.repo_id}: {len(sizes)} files, {_size(sum(sizes.values()))}")
        lines += [f"  {_size(size):>10}  {name}" for name, size in sizes.items()]
    return "\n".join(lines)


def _size(count: int) -> str:
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
