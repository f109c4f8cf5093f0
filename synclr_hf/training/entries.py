"""Entries of a pre-training that more than their type decides about; each failure is one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from synclr_hf.data.checks import check_integer
from synclr_hf.errors import UserInputError, unknown_name
from synclr_hf.models import SynCLRConfig
from synclr_hf.objectives import OBJECTIVES


def check_encoder(encoder: Mapping[str, Any]) -> None:
    """Refuse what is no field of `SynCLRConfig`, and sizes that are no positive whole numbers.

    Raises:
        UserInputError: names the entry.
    """
    allowed = [field.name for field in fields(SynCLRConfig)]
    for name in encoder:
        if name not in allowed:
            raise unknown_name("entry of section 'encoder'", name, allowed, "one of these under `encoder:`")
    for name in ("patch_size", "num_attention_heads", "hidden_size", "num_hidden_layers"):
        check_integer(f"{name}:", encoder.get(name, getattr(SynCLRConfig, name)), minimum=1, example=4)


def check_objectives(objectives: Sequence[Mapping[str, Any]] | None) -> None:
    """Refuse no objective, one without a name, and two of the same name.

    Raises:
        UserInputError: tells the objectives.
    """
    if objectives is None:
        return
    names = [settings.get("name") for settings in objectives]
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise UserInputError(
            f"objectives with the names {names}; allowed: a list of entries with a `name`, each of "
            f"{', '.join(OBJECTIVES)} once; type objectives: [{{name: multi_positive}}]"
        )


def check_class_names(class_names: Sequence[str] | None) -> None:
    """Refuse no class, one without a name, and two of the same name.

    Raises:
        UserInputError: tells the first names.
    """
    if class_names is None:
        return
    if not class_names or not all(class_names) or len(set(class_names)) < len(class_names):
        raise UserInputError(
            f"class_names {list(class_names[:5])}{' ...' if len(class_names) > 5 else ''}; allowed: a list of "
            "different texts, none of them empty; type class_names: [bird, cat], or leave it out"
        )
