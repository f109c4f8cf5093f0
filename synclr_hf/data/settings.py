"""From the entries of a recipe to a dataclass, with one-line errors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from synclr_hf.data.checks import COUNT, read_count
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
    hints = get_type_hints(cls)
    counts = {field.name: field.metadata == COUNT for field in fields(cls)}  # type: ignore[arg-type]
    entries = {
        name: _as_number(value, hints[name], counts[name])
        for name, value in entries.items()
        if value is not None or dict not in _kinds(hints[name])  # an empty section has no entries
    }
    check_types(cls, entries, section)
    try:
        return cls(**entries)
    except (TypeError, ValueError) as error:
        if isinstance(error, UserInputError):
            raise
        raise UserInputError(f"section '{section}': {error}") from error


def check_types(cls: type, entries: Mapping[str, Any], section: str) -> None:
    """Refuse values that are not of the type which the dataclass says.

    Args:
        cls: a dataclass; the `metadata` of a field may hold an `example` of what to type.
        entries: names of fields -> values.
        section: name of the section, for the errors.

    Raises:
        UserInputError: names the first entry of a wrong type, what is allowed and what to type.
    """
    hints = get_type_hints(cls)
    for field in fields(cls):
        hint = hints[field.name]
        if field.name in entries and not _fits(entries[field.name], hint):
            example = field.metadata.get("example") or _example(_default(field), hint)
            leave_out = ", or leave it out" if NoneType in _kinds(hint) else ""
            raise UserInputError(
                f"section '{section}': {field.name} {entries[field.name]!r} cannot be used; allowed: "
                f"{_words(hint)}; type {field.name}: {example}{leave_out}"
            )


_WORDS: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true"),
    int: ("a whole number", "1"),
    float: ("a number", "0.001"),
    str: ("a text", "'text'"),
    dict: ("entries of the form `name: value`", "{name: value}"),
}
"""Type of an entry -> what is allowed, and an example."""


def _members(hint: Any) -> tuple[Any, ...]:
    """Return the hints that a union is made of; another hint is the only one."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _kinds(hint: Any) -> tuple[Any, ...]:
    """Return the types that a hint allows, without those of items: `list[int] | None` gives (list, NoneType)."""
    return tuple(get_origin(member) or member for member in _members(hint))


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a value read from YAML is of a type; types that YAML does not have take anything."""
    return any(_fits_one(value, get_origin(member) or member, get_args(member)) for member in _members(hint))


def _fits_one(value: Any, kind: Any, inner: tuple[Any, ...]) -> bool:
    if kind in (list, Sequence):
        return isinstance(value, list | tuple) and all(_fits(item, inner[0]) for item in value)
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    if kind is dict:
        return isinstance(value, Mapping)
    return isinstance(value, kind) if kind in (bool, str, NoneType) else True


def _words(hint: Any) -> str:
    """Return in words what a hint allows."""
    members = [member for member in _members(hint) if member is not NoneType]
    if len(members) > 1:
        return " or ".join(map(_words, members))
    kind, inner = get_origin(members[0]) or members[0], get_args(members[0])
    return f"a list, each item {_words(inner[0])}" if kind in (list, Sequence) else _WORDS[kind][0]


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _example(default: Any, hint: Any) -> str:
    """Return something to type: the default, or where there is none a value of the type."""
    if default not in (None, MISSING, [], {}, ()):
        return json.dumps(default)
    first = next(member for member in _members(hint) if member is not NoneType)
    kind, inner = get_origin(first) or first, get_args(first)
    return f"[{_example(None, inner[0])}]" if kind in (list, Sequence) else _WORDS[kind][1]


def _as_number(value: Any, hint: Any, count: bool) -> Any:
    """Read a text as a number where one is expected: YAML takes `1e-3` for a text and `1.0e-3` for a number.

    Fields with the metadata `COUNT` also take `10k` and `1M`.
    """
    kinds = _kinds(hint)
    if not isinstance(value, str) or str in kinds:
        return value
    for kind in (int, float):
        if kind in kinds:
            try:
                return read_count(value) if count else kind(value)
            except ValueError:
                pass
    return value
