"""A run in parts on a Ray cluster, each part a task of Ray.

Not datatrove's executor for Ray (0.10.1): it runs a task in a pool of forked processes, which waits for ever when one
of them is killed, e.g. for want of memory, and it keeps the errors of a task to itself.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from synclr_hf.data.progress import Progress
from synclr_hf.data.runs import Part
from synclr_hf.data.shards import NOTES_FOLDER
from synclr_hf.errors import UserInputError

if TYPE_CHECKING:
    from synclr_hf.data.executors import ExecutorConfig

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_FOR_AN_ANSWER = 10.0


def run_with_ray(
    make: Callable[[Part], None], parts: Sequence[Part], config: ExecutorConfig, folder: Path, num_shards: int
) -> None:
    """Make the parts on the cluster that `RAY_ADDRESS` names or that this machine belongs to, or else on this machine.

    Ray starts a part again when its process is killed or its node is lost, three times unless it is told otherwise.

    Args:
        make: makes a part; can be pickled.
        parts: the parts to make.
        config: resources of a task.
        folder: the run folder.
        num_shards: shards of the whole run.

    Raises:
        UserInputError: no cluster answers, or parts failed; the other ones are made.
    """
    ours = not ray.is_initialized()
    if ours:
        _connect()
    try:
        with Progress("on Ray", total=num_shards, unit="shard", initial=_num_finished(folder)) as bar:
            _say_if_too_large(config, bar)
            failures = _run(make, parts, config, lambda: bar.update(_num_finished(folder) - bar.count))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; {_num_finished(folder)} of {num_shards} shards are safe in '{folder}'; "
            "run the same command again to go on"
        ) from None
    finally:
        if ours:
            ray.shutdown()
    if failures:
        rank, reason = min(failures.items())
        raise UserInputError(
            f"{len(failures)} of {len(parts)} parts failed on Ray, part {rank} because: {reason}; "
            f"{_num_finished(folder)} of {num_shards} shards are safe in '{folder}'; run the same command again"
        )


def _connect() -> None:
    """Join the cluster; Ray itself would try an address where nobody answers for minutes."""
    address = re.fullmatch(r"(?:ray://)?(.+):(\d+)", os.environ.get("RAY_ADDRESS", ""))
    try:
        if address:
            socket.create_connection((address[1], int(address[2])), timeout=_SECONDS_FOR_AN_ANSWER).close()
        ray.init(log_to_driver=False, logging_level="error", include_dashboard=False)
    except OSError as error:
        raise UserInputError(
            f"no Ray cluster answers at RAY_ADDRESS={os.environ.get('RAY_ADDRESS', '')} ({error}); start one with "
            "`ray start --head`, set RAY_ADDRESS to the address of one that runs, or type --executor local"
        ) from None


def _run(
    make: Callable[[Part], None], parts: Sequence[Part], config: ExecutorConfig, look: Callable[[], None]
) -> dict[int, str]:
    """Return rank -> what went wrong."""
    resources: dict[str, Any] = {"num_cpus": config.cpus, "num_gpus": config.gpus}
    if config.mem_per_cpu_gb:
        resources["memory"] = config.mem_per_cpu_gb * config.cpus * 2**30
    task = ray.remote(try_part)
    running = {
        task.options(**resources, name=f"part {part.rank} of {part.tasks}").remote(make, part): part.rank
        for part in parts
    }
    failures = {}
    try:
        while running:
            done, _ = ray.wait(list(running), timeout=_SECONDS_BETWEEN_LOOKS)
            for reference in done:
                rank = running.pop(reference)
                reason = _failure(reference)
                if reason is not None:
                    failures[rank] = reason
            look()
    except BaseException:
        for reference in running:
            ray.cancel(reference, force=True)
        raise
    return failures


def try_part(make: Callable[[Part], None], part: Part) -> str | None:
    """Make a part and return what the user did wrong, if it was that."""
    try:
        make(part)
    except UserInputError as error:
        return str(error)
    return None


def _failure(reference: Any) -> str | None:
    """Return what went wrong in a task; the traceback of a bug goes to the log."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        logger.error("a part failed on Ray:\n%s", error)
        return f"of a bug, see its traceback above ({type(error.cause).__name__})"
    except ray.exceptions.RayError as error:
        return f"its process was killed, perhaps for want of memory ({type(error).__name__})"


def _num_finished(folder: Path) -> int:
    return sum(1 for _ in (folder / NOTES_FOLDER).glob("*.json"))


def _say_if_too_large(config: ExecutorConfig, bar: Progress) -> None:
    """Tell that no node can take a task: it then waits for one that an autoscaling cluster may add."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    memory = (config.mem_per_cpu_gb or 0) * config.cpus * 2**30
    wanted = {"CPU": config.cpus, "GPU": config.gpus, "memory": memory}
    if not any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
        bar.message(
            f"no node of the Ray cluster has {config.cpus} CPU, {config.gpus} GPU and the memory of a task now; "
            "waiting for one (Ctrl-C stops; change --cpus-per-task, --gpus-per-task, --mem-per-cpu-gb)"
        )
