"""Checks of the settings of a protocol, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from synclr_hf.errors import UserInputError


def check_settings(
    protocol: str,
    config: Any,
    *,
    one_or_more: Sequence[str] = (),
    zero_or_more: Sequence[str] = (),
    positive: Sequence[str] = (),
    shares: Sequence[str] = (),
) -> None:
    """Check numbers of a config dataclass; of a tuple, every entry, and that there is one.

    Args:
        protocol: its name, for the message.
        config: the dataclass.
        one_or_more: names of whole numbers that must be 1 or larger.
        zero_or_more: names of numbers that must not be negative.
        positive: names of numbers that must be above zero.
        shares: names of numbers that must lie in (0, 1].

    Raises:
        UserInputError: one is outside.
    """
    rules = (
        (one_or_more, lambda value: value >= 1, "1 or more"),
        (zero_or_more, lambda value: value >= 0, "0 or more"),
        (positive, lambda value: value > 0, "above 0"),
        (shares, lambda value: 0 < value <= 1, "above 0, at most 1"),
    )
    defaults = {field.name: field.default for field in fields(config)}
    for names, holds, allowed in rules:
        for name in names:
            value = getattr(config, name)
            values = value if isinstance(value, tuple) else (value,)
            if not values or not all(holds(one) for one in values):
                default = defaults[name]
                typed = ",".join(f"{one:g}" for one in (default if isinstance(default, tuple) else (default,)))
                raise UserInputError(
                    f"{protocol}.{name} is {value}; allowed: {allowed}; type {protocol}.{name}={typed}"
                )
