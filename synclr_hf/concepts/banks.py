"""Banks of concepts: built-in ones by name, the user's own from a text file."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from synclr_hf.concepts.concept import CONCEPT_KINDS, Concept
from synclr_hf.data.back_ends import load_object
from synclr_hf.errors import UserInputError, unknown_name

CONCEPT_BANKS: dict[str, str] = {"toyworld": "synclr_hf.toyworld.bank:load_bank"}
"""Bank name -> import string of a function without arguments that returns the concepts."""

_FIX = "--concepts toyworld, or --concepts FILE.txt with one concept a line"


def load_concepts(name_or_path: str) -> tuple[Concept, ...]:
    """Load a bank by its name, or read one from a file.

    A `.csv` file has rows `name,weight` or `name,weight,kind` (a first row that starts with `name` is a heading);
    any other file has one concept a line. Empty lines and lines that start with `#` are skipped, and a name that
    comes again (whatever its case) is dropped. The file's stem becomes the `source`.

    Raises:
        UserInputError: no such bank or file, or a file that holds no usable concepts.
    """
    text = str(name_or_path)
    if text in CONCEPT_BANKS:
        return tuple(load_object(CONCEPT_BANKS[text])())
    path = Path(text).expanduser()
    if not path.exists() and not path.suffix and path.name == text:
        raise unknown_name("concept bank", text, [*CONCEPT_BANKS, "the path of a .txt or .csv file"], _FIX)
    lines = _read_lines(path)
    parse = _parse_csv if path.suffix.lower() == ".csv" else _parse_text
    unique: dict[str, Concept] = {}
    for concept in parse(path, lines):
        unique.setdefault(concept.name.casefold(), concept)
    if not unique:
        raise UserInputError(f"'{path}' holds no concepts; write one concept a line, or type --concepts toyworld")
    return tuple(unique.values())


def _read_lines(path: Path) -> list[tuple[int, str]]:
    """Return (line number, stripped text) of every line that is neither empty nor a comment."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserInputError(f"there is no concept file '{path}'; type {_FIX}") from None
    except OSError as error:
        raise UserInputError(f"cannot read the concept file '{path}' ({error.strerror}); type {_FIX}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = data.count(b"\n", 0, error.start) + 1
        raise UserInputError(
            f"the concept file '{path}' is not UTF-8 text (line {where}); save it as UTF-8, or type {_FIX}"
        ) from None
    if any(not character.isprintable() and character not in "\t\r\n\f\u2028" for character in text):
        raise UserInputError(f"the concept file '{path}' is not a text file (it holds binary data); type {_FIX}")
    numbered = enumerate((line.strip() for line in text.split("\n")), start=1)
    return [(number, line) for number, line in numbered if line and not line.startswith("#")]


def _parse_text(path: Path, lines: list[tuple[int, str]]) -> list[Concept]:
    return [Concept(_checked_name(path, number, line), source=path.stem) for number, line in lines]


def _parse_csv(path: Path, lines: list[tuple[int, str]]) -> list[Concept]:
    concepts = []
    for place, (number, line) in enumerate(lines):
        cells = [cell.strip() for cell in next(csv.reader([line]))]
        if place == 0 and cells[0].casefold() == "name":
            continue
        if len(cells) > 3:
            raise _bad_line(path, number, line, "more than three columns")
        name, weight, kind = (*cells, "", "")[:3]
        try:
            share = float(weight) if weight else 1.0
        except ValueError:
            share = math.nan
        if not 0 < share < math.inf:
            raise _bad_line(path, number, line, f"the weight '{weight}' is not a number greater than 0")
        if kind and kind not in CONCEPT_KINDS:
            raise _bad_line(path, number, line, f"unknown kind '{kind}' (allowed: {', '.join(CONCEPT_KINDS)})")
        name = _checked_name(path, number, name)
        concepts.append(Concept(name, source=path.stem, kind=kind or "object", weight=share))
    return concepts


def _checked_name(path: Path, number: int, name: str) -> str:
    """Return the name with single spaces; commas and arrows would be read as parts of the prompt."""
    name = " ".join(name.split())
    if not any(character.isalnum() for character in name):
        raise UserInputError(f"'{path}' line {number}: '{name}' is not a name; write one concept a line")
    if "," in name or "=>" in name:
        raise UserInputError(
            f"'{path}' line {number}: '{name}' holds a comma or an arrow; write one name a line, "
            "or name,weight rows in a file that ends in .csv"
        )
    return name


def _bad_line(path: Path, number: int, line: str, reason: str) -> UserInputError:
    return UserInputError(f"'{path}' line {number}: {reason} in '{line}'; write name,weight or name,weight,kind")
