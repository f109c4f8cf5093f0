"""The one exception that stands for a user's mistake."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserInputError(ValueError):
    """Something the user gave cannot be used; the message is one line and says what to type instead.

    The command line prints it without a traceback and exits with status 2. A `DataLoader` makes the error of a worker
    again, out of the traceback there; the message is then the last line of it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).rpartition("synclr_hf.errors.UserInputError: ")[2].split()))


def unknown_name(what: str, name: object, allowed: Iterable[str], fix: str) -> UserInputError:
    """Return the error for a `name` that is not among the `allowed` ones.

    Args:
        what: what the name stands for, e.g. `"concept bank"`.
        name: the value that was given.
        allowed: every accepted name.
        fix: what to type, e.g. `"--concepts toyworld"`.
    """
    allowed = list(allowed)
    near = get_close_matches(str(name), allowed, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return UserInputError(f"unknown {what} '{name}'{hint}; allowed: {', '.join(allowed)}; type {fix}")
