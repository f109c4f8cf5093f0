"""Fast, reproducible random draws for one picture or one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from synclr_hf.data.seeds import seed_for

Item = TypeVar("Item")

_POOL = 256


class Dice:
    """A stream of random draws that depends on nothing but (seed, names).

    Numbers come in pools from numpy's PCG64, because single draws from a generator are slow.

    Args:
        seed: the seed of the picture or sentence.
        *names: what the draws are for.
    """

    def __init__(self, seed: int, *names: str | int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed_for(seed, *names)))
        self._pool: list[float] = []

    def roll(self) -> float:
        """Return a number in [0, 1)."""
        if not self._pool:
            self._pool = self._generator.random(_POOL).tolist()
        return self._pool.pop()

    def between(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * self.roll()

    def whole(self, low: int, high: int) -> int:
        """Return an integer in low..high, both included."""
        return low + int((high - low + 1) * self.roll())

    def chance(self, probability: float) -> bool:
        """Return true with the given probability."""
        return self.roll() < probability

    def pick(self, items: Sequence[Item]) -> Item:
        """Return one of the items, each as likely as the others."""
        return items[int(len(items) * self.roll())]
