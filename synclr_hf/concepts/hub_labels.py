"""Concepts from the class names of a labelled data set on the Hub."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from synclr_hf.concepts.concept import Concept
from synclr_hf.concepts.concept_files import checked_name
from synclr_hf.concepts.text_files import shown_path
from synclr_hf.errors import UserInputError, unknown_name

if TYPE_CHECKING:
    from datasets import ClassLabel

HUB_PREFIX = "hub:"

_SPEC = re.compile(r"(?P<repository>[\w.-]+(?:/[\w.-]+)?)(?:/(?P<configuration>[\w.+-]+))?(?::(?P<column>.+))?")
_FIX = f"--concepts {HUB_PREFIX}ORG/NAME or --concepts {HUB_PREFIX}ORG/NAME/CONFIG:COLUMN"


def read_hub_labels(spec: str) -> tuple[list[Concept], int]:
    """Return the names of a `ClassLabel` column as concepts; what the user wrote behind `hub:` is their `source`.

    Only the card is downloaded where it tells the columns, otherwise also the beginning of a data file. Underscores
    become spaces; of a name with commas (`tench, Tinca tinca`) the part before the first one is taken.

    Args:
        spec: `hub:ORG/NAME`; `hub:ORG/NAME/CONFIG` where there are several configurations; with `:COLUMN` behind
            where several columns have class names.

    Returns:
        The concepts, at least one, and the number of class names that were left out (no letters, too long).

    Raises:
        UserInputError: the spec is not of that form, the set cannot be read, or has no such column.
    """
    source = spec.removeprefix(HUB_PREFIX)
    match = _SPEC.fullmatch(source)
    if match is None:
        raise UserInputError(f"'{shown_path(spec)}' names no data set; type {_FIX}")
    typed = source.partition(":")[0]
    label = _pick_label(typed, match["column"], _features(match["repository"], match["configuration"]))
    concepts, problems = [], []
    for place, name in enumerate(label.names):
        first = str(name).replace("_", " ").partition(",")[0]
        try:
            concepts.append(Concept(checked_name(first, f"class {place} of '{HUB_PREFIX}{typed}'"), source))
        except UserInputError as error:
            problems.append(error)
    if not concepts:
        raise problems[0]
    return concepts, len(problems)


def _features(repository: str, configuration: str | None) -> dict[str, Any]:
    """Return column -> feature of a data set on the Hub."""
    from datasets import get_dataset_config_names, load_dataset, load_dataset_builder

    try:
        names = get_dataset_config_names(repository)
        if configuration or len(names) > 1 and "default" not in names:
            _check_configuration(repository, configuration, names)
        features = load_dataset_builder(repository, configuration).info.features
        if features is None:
            split = next(iter(load_dataset(repository, configuration, streaming=True).values()))
            features = split.features
    except UserInputError:
        raise
    except Exception as error:  # the libraries below raise dozens of kinds
        raise _unreadable(repository, error) from error
    return dict(features or {})


def _check_configuration(repository: str, configuration: str | None, names: list[str]) -> None:
    fix = f"--concepts {HUB_PREFIX}{repository}/{names[0]}"
    if configuration is None:
        shown = ", ".join(names[:20])
        raise UserInputError(
            f"the data set '{repository}' has {len(names)} configurations: {shown}; type {fix}, or another of them"
        )
    if configuration not in names:
        raise unknown_name(f"configuration of the data set '{repository}'", configuration, names[:20], fix)


def _pick_label(repository: str, wanted: str | None, features: dict[str, Any]) -> ClassLabel:
    from datasets import ClassLabel

    inner = {column: getattr(feature, "feature", feature) for column, feature in features.items()}
    labels = {column: feature for column, feature in inner.items() if isinstance(feature, ClassLabel)}
    labels = {column: feature for column, feature in labels.items() if feature.names}
    named = ", ".join(labels)
    if not labels:
        columns = ", ".join(features) or "none that its card or files tell"
        raise UserInputError(
            f"the data set '{repository}' has no column with class names (its columns: {columns}); "
            "write the names into a text file, one a line, and type --concepts FILE.txt"
        )
    if wanted is not None and wanted not in labels:
        raise UserInputError(
            f"column '{wanted}' of the data set '{repository}' has no class names; allowed: {named}; "
            f"type --concepts {HUB_PREFIX}{repository}:{next(iter(labels))}"
        )
    if wanted is None and len(labels) > 1:
        raise UserInputError(
            f"several columns of the data set '{repository}' have class names: {named}; "
            f"type --concepts {HUB_PREFIX}{repository}:{next(iter(labels))}, or another of them"
        )
    return labels[wanted or next(iter(labels))]


def _unreadable(repository: str, error: Exception) -> UserInputError:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = (line.strip() for line in str(error).splitlines())
    reason = next((line for line in lines if line), type(cause).__name__)
    return UserInputError(
        f"the class names of the data set '{repository}' cannot be read from the Hub ({reason[:200]}); type {_FIX}, "
        "or --concepts FILE.txt with one concept a line"
    )
