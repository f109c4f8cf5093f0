"""Concepts from the user's own text and csv files; the shipped lists are such files too."""

from __future__ import annotations

import csv
import math
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from synclr_hf.concepts.backgrounds import BACKGROUND_DOMAINS, shared_backgrounds
from synclr_hf.concepts.concept import CONCEPT_KINDS, Concept
from synclr_hf.concepts.text_files import check_characters, numbered_lines, read_text_file
from synclr_hf.errors import UserInputError

COLUMNS = ("name", "weight", "kind", "domain")
"""Columns of a csv file, in this order where it has no heading."""
MAX_NAME_LENGTH = 100
"""Characters of a name: longer ones are sentences, not concepts."""
MAX_WEIGHT = 1e12

CONCEPTS_FIX = "--concepts toyworld, or --concepts FILE.txt with one concept a line"
"""What a user may type instead of a bank that cannot be loaded."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9]+(?:[ '.&/-][A-Za-z0-9]+)*")
_LIST_MARK = re.compile(r"(?:\d{1,6}[.)]|[-*+•‣·–—])\s")
_QUOTED = re.compile(r"[\"'`“”„‘’«»].*[\"'`“”„‘’«»]")
_TAB_AND_NUMBER = re.compile(r"\t\s*[\d.,]+$")


def read_concept_file(path: Path) -> Iterator[Concept]:
    """Yield the concepts of a file, in order, names that come again too.

    A `.csv` file has rows `name,weight,kind,domain`, of which all but the name may be left out; a first row that
    starts with `name` is a heading and says which columns there are. `domain` gives the concept the places of
    `shared_backgrounds(domain)`. Any other file has one concept a line. Empty lines and lines that start with `#` are
    skipped. Spaces at the ends are cut, those within made single. What would silently give a wrong name is refused:
    semicolons or tabs between cells, a list mark in front (`1. owl`, `- owl`), quotes around a name (a `.csv` may have
    double ones).

    Args:
        path: UTF-8 text, with or without a byte order mark; its stem becomes the `source`.

    Raises:
        UserInputError: no file, not such text, a line that cannot be used, or no concepts.
    """
    lines = list(numbered_lines(read_text_file(path, "concept file", CONCEPTS_FIX)))
    concepts = _parse_csv(path, lines) if path.suffix.lower() == ".csv" else _parse_text(path, lines)
    empty = True
    for concept in concepts:
        empty = False
        yield concept
    if empty:
        raise UserInputError(f"'{path}' holds no concepts; write one concept a line, or type --concepts toyworld")


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
    check_characters(name, where, "the name")
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


def _listed_name(text: str, where: str) -> str:
    """Return a name that stands alone: what looks like a row of a table or an item of a list is refused."""
    if ";" in text or _TAB_AND_NUMBER.search(text):
        raise UserInputError(
            f"{where}: '{text[:60]}' is a row of a table; save it with commas, as name,weight rows in a file that "
            "ends in .csv, or write one name a line"
        )
    if _LIST_MARK.match(text) or _QUOTED.fullmatch(text):
        raise UserInputError(f"{where}: '{text[:60]}' has a list mark or quotes; take them away, write the name alone")
    return checked_name(text, where)


def _parse_text(path: Path, lines: list[tuple[int, str]]) -> Iterator[Concept]:
    source = path.stem
    for number, line in lines:
        yield Concept(_listed_name(line, f"'{path}' line {number}"), source)


def _parse_csv(path: Path, lines: list[tuple[int, str]]) -> Iterator[Concept]:
    source, columns = path.stem, COLUMNS
    kinds = {kind: kind for kind in CONCEPT_KINDS} | {"": CONCEPT_KINDS[0]}
    for place, (number, line) in enumerate(lines):
        cells = _cells(path, number, line)
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
        name = _listed_name(cells[0], f"'{path}' line {number}")
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


def _cells(path: Path, number: int, line: str) -> list[str]:
    try:
        cells = next(csv.reader([line])) if '"' in line else line.split(",")
    except csv.Error as error:
        raise _bad_line(path, number, line, f"no row ({error})") from None
    if ";" in cells[0] or "\t" in cells[0]:
        mark = "semicolons" if ";" in cells[0] else "tabs"
        raise _bad_line(path, number, line, f"{mark} between the cells: save it with commas,")
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
