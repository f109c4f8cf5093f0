"""Weighted choices with a temperature, the way a language model picks its next token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from synclr_hf.toyworld.dice import Dice

Item = TypeVar("Item")


class Chooser:
    """Picks among weighted options.

    Args:
        dice: the source of randomness.
        temperature: 0 takes the most likely option (the first of equals); higher values even the odds out.
        top_p: only the likeliest options that together reach this probability are picked from; equally likely
            options stay or go together.
    """

    def __init__(self, dice: Dice, temperature: float, top_p: float) -> None:
        self._dice = dice
        self._temperature = temperature
        self._top_p = top_p

    def pick(self, options: Sequence[Item], weights: Sequence[float] | None = None) -> Item:
        """Return one of the options; without weights each is as likely as the others."""
        weights = [1.0] * len(options) if weights is None else list(weights)
        if self._temperature == 0:
            return options[weights.index(max(weights))]
        top = max(weights)
        powers = [(weight / top) ** (1 / self._temperature) for weight in weights]
        total, reached, least = sum(powers), 0.0, 0.0
        for power in sorted(powers, reverse=True):
            least = power
            reached += power / total
            if reached >= self._top_p:
                break
        kept = [(option, power) for option, power in zip(options, powers, strict=True) if power >= least]
        mark = self._dice.roll() * sum(power for _, power in kept)
        for option, power in kept:
            mark -= power
            if mark < 0:
                return option
        return kept[-1][0]

    def happens(self, probability: float) -> bool:
        """Return true with this probability (at temperature 1 and top_p 1)."""
        return self.pick((False, True), (1 - probability, probability))
