"""Concepts from the user's own text and csv files; the shipped lists are such files too."""

from __future__ import annotations

import codecs
import csv
import math
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from synclr_hf.concepts.backgrounds import BACKGROUND_DOMAINS, shared_backgrounds
from synclr_hf.concepts.concept import CONCEPT_KINDS, Concept
from synclr_hf.errors import UserInputError

COLUMNS = ("name", "weight", "kind", "domain")
"""Columns of a csv file, in this order where it has no heading."""
MAX_NAME_LENGTH = 100
"""Characters of a name: longer ones are sentences, not concepts."""
MAX_FILE_BYTES = 64 * 2**20
"""A million names take about 20 MB; what is larger is no list of concepts."""
MAX_WEIGHT = 1e12

CONCEPTS_FIX = "--concepts toyworld, or --concepts FILE.txt with one concept a line"
"""What a user may type instead of a bank that cannot be loaded."""

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LINE_END = re.compile(r"\r\n|\r|\n")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9]+(?:[ '.&/-][A-Za-z0-9]+)*")
_JOINERS = "\u200c\u200d"


def read_concept_file(path: Path) -> Iterator[Concept]:
    """Yield the concepts of a file, in order, names that come again too.

    A `.csv` file has rows `name,weight,kind,domain`, of which all but the name may be left out; a first row that
    starts with `name` is a heading and says which columns there are. `domain` gives the concept the places of
    `shared_backgrounds(domain)`. Any other file has one concept a line. Empty lines and lines that start with `#` are
    skipped. Spaces at the ends are cut, those within made single.

    Args:
        path: UTF-8 text, with or without a byte order mark; its stem becomes the `source`.

    Raises:
        UserInputError: no file, not such text, a line that cannot be used, or no concepts.
    """
    numbered = enumerate((line.strip() for line in _LINE_END.split(read_text_file(path, "concept file"))), start=1)
    lines = [(number, line) for number, line in numbered if line and line[0] != "#"]
    concepts = _parse_csv(path, lines) if path.suffix.lower() == ".csv" else _parse_text(path, lines)
    empty = True
    for concept in concepts:
        empty = False
        yield concept
    if empty:
        raise UserInputError(f"'{path}' holds no concepts; write one concept a line, or type --concepts toyworld")


def read_text_file(path: Path, what: str) -> str:
    """Return the text of a small UTF-8 file, without its byte order mark.

    Args:
        path: the file.
        what: what it should be, e.g. `"concept file"`.

    Raises:
        UserInputError: there is none, it is a folder, too large, or not UTF-8 text.
    """
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "not a file"
            raise UserInputError(f"cannot read the {what} '{path}': it is {kind}; type {CONCEPTS_FIX}")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise UserInputError(
                f"the {what} '{path}' has {size / 2**20:,.0f} MB, more than the {MAX_FILE_BYTES // 2**20} MB that a "
                f"list of concepts may have; type {CONCEPTS_FIX}"
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserInputError(f"there is no {what} '{path}'; type {CONCEPTS_FIX}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, UserInputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise UserInputError(f"cannot read the {what} '{str(path)[:200]}' ({reason}); type {CONCEPTS_FIX}") from None
    if data.startswith(_UTF_16):
        raise UserInputError(f"the {what} '{path}' is UTF-16 text; save it as UTF-8, or type {CONCEPTS_FIX}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserInputError(
            f"the {what} '{path}' is not UTF-8 text (line {line}); save it as UTF-8, or type {CONCEPTS_FIX}"
        ) from None
    if "\0" in text:
        raise UserInputError(f"the {what} '{path}' is not a text file (it holds binary data); type {CONCEPTS_FIX}")
    return text


def checked_name(name: str, where: str) -> str:
    """Return a name as prompts may hold it: composed characters, single spaces.

    Args:
        name: what the user wrote.
        where: where it stands, e.g. `"'birds.txt' line 3"`, for the message.

    Raises:
        UserInputError: without a letter or digit, longer than `MAX_NAME_LENGTH`, or with control characters; a comma
            or an arrow, which would be read as parts of the prompt.
    """
    if len(name) <= MAX_NAME_LENGTH and _PLAIN_NAME.fullmatch(name):
        return name
    for character in name:
        if not (character.isprintable() or character in _JOINERS or character == "\t" or _is_space(character)):
            raise UserInputError(
                f"{where}: the name holds the control character U+{ord(character):04X}; take it out of the list"
            )
    name = unicodedata.normalize("NFC", " ".join(name.split()))
    if len(name) > MAX_NAME_LENGTH:
        raise UserInputError(
            f"{where}: '{name[:30]}...' has {len(name):,} characters, a name at most {MAX_NAME_LENGTH}; "
            "write one concept a line"
        )
    if not any(character.isalnum() for character in name):
        raise UserInputError(f"{where}: '{name}' is not a name; write one concept a line")
    if "," in name or "=>" in name:
        raise UserInputError(
            f"{where}: '{name}' holds a comma or an arrow; write one name a line, "
            "or name,weight rows in a file that ends in .csv"
        )
    return name


def _is_space(character: str) -> bool:
    return unicodedata.category(character) == "Zs"


def _parse_text(path: Path, lines: list[tuple[int, str]]) -> Iterator[Concept]:
    source = path.stem
    for number, line in lines:
        yield Concept(checked_name(line, f"'{path}' line {number}"), source)


def _parse_csv(path: Path, lines: list[tuple[int, str]]) -> Iterator[Concept]:
    source, columns = path.stem, COLUMNS
    kinds = {kind: kind for kind in CONCEPT_KINDS} | {"": CONCEPT_KINDS[0]}
    for place, (number, line) in enumerate(lines):
        cells = _cells(line)
        if place == 0 and cells[0].casefold() == "name":
            columns = _heading(path, number, line, cells)
            continue
        if len(cells) > len(columns):
            raise _bad_line(path, number, line, f"more than {len(columns)} columns")
        row = dict(zip(columns, cells, strict=False))
        weight, kind, domain = row.get("weight", ""), row.get("kind", ""), row.get("domain", "")
        if kind not in kinds:
            raise _bad_line(path, number, line, f"unknown kind '{kind}' (allowed: {', '.join(CONCEPT_KINDS)})")
        if domain and domain not in BACKGROUND_DOMAINS:
            allowed = ", ".join(BACKGROUND_DOMAINS)
            raise _bad_line(path, number, line, f"unknown domain '{domain}' (allowed: {allowed})")
        name = checked_name(cells[0], f"'{path}' line {number}")
        yield Concept(
            name,
            source,
            kinds[kind],
            _places(name, domain) if domain else (),
            _weight(path, number, line, weight) if weight else 1.0,
        )


def _places(name: str, domain: str) -> tuple[str, ...]:
    """Return the shared tuple itself unless one of the places is the concept."""
    places, folded = shared_backgrounds(domain), name.casefold()
    if folded in _folded_places(domain):
        return tuple(place for place in places if place.casefold() != folded)
    return places


@cache
def _folded_places(domain: str) -> frozenset[str]:
    return frozenset(place.casefold() for place in shared_backgrounds(domain))


def _cells(line: str) -> list[str]:
    cells = next(csv.reader([line])) if '"' in line else line.split(",")
    return [cell.strip() for cell in cells]


def _heading(path: Path, number: int, line: str, cells: list[str]) -> tuple[str, ...]:
    columns = tuple(cell.casefold() for cell in cells)
    if set(columns) - set(COLUMNS) or len(set(columns)) < len(columns):
        raise _bad_line(path, number, line, f"columns that are not {', '.join(COLUMNS)}, each once")
    return columns


def _weight(path: Path, number: int, line: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight <= MAX_WEIGHT:
        raise _bad_line(
            path, number, line, f"the weight '{text}' is not a number greater than 0 and at most {MAX_WEIGHT:g}"
        )
    return weight


def _bad_line(path: Path, number: int, line: str, reason: str) -> UserInputError:
    shown = line if len(line) <= 80 else f"{line[:80]}..."
    return UserInputError(f"'{path}' line {number}: {reason} in '{shown}'; write name,weight,kind,domain (or fewer)")
