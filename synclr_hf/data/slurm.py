"""A run in parts on a Slurm cluster: an array job of datatrove, and a job that finishes behind it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import strftime
from typing import TYPE_CHECKING, Any

from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.utils.logging import logger, setup_default_logger

from synclr_hf.data.jobs import CLUSTER_FOLDER, Jobs, forget_jobs, submitting
from synclr_hf.data.runs import FINISHING, Part
from synclr_hf.errors import UserInputError

if TYPE_CHECKING:
    from synclr_hf.data.executors import ExecutorConfig

PartMaker = Callable[[Part], None]


class SlurmExecutor(SlurmPipelineExecutor):
    """The executor of datatrove, for these ranks only, without its job that merges statistics.

    What is not set is left to the cluster. Which ranks there are to run is told by the shards that are missing, not by
    the completions that datatrove notes in its logging folder.
    """

    def __init__(
        self,
        step: Callable[..., None],
        ranks: Sequence[int],
        config: ExecutorConfig,
        sbatch_args: dict[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self.ranks = list(ranks)
        # One process for a task needs no srun, which would grant it one of its CPUs only (Slurm >= 22.05).
        super().__init__(
            [step],
            partition=config.partition,
            time=config.time,
            cpus_per_task=config.cpus,
            gpus_per_task=config.gpus,
            mem_per_cpu_gb=config.mem_per_cpu_gb,
            qos=None,
            env_command=_environment(config),
            sbatch_args=config.sbatch_arguments() | (sbatch_args or {}),
            max_array_size=-1,  # the cluster knows its own
            job_id_retriever=_job_id,
            skip_completed=False,
            with_srun=False,
            **settings,
        )

    def get_incomplete_ranks(self, ranks: Any = None, skip_completed: bool | None = None) -> list[int]:
        """Return the ranks to run."""
        return self.ranks

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:
        """Return the directives of the job script."""
        unset = [name for name in ("partition", "time", "mem_per_cpu_gb") if getattr(self, name) is None]
        arguments = super().get_sbatch_args(max_array)
        for name in unset:
            del arguments[name.removesuffix("_gb").replace("_", "-")]
        return arguments

    def launch_merge_stats(self) -> None:
        """Launch nothing: the card has the statistics of a run."""


def submit(make: PartMaker, parts: Sequence[Part], config: ExecutorConfig, folder: Path, name: str) -> str:
    """Submit the parts as an array job, and a job that finishes the run once they have all succeeded.

    Args:
        make: makes a part; can be pickled.
        parts: the parts to make.
        config: resources of a task; the finishing job asks for the same, as some partitions grant nothing less.
        folder: the run folder.
        name: name of the jobs.

    Returns:
        What to tell the user.

    Raises:
        UserInputError: there is no Slurm here, or it refuses a job.
    """
    if shutil.which("sbatch") is None:
        raise UserInputError(
            "--executor slurm needs the program sbatch, and it is not there; run the command on a login node of the "
            "Slurm cluster, or type --executor local"
        )
    folder = folder.absolute()
    with submitting(folder) as note_jobs:
        logs = _new_log_folder(folder)
        tasks = parts[0].tasks
        settings = {"job_name": name, "tasks": tasks}
        array = SlurmExecutor(
            partial(_make, make, parts[0]),
            [part.rank for part in parts],
            config,
            logging_dir=str(logs / "parts"),
            **settings,
        )
        finish = SlurmExecutor(
            partial(_finish, make, folder),
            [0],
            config,
            logging_dir=str(logs / "finish"),
            depends=array,
            sbatch_args={"kill-on-invalid-dep": "yes"},
            **settings,
        )
        try:
            with _said_in(logs / "submission.log"):
                finish.launch_job()
        except BaseException as error:
            if array.job_id and array.job_id != -1:
                subprocess.run(["scancel", str(array.job_id)], capture_output=True)
            if not isinstance(error, OSError | subprocess.CalledProcessError):
                raise
            raise _refused(logs / "submission.log", error) from None
        note_jobs(Jobs((array.job_id, finish.job_id), str(logs)))
    what = f"{len(parts)} {'part' if len(parts) == 1 else 'parts'} of {config.cpus} CPU, {config.gpus} GPU"
    return (
        f"'{folder}' is made by the Slurm jobs {array.job_id} ({what}) and {finish.job_id} (the card); "
        f"logs in '{logs}'; if one fails, run the same command again"
    )


def _make(make: PartMaker, first: Part, data: Any, rank: int, world_size: int) -> None:
    """Make one part: a step of datatrove."""
    make(Part(rank, world_size, first.processes))


def _finish(make: PartMaker, folder: Path, data: Any, rank: int, world_size: int) -> None:
    """Finish the run: a step of datatrove."""
    make(FINISHING)
    forget_jobs(folder)


def _environment(config: ExecutorConfig) -> str:
    """Return the command that makes this very Python environment the one of a task, or the one that the user names."""
    own = f'export PATH="{Path(sys.executable).parent}:$PATH"'
    return f"{own}; {config.env_command}" if config.env_command else own


def _new_log_folder(folder: Path) -> Path:
    parent = folder / CLUSTER_FOLDER
    parent.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=strftime("%Y-%m-%d_%H-%M-%S_"), dir=parent))


def _job_id(output: str) -> str:
    found = re.search(r"Submitted batch job (\d+)", output)
    if found is None:
        raise UserInputError(f"sbatch names no job in its answer ({output!r}); see `squeue --me` before you go on")
    return found[1]


@contextmanager
def _said_in(path: Path) -> Iterator[None]:
    """Send what datatrove logs, and what sbatch says on standard error, to a file."""
    sys.stderr.flush()
    before = os.dup(2)
    with open(path, "a", encoding="utf-8") as file:
        logger.remove()
        logger.add(file)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            setup_default_logger()


def _refused(log: Path, error: Exception) -> UserInputError:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    said = [line.removeprefix("sbatch: error: ") for line in lines if line.startswith("sbatch:")]
    reason = "; ".join(said) or f"{error}; see '{log}'"
    return UserInputError(
        f"sbatch refuses the job ({reason}); change --tasks, --partition, --time, --gpus-per-task or --sbatch-args, "
        "and run the command again"
    )
