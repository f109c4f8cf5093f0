"""Entries of a recipe: their types are those of the dataclass."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from synclr_hf.data.settings import settings_from
from synclr_hf.errors import UserInputError


@dataclass
class Settings:
    flag: bool = True
    count: int = 3
    rate: float | None = None
    name: str | None = field(default=None, metadata={"example": "FOLDER"})
    sizes: list[int] = field(default_factory=lambda: [1, 2])
    parts: list[dict[str, Any]] | None = None
    section: dict[str, Any] = field(default_factory=dict)
    either: str | list[str] = "one"


@pytest.mark.parametrize(
    ("entry", "value", "read"),
    [
        ("flag", False, False),
        ("count", "4", 4),
        ("rate", "1e-3", 1e-3),
        ("rate", 1, 1),
        ("rate", None, None),
        ("name", "5", "5"),
        ("sizes", (3,), (3,)),
        ("parts", [{}], [{}]),
        ("section", None, {}),
        ("either", ["a"], ["a"]),
        ("either", "a", "a"),
    ],
)
def test_values_of_the_right_type(entry, value, read):
    assert getattr(settings_from(Settings, {entry: value}, "some"), entry) == read


@pytest.mark.parametrize(
    ("entry", "value", "told"),
    [
        ("flag", "false", "flag 'false' cannot be used; allowed: true or false; type flag: true"),
        ("flag", 1, "flag 1 cannot be used; allowed: true or false; type flag: true"),
        ("count", True, "count True cannot be used; allowed: a whole number; type count: 3"),
        ("count", None, "count None cannot be used; allowed: a whole number; type count: 3"),
        ("count", "many", "count 'many' cannot be used; allowed: a whole number; type count: 3"),
        ("rate", [1], "rate [1] cannot be used; allowed: a number; type rate: 0.001, or leave it out"),
        ("name", 5, "name 5 cannot be used; allowed: a text; type name: FOLDER, or leave it out"),
        ("sizes", 1, "sizes 1 cannot be used; allowed: a list, each item a whole number; type sizes: [1, 2]"),
        ("sizes", ["a"], "sizes ['a'] cannot be used; allowed: a list, each item a whole number; type sizes: [1, 2]"),
        (
            "parts",
            ["a"],
            "parts ['a'] cannot be used; allowed: a list, each item entries of the form `name: value`; "
            "type parts: [{name: value}], or leave it out",
        ),
        (
            "section",
            5,
            "section 5 cannot be used; allowed: entries of the form `name: value`; type section: {name: value}",
        ),
        ("either", 5, 'either 5 cannot be used; allowed: a text or a list, each item a text; type either: "one"'),
    ],
)
def test_values_of_a_wrong_type_are_one_line(entry, value, told):
    with pytest.raises(UserInputError) as caught:
        settings_from(Settings, {entry: value}, "some")
    assert str(caught.value) == f"section 'some': {told}"
