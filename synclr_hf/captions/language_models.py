"""Language models that complete caption prompts: one interface, back ends found by name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from synclr_hf.errors import unknown_name


class LanguageModel(Protocol):
    """Completes prompts; the same (prompt, seed) pair gives the same text in the same batch."""

    name: str
    """Identifier stored in every caption row, e.g. a Hub id with its revision."""

    def complete(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        stop: Sequence[str],
    ) -> list[str]:
        """Return one completion a prompt, in order, without the prompt and cut before the first `stop` string."""
        ...


LANGUAGE_MODELS: dict[str, str] = {
    "toy": "synclr_hf.toyworld.language_model:ToyLanguageModel",
    "transformers": "synclr_hf.captions.transformers_model:TransformersLanguageModel",
}
"""Back end name -> import string, so that no room imports the toy world."""


def load_object(import_string: str) -> Any:
    """Import `module:attribute`."""
    module, _, attribute = import_string.partition(":")
    return getattr(import_module(module), attribute)
