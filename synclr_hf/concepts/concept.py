"""The smallest unit of the street: one thing that pictures can show."""

from __future__ import annotations

from dataclasses import dataclass

from synclr_hf.errors import unknown_name

CONCEPT_KINDS = ("object", "scene", "texture")
"""Objects take every template; scenes and textures the plain one only (paper, section 3.1)."""


@dataclass(frozen=True)
class Concept:
    """A visual concept and what is known about it.

    Attributes:
        name: the words that captions use for it, e.g. `"hot-air balloon"`.
        source: the bank it comes from, e.g. `"toyworld"`.
        kind: one of `CONCEPT_KINDS`.
        backgrounds: places where it is plausibly seen; empty when no list is known.
        weight: relative frequency within its bank, greater than 0.
    """

    name: str
    source: str
    kind: str = "object"
    backgrounds: tuple[str, ...] = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse an unknown kind (`UserInputError`)."""
        if self.kind not in CONCEPT_KINDS:
            raise unknown_name("kind of concept", self.kind, CONCEPT_KINDS, "kind 'object'")
