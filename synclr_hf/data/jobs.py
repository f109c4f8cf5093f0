"""The jobs of a cluster that will fill a run folder: noted in a file while they wait or run."""

from __future__ import annotations

import fcntl
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from synclr_hf.data.runs import locks
from synclr_hf.data.shards import write_text
from synclr_hf.errors import UserInputError

CLUSTER_FOLDER = ".cluster"
"""What a cluster leaves in a run folder: logs, and the note of the jobs."""

_JOBS_FILE = f"{CLUSTER_FOLDER}/jobs.json"
_SUBMITTING_FILE = f"{CLUSTER_FOLDER}/.lock"


@dataclass(frozen=True)
class Jobs:
    """Slurm jobs that were submitted together.

    Attributes:
        ids: numbers of the jobs.
        logs: folder of their logs.
    """

    ids: tuple[str, ...]
    logs: str


def refuse_while_jobs_wait(folder: Path) -> None:
    """Raise `UserInputError` while Slurm jobs that were submitted for this folder wait or run."""
    file = folder / _JOBS_FILE
    try:
        jobs = Jobs(**json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError, TypeError):
        raise UserInputError(f"'{file}' is damaged; delete it if no Slurm job fills '{folder}'") from None
    names = " ".join(jobs.ids)
    try:
        waiting = _waiting(jobs.ids)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or error
        raise UserInputError(
            f"the Slurm jobs {names} may be filling '{folder}', and squeue does not say whether they are ({said}); "
            f"ask on a login node of the cluster, or delete '{file}' if they are gone"
        ) from None
    if waiting:
        raise UserInputError(
            f"the Slurm jobs {names} fill '{folder}' and {' '.join(waiting)} still wait or run (logs in "
            f"'{jobs.logs}'); wait until they end, or type scancel {names}; if the cluster has lost them, "
            f"delete '{file}'"
        )


@contextmanager
def submitting(folder: Path) -> Iterator[Callable[[Jobs], None]]:
    """Be the only one who submits jobs for a folder; gives the function that notes them.

    Raises:
        UserInputError: another does, or has just done so.
    """
    (folder / CLUSTER_FOLDER).mkdir(exist_ok=True)
    with open(folder / _SUBMITTING_FILE, "a+") as lock:
        if not locks(lock, fcntl.LOCK_EX):
            raise UserInputError(f"another command is submitting jobs for '{folder}' now; wait until it has done so")
        refuse_while_jobs_wait(folder)
        yield lambda jobs: write_text(folder / _JOBS_FILE, json.dumps(asdict(jobs)) + "\n")


def forget_jobs(folder: Path) -> None:
    """Remove the note: the run is finished, by its jobs or after them."""
    (folder / _JOBS_FILE).unlink(missing_ok=True)


def _waiting(ids: tuple[str, ...]) -> list[str]:
    """Return which of the jobs wait or run.

    Raises:
        OSError: there is no squeue.
        subprocess.CalledProcessError: it does not answer.
    """
    command = ["squeue", "--noheader", "--format=%F", f"--jobs={','.join(ids)}"]
    answer = subprocess.run(command, capture_output=True, text=True)
    if "Invalid job id" in answer.stderr:  # none of them is known any longer
        return []
    answer.check_returncode()
    return sorted(set(answer.stdout.split()))
