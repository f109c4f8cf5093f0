"""Plausible backgrounds: the places where a concept is really seen, for the captions that name one (paper, 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from synclr_hf.concepts.concept import Concept
from synclr_hf.concepts.text_files import (
    check_characters,
    is_there,
    numbered_lines,
    read_text_file,
    shown_path,
    user_path,
)
from synclr_hf.data.reading import read_rows
from synclr_hf.data.schemas import BACKGROUND_COLUMNS
from synclr_hf.errors import UserInputError, unknown_name

if TYPE_CHECKING:
    from datasets import Dataset

BACKGROUND_DOMAINS = (
    "aircraft",
    "amphibian",
    "bird",
    "boat",
    "building",
    "car",
    "cat",
    "clothing",
    "dog",
    "electronics",
    "fish",
    "flower",
    "food",
    "fungus",
    "furniture",
    "household",
    "insect",
    "kitchenware",
    "livestock",
    "mammal",
    "marine",
    "musical_instrument",
    "person",
    "plant",
    "reptile",
    "sport",
    "tool",
    "train",
    "vehicle",
    "weapon",
)
"""Names of the shared lists that ship, `concepts/backgrounds/{domain}.txt`: one place a line.

`fish` is for fresh water and hands of people, `marine` for all that lives in the sea; `car` for cars, `vehicle` for
what else goes on roads; `sport` for ball games on land.
"""

MAX_PATH = 4096
"""Characters of a path: what is longer is neither a folder nor an id on the Hub."""

_STAGE = "backgrounds"
_OTHER_FORMS = ("the path of a .txt file with one place a line", "the folder or Hub id of a set of synclr backgrounds")
_FIX = "--backgrounds bird, --backgrounds FILE.txt, or --backgrounds FOLDER"


@cache
def shared_backgrounds(domain: str) -> tuple[str, ...]:
    """Return the places that all concepts of a domain share.

    Args:
        domain: one of `BACKGROUND_DOMAINS`.

    Raises:
        UserInputError: no such domain.
    """
    if domain not in BACKGROUND_DOMAINS:
        raise unknown_name("domain of backgrounds", domain, [*BACKGROUND_DOMAINS, *_OTHER_FORMS], _FIX)
    text = (files("synclr_hf.concepts") / "backgrounds" / f"{domain}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def with_backgrounds(concepts: Sequence[Concept], spec: str | Path) -> tuple[Concept, ...]:
    """Return the concepts with backgrounds from a shared list, or from a set that has a list for each.

    A shared list goes to every object, in place of what it had. A set is looked up by name and source, else by name
    alone; a concept that it does not name, or for which it has no places, keeps what it had. Scenes and textures are
    left as they are: no caption asks for their background. A place that is the concept itself is left out.

    Args:
        concepts: at least one.
        spec: one of `BACKGROUND_DOMAINS`, the path of a `.txt` file with one place a line, or the folder or Hub id
            of a set that `synclr backgrounds` wrote.

    Raises:
        UserInputError: none of these, nothing in it, or a set that names none of the concepts.
    """
    where = str(spec)
    if where in BACKGROUND_DOMAINS:
        return _shared(concepts, shared_backgrounds(where))
    path = user_path(where)
    there = is_there(path)
    if path.suffix.lower() == ".txt" and not (there and path.is_dir()):
        return _shared(concepts, _read_places(path))
    if not there and ("/" not in where or len(where) > MAX_PATH or not where.isprintable()):
        raise unknown_name("domain of backgrounds", shown_path(where), [*BACKGROUND_DOMAINS, *_OTHER_FORMS], _FIX)
    return _looked_up(concepts, where)


def _shared(concepts: Sequence[Concept], places: tuple[str, ...]) -> tuple[Concept, ...]:
    return tuple(_given(concept, places) for concept in concepts)


def _looked_up(concepts: Sequence[Concept], where: str) -> tuple[Concept, ...]:
    lists: dict[tuple[str, ...], tuple[str, ...]] = {}
    for row in read_backgrounds(where):
        name = row["concept"].casefold()
        for key in ((name, row["source"]), (name,)):
            lists.setdefault(key, tuple(row["backgrounds"] or ()))
    keys = [(concept.name.casefold(), concept.source) for concept in concepts]
    found = [lists.get(key, lists.get(key[:1])) for key in keys]
    if all(places is None for places in found):
        raise UserInputError(
            f"'{where}' names none of the {len(concepts)} concepts (the first: '{concepts[0].name}'); make "
            "backgrounds for them: type synclr backgrounds with the same --concepts"
        )
    return tuple(_given(concept, places or ()) for concept, places in zip(concepts, found, strict=True))


def read_backgrounds(path_or_hub_id: str | Path) -> Dataset:
    """Load rows of backgrounds (see `background_features`).

    Args:
        path_or_hub_id: a folder that `synclr backgrounds` wrote, or `org/name` on the Hub, also `org/name@revision`.

    Raises:
        UserInputError: nothing there, a column is missing or of another type, or the run is not finished.
    """
    from datasets import List, Value

    rows = read_rows(path_or_hub_id, BACKGROUND_COLUMNS, _STAGE)
    if rows.features["backgrounds"] != List(Value("string")) or rows.features["concept"] != Value("string"):
        raise UserInputError(
            f"'{path_or_hub_id}' holds no names with lists of places (concept: {rows.features['concept']}, "
            f"backgrounds: {rows.features['backgrounds']}); type the folder that synclr {_STAGE} wrote"
        )
    return rows


def _given(concept: Concept, places: tuple[str, ...]) -> Concept:
    """Concepts share one tuple wherever they can: there may be very many of them."""
    name = concept.name.casefold()
    if any(place.casefold() == name for place in places):
        places = tuple(place for place in places if place.casefold() != name)
    return replace(concept, backgrounds=places) if places and concept.kind == "object" else concept


def _read_places(path: Path) -> tuple[str, ...]:
    """Return the lines of a file with single spaces, each once; commas and arrows would be read as parts of a prompt.

    Raises:
        UserInputError: it cannot be read, a line is no place, or there is none.
    """
    text = read_text_file(path, "file of backgrounds", _FIX)
    places: dict[str, str] = {}
    for number, line in numbered_lines(text):
        check_characters(line, f"'{path}' line {number}")
        place = " ".join(line.split())
        if "," in place or "=>" in place or not any(character.isalnum() for character in place):
            raise UserInputError(
                f"'{path}' line {number}: '{place[:60]}' is no place; write one a line, without commas and arrows"
            )
        places.setdefault(place.casefold(), place)
    if not places:
        raise UserInputError(f"'{path}' holds no places; write one a line, or type {_FIX}")
    return tuple(places.values())
