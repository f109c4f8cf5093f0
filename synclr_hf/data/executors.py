"""Where a generating stage runs: on this machine, or in parts on a Slurm or Ray cluster that shares its folders."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from synclr_hf.data.checks import check_integer
from synclr_hf.data.extension import RunSize
from synclr_hf.data.jobs import forget_jobs, refuse_while_jobs_wait
from synclr_hf.data.runs import FINISHING, OPENING, Part, noted_shards, read_record
from synclr_hf.errors import UserInputError, unknown_name

EXECUTORS = {"local": (), "slurm": ("datatrove",), "ray": ("ray",)}
"""Executor -> the packages that it needs."""

_TIME = re.compile(r"\d+(-\d+)?(:[0-5]\d){0,2}|UNLIMITED|infinite", re.IGNORECASE)
_SBATCH_ARGUMENT = re.compile(r"(--)?(?P<name>[a-z][a-z-]*)(=(?P<value>.+))?")
_OURS = ("array", "dependency", "error", "export", "kill-on-invalid-dep", "output", "parsable", "wait", "wrap")


class Stage(Protocol):
    """A generating stage with its settings, e.g. `functools.partial(write_captions, config)`; it can be pickled."""

    def __call__(self, *, part: Part | None = None) -> Path:
        """Make the whole run (`None`) or a part of it, and return the folder; only a cluster needs parts."""
        ...


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class ExecutorConfig:
    """Where a generating stage runs; the help of each setting is that of its option."""

    _argument_group_name = "executor"  # of HfArgumentParser

    executor: str = _option("local", "local (this machine), slurm or ray (a cluster whose nodes share the folders)")
    tasks: int | None = _option(None, "slurm, ray: number of parts, each a task that makes its share of the shards")
    cpus_per_task: int | None = _option(None, "slurm, ray: CPUs of a task (default: 1)")
    gpus_per_task: int | None = _option(None, "slurm, ray: GPUs of a task (default: 0; a model wants 1)")
    mem_per_cpu_gb: int | None = _option(None, "slurm, ray: memory of a CPU, in GB (default: the cluster's)")
    partition: str | None = _option(None, "slurm: partition (default: the cluster's)")
    time: str | None = _option(None, "slurm: time limit of a task, e.g. 20:00:00 (default: the partition's)")
    sbatch_args: list[str] | None = _option(None, "slurm: more for sbatch, e.g. account=vision qos=high exclusive")
    env_command: str | None = _option(None, "slurm: what a task runs first, e.g. 'module load cuda'")

    def __post_init__(self) -> None:
        """Refuse settings that cannot be used (`UserInputError`)."""
        if self.executor not in EXECUTORS:
            raise unknown_name("executor", self.executor, EXECUTORS, "--executor local")
        self._refuse_settings_of_others()
        if self.executor == "local":
            return
        if self.tasks is None:
            raise UserInputError(
                f"--executor {self.executor} does not say in how many parts; allowed: 1 or more; type --tasks 8"
            )
        check_integer("--tasks", self.tasks, minimum=1, example=8)
        for option, value, minimum in (
            ("--cpus-per-task", self.cpus_per_task, 1),
            ("--gpus-per-task", self.gpus_per_task, 0),
            ("--mem-per-cpu-gb", self.mem_per_cpu_gb, 1),
        ):
            if value is not None:
                check_integer(option, value, minimum=minimum, example=max(1, minimum))
        if self.time is not None and not _TIME.fullmatch(str(self.time)):
            raise UserInputError(
                f"--time {self.time} cannot be used; allowed: minutes, HOURS:MINUTES:SECONDS, DAYS-HOURS:MINUTES or "
                "UNLIMITED; "
                "type --time 20:00:00"
            )
        self.sbatch_arguments()

    @property
    def cpus(self) -> int:
        """CPUs of a task."""
        return self.cpus_per_task or 1

    @property
    def gpus(self) -> int:
        """GPUs of a task."""
        return self.gpus_per_task or 0

    def part(self, rank: int, tasks: int) -> Part:
        """Return a part whose processes share the CPUs and GPUs of one task."""
        return Part(rank, tasks, processes=max(self.cpus, self.gpus))

    def sbatch_arguments(self) -> dict[str, str]:
        """Return `sbatch_args` as name -> value, empty for a flag.

        Raises:
            UserInputError: one is no argument, or is set elsewhere.
        """
        arguments = {}
        for text in self.sbatch_args or ():
            found = _SBATCH_ARGUMENT.fullmatch(text)
            if found is None:
                raise UserInputError(
                    f"--sbatch-args {text} cannot be used; allowed: NAME=VALUE or NAME; "
                    "type --sbatch-args account=vision"
                )
            name = found["name"]
            if name in _OURS:
                raise UserInputError(
                    f"--sbatch-args {text} cannot be used: '{name}' is set by this program; leave it out"
                )
            own = {"gpus": "gpus_per_task", "mem-per-cpu": "mem_per_cpu_gb"}.get(name, name.replace("-", "_"))
            if own in _SETTINGS[1:]:
                raise UserInputError(
                    f"--sbatch-args {text} cannot be used: it has an option of its own; "
                    f"type --{own.replace('_', '-')} {found['value'] or ''}"
                )
            arguments[name] = found["value"] or ""
        return arguments

    def _refuse_settings_of_others(self) -> None:
        for name in _SETTINGS[1:]:
            takers = ("slurm", "ray") if name in _OF_BOTH else ("slurm",)
            if getattr(self, name) is not None and self.executor not in takers:
                raise UserInputError(
                    f"--{name.replace('_', '-')} is a setting of --executor {' or '.join(takers)}, and this run has "
                    f"--executor {self.executor}; leave it out, or type --executor {takers[0]}"
                )


_SETTINGS = tuple(setting.name for setting in fields(ExecutorConfig))
_OF_BOTH = ("tasks", "cpus_per_task", "gpus_per_task", "mem_per_cpu_gb")


def execute(stage: Stage, executor: ExecutorConfig, folder: str | Path) -> str:
    """Run a stage where the user wants it.

    On a cluster each task makes the shards of its part; a part whose shards are all there is left out, a killed task
    loses its unfinished shards only, and the same call makes what is missing. Finished shards are taken on trust
    there; a local run checks every one of them.

    Args:
        stage: the stage with its settings; relative paths in them are those of this process's folder.
        executor: where.
        folder: the run folder of these settings; on a cluster it lies on a file system that all nodes share.

    Returns:
        What to tell the user: the run folder, or which Slurm jobs will fill it.

    Raises:
        UserInputError: the stage cannot run, its folder is in use, a package or a program is missing, the cluster
            refuses, or a part failed.
    """
    folder = Path(folder).expanduser()
    refuse_while_jobs_wait(folder)
    if executor.executor == "local":
        return _finished(stage, folder, None)
    _require(EXECUTORS[executor.executor], executor.executor)
    stage(part=OPENING)
    record = read_record(folder)
    size = RunSize.of(record)
    tasks = min(executor.tasks or 0, size.num_shards)
    ranks = _ranks_with_missing_shards(folder, size, tasks)
    if not ranks:
        return _finished(stage, folder, FINISHING)
    parts = [executor.part(rank, tasks) for rank in ranks]
    if executor.executor == "ray":
        from synclr_hf.data.ray_tasks import run_with_ray

        run_with_ray(partial(make_part, stage, os.getcwd()), parts, executor, folder, size.num_shards)
        return _finished(stage, folder, FINISHING)
    from synclr_hf.data.slurm import submit

    return submit(partial(make_part, stage, os.getcwd()), parts, executor, folder, f"synclr-{record['stage']}")


def _finished(stage: Stage, folder: Path, part: Part | None) -> str:
    """Make what finishes the run; jobs that were to fill it are of no interest then."""
    stage(part=part)
    forget_jobs(folder)
    return str(folder)


def make_part(stage: Callable[..., Any], working_folder: str, part: Part) -> None:
    """Make a part on a node of the cluster, in the folder where the command was typed.

    Raises:
        UserInputError: that folder is not there.
    """
    try:
        os.chdir(working_folder)
    except OSError as error:
        raise UserInputError(
            f"'{working_folder}' is not there on the node '{os.uname().nodename}' ({error.strerror}); "
            "run the command in a folder that all nodes share"
        ) from None
    stage(part=part)


def _ranks_with_missing_shards(folder: Path, size: RunSize, tasks: int) -> list[int]:
    there = {index for index, _ in noted_shards(folder, size)}
    return sorted({index % tasks for index in range(size.num_shards) if index not in there})


def _require(packages: Sequence[str], executor: str) -> None:
    for name in packages:
        if find_spec(name) is None:
            raise UserInputError(
                f'--executor {executor} needs the package {name}; type pip install "synclr-hf[cluster]"'
            )
