"""Recipes: one YAML file for the whole street, one section a stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from synclr_hf.data.settings import settings_from
from synclr_hf.errors import UserInputError, unknown_name

SET_BY_THE_RUN = {
    "captions": {"seed": "seed: at the top", "output_dir": "output_dir: at the top"},
    "images": {"seed": "seed: at the top", "output_dir": "output_dir: at the top", "captions": "synclr images"},
    "pretraining": {"seed": "seed: at the top", "output_dir": "output_dir: at the top", "images": "synclr pretrain"},
    "index": {"model": "synclr index", "images": "synclr index", "output_dir": "output_dir: at the top"},
}
"""Section -> entry of its stage that a recipe does not decide -> what to type instead."""

RECIPE_SUFFIXES = (".yaml", ".yml")


@dataclass
class Recipe:
    """A recipe as written; the stages check the entries of their sections.

    Args:
        output_dir: folder of everything that the recipe makes.
        seed: seed of the whole run.
        captions: entries of `CaptionsConfig`.
        images: entries of `ImagesConfig`.
        pretraining: entries of `PretrainingConfig`.
        evaluation: entries of `EvaluationPlan`.
        index: `max_pictures` and other entries of `IndexConfig`; without the section no index is made.
        publish: entries of `PublishConfig`; nothing is published without `to`.
    """

    output_dir: str = "outputs/run"
    seed: int = 0
    captions: dict[str, Any] = field(default_factory=dict)
    images: dict[str, Any] = field(default_factory=dict)
    pretraining: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    index: dict[str, Any] | None = None
    publish: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what the stages could not name better."""
        if not 0 <= self.seed < 2**32:
            raise UserInputError(f"seed {self.seed!r}; allowed: a whole number, 0 to {2**32 - 1}; type --seed 0")
        if not self.output_dir:
            raise UserInputError("output_dir is empty; allowed: a folder; type output_dir: outputs/run")
        self.output_dir = str(Path(self.output_dir).expanduser())
        for name in ("captions", "images", "pretraining", "evaluation", "index", "publish"):
            for entry, instead in SET_BY_THE_RUN.get(name, {}).items():
                if entry in (getattr(self, name) or {}):
                    raise UserInputError(f"section '{name}': {entry} is set by the run itself; type {instead}")


def packaged_recipes() -> list[str]:
    """Return the names of the recipes that come with the package."""
    folder = resources.files("synclr_hf.recipes")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name: str | None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        name: path of a YAML file (it has a `/` or ends in .yaml or .yml), or the name of a packaged recipe. Its entry
            `extends: NAME` names another one in the same way, a path being looked for beside it. The entries of that
            one hold where it says nothing; an empty section says nothing, lists are taken whole. `None`: nothing but
            the overrides.
        overrides: `section.entry=value`, the value in YAML, e.g. `pretraining.training_arguments.max_steps=100`.

    Raises:
        UserInputError: no such recipe, not YAML, an entry that the run sets itself, or an unreadable override.
    """
    entries = {} if name is None else _entries(name)
    for override in overrides:
        _apply(entries, override)
    return settings_from(Recipe, entries, "recipe")


def entries_of(overrides: Sequence[str]) -> dict[str, Any]:
    """Return overrides, `section.entry=value`, as the entries of sections.

    Raises:
        UserInputError: an unreadable override.
    """
    entries: dict[str, Any] = {}
    for override in overrides:
        _apply(entries, override)
    return entries


def _is_path(name: str) -> bool:
    """Tell the path of a YAML file from the name of a packaged recipe."""
    return Path(name).suffix in RECIPE_SUFFIXES or "/" in name


def _entries(name: str, extended_by: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the entries of a recipe with those of the recipes that it extends."""
    one = str(Path(name).resolve()) if _is_path(name) else name
    if one in extended_by:
        raise UserInputError(f"recipe '{name}' extends itself ({' > '.join((*extended_by, one))}); leave one out")
    entries = _read(name)
    base = entries.pop("extends", None)
    if base is None:
        return entries
    if not isinstance(base, str):
        raise UserInputError(
            f"recipe '{name}': extends {base!r}; allowed: the path of a .yaml file, or one of "
            f"{', '.join(packaged_recipes())}; type extends: {packaged_recipes()[0]}"
        )
    if _is_path(base):
        base = str(Path(name).parent / base)
    try:
        return _merged(_entries(base, (*extended_by, one)), entries)
    except UserInputError as error:
        raise UserInputError(f"recipe '{name}' extends '{base}': {error}") from error


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of both; those of the changes win, but an empty section leaves that of the base."""
    merged = dict(base)
    for name, value in changes.items():
        if isinstance(merged.get(name), dict) and (value is None or isinstance(value, dict)):
            merged[name] = _merged(merged[name], value or {})
        else:
            merged[name] = value
    return merged


def _read(name: str) -> dict[str, Any]:
    if _is_path(name):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text file"
            raise UserInputError(
                f"recipe '{name}' cannot be read: {reason}; allowed: a YAML file, or one of "
                f"{', '.join(packaged_recipes())}; type synclr run {packaged_recipes()[0]}"
            ) from error
    elif name in packaged_recipes():
        text = resources.files("synclr_hf.recipes").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    else:
        raise unknown_name("recipe", name, [*packaged_recipes(), "the path of a .yaml file"], "synclr run toyworld")
    try:
        entries = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UserInputError(f"recipe '{name}' is not YAML: {error}") from error
    if not isinstance(entries, dict):
        raise UserInputError(f"recipe '{name}' holds no sections; see the packaged recipe toyworld for one")
    return entries


def _apply(entries: dict[str, Any], override: str) -> None:
    path, sign, value = override.partition("=")
    if not sign or not path:
        raise UserInputError(f"'{override}' is no override; type section.entry=value, e.g. captions.num_captions=200")
    *parents, last = path.split(".")
    for parent in parents:
        entries[parent] = {} if entries.get(parent) is None else entries[parent]
        entries = entries[parent]
        if not isinstance(entries, dict):
            raise UserInputError(f"'{override}': '{parent}' has no entries")
    try:
        entries[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserInputError(f"'{override}': the value is not YAML") from error
