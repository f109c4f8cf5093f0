"""The terms of the loss, found by name."""

from __future__ import annotations

from typing import Any

from synclr_hf.errors import UserInputError, unknown_name

from .base import Features, Objective
from .cross_entropy import CrossEntropyObjective
from .ibot import IBOTObjective
from .multi_positive import MultiPositiveObjective

OBJECTIVES: dict[str, type[Objective]] = {
    "multi_positive": MultiPositiveObjective,
    "ibot": IBOTObjective,
    "cross_entropy": CrossEntropyObjective,
}

__all__ = [
    "OBJECTIVES",
    "CrossEntropyObjective",
    "Features",
    "IBOTObjective",
    "MultiPositiveObjective",
    "Objective",
    "build_objective",
]


def build_objective(settings: dict[str, Any], hidden_size: int) -> Objective:
    """Build one objective from its settings: `name`, the arguments of its class, and `weight` (used by the model).

    Raises:
        UserInputError: if the name or one of the arguments is unknown.
    """
    arguments = {key: value for key, value in settings.items() if key not in ("name", "weight")}
    name = settings.get("name")
    if name not in OBJECTIVES:
        raise unknown_name("objective", name, OBJECTIVES, "one of these as `name` of an entry of `objectives`")
    try:
        return OBJECTIVES[name](hidden_size, **arguments)
    except TypeError as error:
        raise UserInputError(f"objective '{name}' refuses its settings: {error}") from error
