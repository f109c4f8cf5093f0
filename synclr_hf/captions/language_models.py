"""Language models that complete caption prompts: one interface, back ends found by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from synclr_hf.data.back_ends import BackEnd, find_back_end


class LanguageModel(Protocol):
    """Completes prompts; the same (prompt, seed) pair gives the same text in the same batch.

    A class may say `parallel_processes = True`: several processes of one machine may then each build it.
    """

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


def find_language_model(spec: str) -> BackEnd:
    """Find a language model without loading it.

    Args:
        spec: `toy`, `transformers:ORG/NAME`, or just `ORG/NAME` or a folder with a saved model.

    Raises:
        UserInputError: none of these.
    """
    return find_back_end(
        spec, LANGUAGE_MODELS, model_back_end="transformers", what="language model", option="--language-model"
    )


def create_language_model(spec: str) -> LanguageModel:
    """Find and load a language model; see `find_language_model`."""
    model: LanguageModel = find_language_model(spec).load()
    return model
