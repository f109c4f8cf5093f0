"""Fast, reproducible random draws for one picture or one sentence."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from synclr_hf.data.seeds import seed_for

Item = TypeVar("Item")


class Dice:
    """A stream of random draws that depends on nothing but (seed, names).

    It is Python's Mersenne Twister, whose `random()` gives the same stream in every version; single draws from a numpy
    generator are ten times slower.

    Args:
        seed: the seed of the picture or sentence.
        *names: what the draws are for.
    """

    def __init__(self, seed: int, *names: str | int) -> None:
        self.roll: Callable[[], float] = random.Random(seed_for(seed, *names)).random
        """Returns a number in [0, 1)."""

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
