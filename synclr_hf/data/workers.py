"""Several processes of this machine that share a list of tasks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

Report = Callable[[int], None]
"""Tells how many more units are done (negative: work taken back)."""


class Work(Protocol):
    """What a process can do; it is pickled once and sent to every process."""

    def load(self) -> None:
        """Get ready, e.g. load a model; called once a process, before the first task."""
        ...

    def do(self, task: Any, report: Report) -> Any:
        """Do one task, report units as they get done, and return something that can be pickled."""
        ...


class WorkerDied(RuntimeError):
    """A process ended without a word, e.g. killed for want of memory."""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection


def usable_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_devices() -> tuple[str, ...]:
    """Return the CUDA devices of this process as `CUDA_VISIBLE_DEVICES` names them; no context is made on any."""
    import torch

    return _named_devices(torch.cuda.device_count(), os.environ)


def _named_devices(count: int, environment: Mapping[str, str]) -> tuple[str, ...]:
    named = environment.get("CUDA_VISIBLE_DEVICES")
    names = [str(number) for number in range(count)] if named is None else [name.strip() for name in named.split(",")]
    return tuple(names[:count])


def share_of_devices(devices: Sequence[str], workers: int, number: int) -> tuple[str, ...]:
    """Return the devices of process `number` of `workers`: shared out evenly, or one that several have if too few."""
    if len(devices) < workers:
        return tuple(devices[number % len(devices) :][:1]) if devices else ()
    return tuple(devices[number * len(devices) // workers : (number + 1) * len(devices) // workers])


def do_tasks(
    work: Work, tasks: Iterable[Any], report: Report, workers: int, devices: Sequence[str] = ()
) -> Iterator[Any]:
    """Do all tasks in `workers` processes and yield the results as they come; with one worker, in this process.

    A task is taken from `tasks` when a process is free for it. The processes end with this one, however it ends.

    Args:
        work: what to do.
        tasks: what to do it with.
        report: is told the units that get done.
        workers: number of processes.
        devices: CUDA devices, see `visible_devices`; each of several processes then sees its share of them only.

    Raises:
        WorkerDied: a process ended without a word.
        Exception: the first exception that a task raised, as it was.
    """
    if workers == 1:
        work.load()
        for task in tasks:
            yield work.do(task, report)
        return
    crew: list[_Worker] = []
    try:
        for number in range(workers):
            with _seeing_only(share_of_devices(devices, workers, number)):
                crew.append(_start_worker(work))
        yield from _hand_out(crew, iter(tasks), report)
    finally:
        for worker in crew:
            worker.process.terminate()
        for worker in crew:
            worker.process.join()
            worker.connection.close()


@contextmanager
def _seeing_only(devices: Sequence[str]) -> Iterator[None]:
    """Let a process that starts meanwhile see these CUDA devices, before anything that it imports can look."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    try:
        yield
    finally:
        if before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before
        elif devices:
            del os.environ["CUDA_VISIBLE_DEVICES"]


def _start_worker(work: Work) -> _Worker:
    """Start a process that never sees Ctrl-C: this process is the one that answers it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work), daemon=True)
    resource_tracker.ensure_running()  # it would lift the mask when it starts
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        theirs.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return _Worker(process, ours)


def _hand_out(crew: list[_Worker], tasks: Iterator[Any], report: Report) -> Iterator[Any]:
    busy: dict[Any, _Worker] = {}
    for worker in crew:
        _give_task(worker, tasks, busy)
    while busy:
        for connection in wait(list(busy)):
            worker = busy[connection]
            try:
                kind, value = worker.connection.recv()
            except (EOFError, OSError):
                worker.process.join()
                raise WorkerDied(f"a process ended with status {worker.process.exitcode}") from None
            if kind == "units":
                report(value)
            elif kind == "error":
                raise value
            else:
                _give_task(worker, tasks, busy)
                yield value


def _give_task(worker: _Worker, tasks: Iterator[Any], busy: dict[Any, _Worker]) -> None:
    busy.pop(worker.connection, None)
    for task in tasks:
        try:
            worker.connection.send(task)
        except OSError:
            pass  # it died: the empty connection says so when it is read
        busy[worker.connection] = worker
        return


def _serve(connection: Connection, work: Work) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work.load()
        while True:
            task = connection.recv()
            result = work.do(task, lambda units: connection.send(("units", units)))
            connection.send(("result", result))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        error.add_note(traceback.format_exc())
        connection.send(("error", error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
