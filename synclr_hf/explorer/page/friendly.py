"""Errors as the page tells them: what a visitor can mend is one line, never a traceback."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import gradio as gr

from synclr_hf.errors import UserInputError

Function = TypeVar("Function", bound=Callable[..., Any])
_FOLDERS = re.compile(r"(?<![\w:/.])(?:~|\.{1,2})?/(?:[^\s/'\"]+/)+(?=[^\s/'\"])")
"""The folders before the last part of a path; not those of an address, nor a Hub id."""


def without_folders(text: str) -> str:
    """Return a message with no more of each path of this machine than its last part."""
    return _FOLDERS.sub("", text)


def warn(error: UserInputError) -> None:
    """Tell an error as a short message and go on, e.g. to empty the field that it is about."""
    gr.Warning(without_folders(str(error)), title="Not possible")


def friendly(function: Function) -> Function:
    """Let a function, or a generator, of the page tell `UserInputError`s as a short message."""
    if inspect.isgeneratorfunction(function):

        @wraps(function)
        def steps(*arguments: Any, **named: Any) -> Any:
            try:
                yield from function(*arguments, **named)
            except UserInputError as error:
                raise gr.Error(without_folders(str(error)), print_exception=False, title="Not possible") from error

        return steps  # type: ignore[return-value]

    @wraps(function)
    def once(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except UserInputError as error:
            raise gr.Error(without_folders(str(error)), print_exception=False, title="Not possible") from error

    return once  # type: ignore[return-value]
