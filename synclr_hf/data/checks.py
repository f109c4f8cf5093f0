"""Checks of single settings; each failure is one line that says what to type instead."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

from synclr_hf.errors import UserInputError


def check_integer(option: str, value: Any, *, example: int, minimum: int, maximum: int | None = None) -> None:
    """Raise `UserInputError` unless `value` is an integer in [`minimum`, `maximum`].

    Args:
        option: the option as typed, e.g. `"--num-captions"`.
        value: what was given.
        example: a value to suggest.
        minimum: smallest value allowed.
        maximum: largest value allowed, if there is one.
    """
    good = isinstance(value, int) and not isinstance(value, bool)
    if not good or value < minimum or (maximum is not None and value > maximum):
        allowed = f"a whole number, {_range(minimum, maximum)}"
        raise UserInputError(f"{option} {value} cannot be used; allowed: {allowed}; type {option} {example}")


def check_number(
    option: str,
    value: Any,
    *,
    example: float,
    minimum: float,
    maximum: float | None = None,
    above_minimum: bool = False,
) -> None:
    """Raise `UserInputError` unless `value` is a finite number in [`minimum`, `maximum`].

    Args:
        option: the option as typed, e.g. `"--top-p"`.
        value: what was given.
        example: a value to suggest.
        minimum: smallest value allowed.
        maximum: largest value allowed, if there is one.
        above_minimum: whether `minimum` itself is forbidden.
    """
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    too_small = good and (value < minimum or (above_minimum and value == minimum))
    if not good or too_small or (maximum is not None and value > maximum):
        allowed = _range(minimum, maximum, above_minimum)
        raise UserInputError(f"{option} {value} cannot be used; allowed: a number, {allowed}; type {option} {example}")


COUNT = {"metavar": "COUNT"}
"""Metadata of a dataclass's field that is read by `read_count`, in a recipe and on the command line."""


def read_count(text: str) -> int:
    """Read a number of rows as people write it: `1000`, `1_000`, `10k`, `1M`, `1.5M`, `2B`, `1e6`.

    Raises:
        ValueError: it is no such number, or no whole one.
    """
    found = _COUNT.fullmatch(text.strip().replace("_", ""))
    count = Decimal(found["number"]) * _FACTORS[found["unit"].casefold()] if found else None
    if count is None or count != int(count):
        raise ValueError(f"'{text[:40]}' is no whole number; write 1000, 10k or 1M")
    return int(count)


_COUNT = re.compile(r"(?P<number>-?\d{1,15}(\.\d{1,15})?(e\d{1,2})?)(?P<unit>[kmb]?)", re.IGNORECASE)
_FACTORS = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}


def _range(minimum: float, maximum: float | None, above_minimum: bool = False) -> str:
    if maximum is not None:
        return f"above {minimum}, up to {maximum}" if above_minimum else f"{minimum} to {maximum}"
    return f"greater than {minimum}" if above_minimum else f"{minimum} or more"
