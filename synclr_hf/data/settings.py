"""From the entries of a recipe to a dataclass, with one-line errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from synclr_hf.errors import UserInputError, unknown_name

Settings = TypeVar("Settings")


def settings_from(cls: type[Settings], entries: Mapping[str, Any] | None, section: str) -> Settings:
    """Build a dataclass of settings from the entries of a recipe's section.

    Args:
        cls: a dataclass.
        entries: name -> value; `None` means no entry.
        section: name of the section, for the errors.

    Raises:
        UserInputError: if the section is not a list of entries, or one of them is unknown or has a wrong type.
    """
    entries = {} if entries is None else entries
    if not isinstance(entries, Mapping):
        raise UserInputError(f"section '{section}' is {entries!r}; allowed: entries of the form `name: value`")
    allowed = [field.name for field in fields(cls) if field.init]  # type: ignore[arg-type]
    for name in entries:
        if name not in allowed:
            raise unknown_name(f"entry of section '{section}'", name, allowed, f"one of these under `{section}:`")
    kinds = {field.name: type(field.default) for field in fields(cls)}  # type: ignore[arg-type]
    entries = {name: _number(section, name, value, kinds[name]) for name, value in entries.items()}
    try:
        return cls(**entries)
    except (TypeError, ValueError) as error:
        if isinstance(error, UserInputError):
            raise
        raise UserInputError(f"section '{section}': {error}") from error


def _number(section: str, name: str, value: Any, kind: type) -> Any:
    """Read a text as a number where one is expected: YAML takes `1e-3` for a text and `1.0e-3` for a number."""
    if kind not in (int, float) or not isinstance(value, str):
        return value
    try:
        return kind(value)
    except ValueError:
        raise UserInputError(f"section '{section}': {name} '{value}' is no number; type {name}: 1") from None
