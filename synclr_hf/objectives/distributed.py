"""Collectives that do nothing on one process, so that the objectives read the same on one or many."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed


def world_size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


class GatheredRows:
    """Rows of all processes that are on their way: computing goes on until somebody asks for them."""

    def __init__(self, rows: torch.Tensor) -> None:
        rows = rows.detach().contiguous()
        self._sent, self._rows, self._work = rows, rows, None
        if world_size() > 1:
            self._rows = rows.new_empty((world_size() * len(rows), *rows.shape[1:]))
            self._work = distributed.all_gather(list(self._rows.chunk(world_size())), rows, async_op=True)

    def result(self) -> torch.Tensor:
        """Return `(world N, ...)` in rank order; on a GPU the device waits for them, not the host."""
        if self._work is not None:
            self._work.wait()
            self._sent = self._work = None
        return self._rows


@torch.no_grad()
def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Concatenate `(N, ...)` of every process in rank order to `(world N, ...)`; no gradient, N equal on all."""
    return GatheredRows(rows).result()


class _GatherRowsWithGradient(torch.autograd.Function):
    """`gather_rows` that sends each process the gradient of its own rows, added up over all processes."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        return gather_rows(rows)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        own = len(gradient) // world_size()
        rank = distributed.get_rank() if world_size() > 1 else 0
        return sum_over_processes(gradient)[rank * own : (rank + 1) * own]


def gather_rows_with_gradient(rows: torch.Tensor) -> torch.Tensor:
    """Concatenate `(N, ...)` of every process to `(world N, ...)`, for features that are learned on every process.

    Gradients that are averaged over processes afterwards (DDP) are those of the mean of all processes' losses.
    """
    return _GatherRowsWithGradient.apply(rows)


@torch.no_grad()
def sum_over_processes(value: torch.Tensor) -> torch.Tensor:
    """Add up a tensor over all processes; the input is left as it is."""
    value = value.detach().clone()
    if world_size() > 1:
        distributed.all_reduce(value)
    return value


@torch.no_grad()
def max_over_processes(value: torch.Tensor) -> torch.Tensor:
    """Take the element-wise maximum over all processes; the input is left as it is."""
    value = value.detach().clone()
    if world_size() > 1:
        distributed.all_reduce(value, op=distributed.ReduceOp.MAX)
    return value
