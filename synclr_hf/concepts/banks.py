"""Banks of concepts: shipped lists and mixtures by name, the user's own from a file or from labels on the Hub."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from synclr_hf.concepts.concept import Concept
from synclr_hf.concepts.concept_files import CONCEPTS_FIX, read_concept_file
from synclr_hf.concepts.hub_labels import HUB_PREFIX, read_hub_labels
from synclr_hf.concepts.mixture_files import MIXTURE_SUFFIXES, read_mixture_file
from synclr_hf.concepts.text_files import is_there, shown_path, user_path
from synclr_hf.data.back_ends import load_object
from synclr_hf.errors import UserInputError, unknown_name

CONCEPT_BANKS: dict[str, str] = {
    "toyworld": "synclr_hf.toyworld.bank:load_bank",
    "synclr": "synclr.yaml",
    "imagenet1k": "imagenet1k.csv",
    "imagenet21k": "imagenet21k.csv",
    "aircraft": "aircraft.csv",
    "caltech101": "caltech101.csv",
    "cars": "cars.csv",
    "dtd": "dtd.csv",
    "flowers": "flowers.csv",
    "food101": "food101.csv",
    "pets": "pets.csv",
    "places365": "places365.csv",
    "sun397": "sun397.csv",
}
"""Name -> import string of a function without arguments that returns the concepts, or a file of `concepts/lists/`.

Each list says in its first lines where the names come from. `synclr` is the mixture of the paper's Table 11.
"""

FILE_SUFFIXES = (".txt", ".csv")

LISTS = Path(__file__).parent / "lists"

_FORMS = (
    "the path of a .txt or .csv file",
    "of a .yaml file with a mixture",
    f"{HUB_PREFIX}ORG/NAME[/CONFIG][:COLUMN]",
)


@dataclass(frozen=True)
class ConceptBank:
    """What a bank or a mixture holds.

    Attributes:
        concepts: at least one; a name comes once a source.
        dropped: source -> names left out, as they came again or are no names; sources without any are not listed.
    """

    concepts: tuple[Concept, ...]
    dropped: dict[str, int]


def load_concepts(spec: str | Path) -> tuple[Concept, ...]:
    """Return the concepts of a bank or mixture; see `load_bank`, which also says what was dropped."""
    return load_bank(spec).concepts


def load_bank(spec: str | Path) -> ConceptBank:
    """Load a bank or a mixture by its name, from a file, or from the labels of a data set on the Hub.

    - a name of `CONCEPT_BANKS`;
    - `PATH.csv` or `PATH.txt`: see `read_concept_file`; the file's stem is the `source`;
    - `PATH.yaml`: a mixture, see `read_mixture_file`. The weights are scaled so that the concepts of a component
      have its share together, within it in proportion to their own weights. A name that stands in several banks is
      kept in each, with the weight that it has there: rows say which source they come from, and shares stay exact.
    - `hub:ORG/NAME`, `hub:ORG/NAME/CONFIG`, either with `:COLUMN`: see `read_hub_labels`; what follows `hub:` is
      the `source`.

    A name that comes again in one bank, whatever its case, is dropped and counted. In a mixture no two banks may have
    one `source`: rows say by it where a concept comes from.

    Raises:
        UserInputError: no such bank, file or data set, or one that holds no usable concepts.
    """
    text = str(spec)
    if text in CONCEPT_BANKS:
        place = CONCEPT_BANKS[text]
        if ":" in place:
            return _without_duplicates(load_object(place)())
        text = str(LISTS / place)
    if text.startswith(HUB_PREFIX):
        concepts, unusable = read_hub_labels(text)
        bank = _without_duplicates(concepts)
        dropped = dict(bank.dropped)
        if unusable:
            source = concepts[0].source
            dropped[source] = dropped.get(source, 0) + unusable
        return ConceptBank(bank.concepts, dropped)
    path = user_path(text)
    if not path.suffix and path.name == text and not is_there(path):
        raise unknown_name("concept bank", shown_path(text), [*CONCEPT_BANKS, *_FORMS], CONCEPTS_FIX)
    if path.suffix.lower() in MIXTURE_SUFFIXES:
        return _load_mixture(path)
    if path.suffix.lower() not in FILE_SUFFIXES and path.is_file():
        raise UserInputError(
            f"'{shown_path(path)}' is no list of concepts by its ending; allowed: .txt, .csv and .yaml; rename it, or "
            f"type {CONCEPTS_FIX}"
        )
    return _without_duplicates(read_concept_file(path))


def _load_mixture(path: Path) -> ConceptBank:
    components = read_mixture_file(path)
    total = math.fsum(component.share for component in components)
    concepts: list[Concept] = []
    dropped: dict[str, int] = {}
    sources: dict[str, str] = {}
    places: dict[str, str] = {}
    for component in components:
        for spec in component.banks:
            _claim_place(path, spec, places)
        banks = [_load_member(path, spec) for spec in component.banks]
        for spec, bank in zip(component.banks, banks, strict=True):
            _claim_source(path, spec, bank.concepts[0].source, sources)
        members = [concept for bank in banks for concept in bank.concepts]
        weights = math.fsum(concept.weight for concept in members)
        share = component.share / total
        concepts += [_weighted(concept, share * (concept.weight / weights)) for concept in members]
        for bank in banks:
            for source, count in bank.dropped.items():
                dropped[source] = dropped.get(source, 0) + count
    return ConceptBank(tuple(concepts), dropped)


def _load_member(path: Path, spec: str) -> ConceptBank:
    """Load one bank of a mixture; a path is relative to the mixture's file."""
    name = CONCEPT_BANKS.get(spec, spec)
    if Path(name).suffix.lower() in MIXTURE_SUFFIXES:
        raise UserInputError(f"'{path}': '{spec}' is a mixture itself; list its banks here instead")
    try:
        return load_bank(_located(path, spec))
    except UserInputError as error:
        raise UserInputError(f"'{path}', bank '{shown_path(spec)}': {error}") from error


def _located(path: Path, spec: str) -> str | Path:
    """Return the path that a bank of a mixture means; a name or an id as it is."""
    beside = path.parent / user_path(spec)
    known = spec in CONCEPT_BANKS or spec.startswith(HUB_PREFIX) or not (beside.suffix or is_there(beside))
    return spec if known else beside


def _claim_place(path: Path, spec: str, places: dict[str, str]) -> None:
    place = _located(path, spec)
    key = str(place.resolve()) if isinstance(place, Path) and is_there(place) else str(place)
    other = places.setdefault(key, spec)
    if other != spec:
        raise UserInputError(f"'{path}' lists one bank twice, as '{other}' and as '{spec}'; take one of them out")


def _claim_source(path: Path, spec: str, source: str, sources: dict[str, str]) -> None:
    other = sources.setdefault(source, spec)
    if other != spec:
        raise UserInputError(
            f"'{path}': the banks '{other}' and '{spec}' are both called '{source}', and rows tell banks apart by "
            "that name; rename the file of one of them"
        )


def _weighted(concept: Concept, weight: float) -> Concept:
    return Concept(concept.name, concept.source, concept.kind, concept.backgrounds, weight)


def _without_duplicates(concepts: Iterable[Concept]) -> ConceptBank:
    unique: dict[str, Concept] = {}
    dropped: dict[str, int] = {}
    for concept in concepts:
        if unique.setdefault(concept.name.casefold(), concept) is not concept:
            dropped[concept.source] = dropped.get(concept.source, 0) + 1
    return ConceptBank(tuple(unique.values()), dropped)
