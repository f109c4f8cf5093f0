"""The user's small text files, read strictly: names, places, examples, mixtures."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from synclr_hf.errors import UserInputError

MAX_FILE_BYTES = 64 * 2**20
"""A million names take about 20 MB; what is larger is no list."""

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LINE_END = re.compile(r"\r\n|\r|\n")
_JOINERS = "\u200c\u200d"
_SHOWN_PATH = 200


def read_text_file(path: Path, what: str, fix: str) -> str:
    """Return the text of a small UTF-8 file, without its byte order mark.

    Args:
        path: the file.
        what: what it should be, e.g. `"concept file"`.
        fix: what the user may type instead, e.g. `"--concepts toyworld"`.

    Raises:
        UserInputError: there is none, it is a folder, too large, or not UTF-8 text.
    """
    shown = shown_path(path)
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "not a file"
            raise UserInputError(f"cannot read the {what} '{shown}': it is {kind}; type {fix}")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise UserInputError(
                f"the {what} '{shown}' has {size / 2**20:,.0f} MB, more than the {MAX_FILE_BYTES // 2**20} MB that "
                f"it may have; type {fix}"
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserInputError(f"there is no {what} '{shown}'; type {fix}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, UserInputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise UserInputError(f"cannot read the {what} '{shown}' ({reason}); type {fix}") from None
    if data.startswith(_UTF_16):
        raise UserInputError(f"the {what} '{shown}' is UTF-16 text; save it as UTF-8, or type {fix}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserInputError(
            f"the {what} '{shown}' is not UTF-8 text (line {line}); save it as UTF-8, or type {fix}"
        ) from None
    if "\0" in text:
        raise UserInputError(f"the {what} '{shown}' is not a text file (it holds binary data); type {fix}")
    return text


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that say something with their numbers from 1; empty ones and those with `#` in front do not."""
    for number, line in enumerate(_LINE_END.split(text), start=1):
        line = line.strip()
        if line and line[0] != "#":
            yield number, line


def check_characters(text: str, where: str, what: str = "the line") -> None:
    """Refuse control characters and those that are not seen (tabs and all kinds of spaces may be there).

    Args:
        text: a line of a file, or a part of one.
        where: where it stands, e.g. `"'birds.txt' line 3"`, for the message.
        what: what it is.

    Raises:
        UserInputError: there is one.
    """
    if text.isprintable():
        return
    for character in text:
        if not (character.isprintable() or character in _JOINERS or character == "\t" or _is_space(character)):
            raise UserInputError(
                f"{where}: {what} holds the control character U+{ord(character):04X}; take it out of the list"
            )


def user_path(text: str | Path) -> Path:
    """Return the path that a user typed, with `~` for the home folder where there is one."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:  # no such user
        return path


def shown_path(path: str | Path) -> str:
    """Return a path as one line of a message may hold it: of bounded length, control characters written out."""
    text = str(path)
    shown = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text[:_SHOWN_PATH])
    return shown if len(text) <= _SHOWN_PATH else f"{shown}..."


def is_there(path: Path) -> bool:
    """Whether something has this path; what cannot be a path (a name too long, a NUL) is not there."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _is_space(character: str) -> bool:
    return unicodedata.category(character) == "Zs"
