"""Numbers that are no longer finite: found without waiting for the device in every step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from synclr_hf.errors import UserInputError
from synclr_hf.objectives.distributed import max_over_processes

_NEVER = 2**62


class FiniteGuard:
    """Remembers on the device at which optimizer step each number was first NaN or infinite."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, ...], torch.Tensor] = {}

    def see(self, numbers: Mapping[str, torch.Tensor], step: int) -> None:
        """Look at numbers, without a host sync.

        Args:
            numbers: what each is called in the error -> a scalar; all on one device, the same names on all processes.
            step: the optimizer step that they belong to, counted from 1.
        """
        values = torch.stack([value.detach().float() for value in numbers.values()])
        first = torch.where(values.isfinite(), _NEVER, step)
        known = self._first.get(tuple(numbers))
        self._first[tuple(numbers)] = first if known is None else torch.minimum(known, first)

    def found(self) -> tuple[str, int] | None:
        """Return name and step of the first number that was not finite on any process; all processes must ask."""
        if not self._first:
            return None
        names = [name for group in self._first for name in group]
        firsts = (-max_over_processes(-torch.cat(list(self._first.values())))).tolist()
        step = min(firsts)
        return None if step == _NEVER else (names[firsts.index(step)], step)


def not_finite_error(name: str, step: int, checkpoint: Path | None, learning_rate: float) -> UserInputError:
    """Return the error that ends a training.

    Args:
        name: the number that is not finite: a part of the loss, `gradient norm` or `weights`.
        step: the optimizer step, counted from 1.
        checkpoint: the last good checkpoint, if there is one.
        learning_rate: what it was trained with.
    """
    lower = f"learning_rate: {learning_rate / 2:g} (it was {learning_rate:g})"
    kept = "no checkpoint was written before" if checkpoint is None else f"the last good checkpoint is {checkpoint}"
    go_on = f"synclr continue --from {checkpoint} --dataset ... --output-dir ..."
    again = "start again" if checkpoint is None else go_on
    return UserInputError(
        f"{name}: not finite at optimizer step {step}; training stopped and nothing of it was saved; {kept}; "
        f"type {again} with {lower}"
    )
