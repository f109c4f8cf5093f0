"""Mixtures of banks, written as YAML files; the paper's is such a file too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from synclr_hf.concepts.concept_files import CONCEPTS_FIX
from synclr_hf.concepts.text_files import read_text_file
from synclr_hf.errors import UserInputError

MIXTURE_SUFFIXES = (".yaml", ".yml")

_FORM = "components: [{share: 0.7, banks: [imagenet1k]}, {share: 0.3, banks: [my_birds.txt, pets]}]"


@dataclass(frozen=True)
class Component:
    """A part of a mixture.

    Attributes:
        share: its part of the draws, relative to the other components; greater than 0.
        banks: names of banks, paths or `hub:ORG/NAME`; at least one.
    """

    share: float
    banks: tuple[str, ...]


def read_mixture_file(path: Path) -> tuple[Component, ...]:
    """Read a file of the form `components: [{share: ..., banks: [...]}, ...]`.

    Shares need not sum to 1: what counts is their proportion.

    Raises:
        UserInputError: no such file or not of that form, a share that is not a number greater than 0, a bank that
            is listed twice (its concepts would count twice).
    """
    text = read_text_file(path, "mixture file", CONCEPTS_FIX)
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        reason = getattr(error, "problem", None) or "a character that is not allowed"
        raise _bad_file(path, f"is not YAML{line}: {reason}") from None
    except (RecursionError, ValueError) as error:
        raise _bad_file(path, f"cannot be read: {str(error)[:100]}") from None
    if not isinstance(content, dict) or set(content) != {"components"}:
        raise _bad_file(path, "must have one key, 'components'")
    if not isinstance(content["components"], list) or not content["components"]:
        raise _bad_file(path, "must list at least one component")
    components = tuple(_component(path, n, entry) for n, entry in enumerate(content["components"], start=1))
    seen: set[str] = set()
    for name in (name for component in components for name in component.banks):
        if name in seen:
            raise _bad_file(path, f"lists the bank '{name}' twice")
        seen.add(name)
    return components


def _component(path: Path, number: int, entry: Any) -> Component:
    if not isinstance(entry, dict) or set(entry) != {"share", "banks"}:
        raise _bad_file(path, f"component {number} must have the keys 'share' and 'banks' and no others")
    share, banks = entry["share"], entry["banks"]
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < math.inf:
        raise _bad_file(path, f"component {number}: the share '{share}' is not a number greater than 0")
    if not isinstance(banks, list) or not banks or not all(isinstance(bank, str) and bank for bank in banks):
        raise _bad_file(path, f"component {number}: 'banks' must be a list of at least one name")
    return Component(float(share), tuple(banks))


def _bad_file(path: Path, reason: str) -> UserInputError:
    return UserInputError(f"the mixture file '{path}' {reason}; write {_FORM}")
