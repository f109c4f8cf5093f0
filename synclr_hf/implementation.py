"""The one setting of speed: plain, the readable reference, or fast, with the same numbers."""

from __future__ import annotations

from synclr_hf.errors import unknown_name

IMPLEMENTATIONS = ("plain", "fast")
"""`plain` is what tests compare with; `fast` is the default everywhere."""


def check_implementation(name: str) -> None:
    """Refuse a name that is none of `IMPLEMENTATIONS`.

    Raises:
        UserInputError: with both names.
    """
    if name not in IMPLEMENTATIONS:
        raise unknown_name("implementation", name, IMPLEMENTATIONS, "implementation: fast")
