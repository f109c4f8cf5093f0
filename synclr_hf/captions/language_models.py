"""Language models that complete caption prompts: one interface, back ends found by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

from synclr_hf.data.back_ends import BackEnd, find_back_end, load_object
from synclr_hf.data.checks import check_integer
from synclr_hf.data.workers import Report
from synclr_hf.errors import UserInputError

DTYPES = ("auto", "bfloat16", "float16", "float32")


class CutOff(str):
    """A completion that `max_new_tokens` ended."""


class Refused(str):
    """What a server says about a prompt that it refuses."""


class LanguageModel(Protocol):
    """Completes prompts; the same call gives the same texts again (toy, transformers on a CPU; servers may differ).

    A class may say `parallel_processes = True`: several processes of one machine may then each build it.
    """

    name: str
    """Identifier stored in every caption row, e.g. a Hub id with its revision."""

    usage: Counter[str]
    """`prompt_tokens` and `completion_tokens` so far; a back end that has no tokens has no such attribute."""

    def complete(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        stop: Sequence[str],
        report: Report | None = None,
    ) -> list[str]:
        """Return one completion a prompt, in order, without the prompt and cut before the first `stop` string.

        Any number of prompts may come in one call; the back end forms its own batches, and tells `report` how many
        more completions are done. Some of the texts may be a `CutOff`, which the length ended before a `stop` string
        or an end of the model's own, or a `Refused`, which is no completion at all.
        """
        ...


@dataclass(frozen=True)
class LanguageModelOptions:
    """How a language model is run; none of it decides what is asked of the model.

    Attributes:
        batch_size: prompts completed at once: rows of a padded batch, or requests in flight; a GPU that batches
            continuously takes as many as its memory holds. A back end without batches pays it no heed.
        dtype: `auto` (bfloat16 on CUDA, float32 elsewhere), `bfloat16`, `float16` or `float32`.
        device_map: how accelerate spreads one model over devices, e.g. `auto`; `None`: one device.
        base_url: address of an OpenAI-compatible server, e.g. `http://host:8000/v1`: one that reads its key, if any,
            as a bearer token, and whose address has no query. Azure's addresses with `?api-version=` are not meant.
    """

    batch_size: int = 64
    dtype: str = "auto"
    device_map: str | None = None
    base_url: str | None = None

    def __post_init__(self) -> None:
        """Refuse options that cannot be used (`UserInputError`)."""
        check_integer("--batch-size", self.batch_size, minimum=1, example=64)
        if self.dtype not in DTYPES:
            raise UserInputError(
                f"--dtype {self.dtype} cannot be used; allowed: {', '.join(DTYPES)}; type --dtype auto"
            )
        if self.base_url is not None and any(sign in self.base_url for sign in "@?"):
            raise UserInputError(
                "--base-url holds a user, a password or a query, which the card of the data set would show; set the "
                "key as OPENAI_API_KEY, and type the plain address http://HOST:PORT/v1"
            )
        if self.base_url is not None and not str(self.base_url).startswith(("http://", "https://")):
            raise UserInputError(
                f"--base-url {self.base_url} is no address of a server; type --base-url http://HOST:PORT/v1"
            )


LANGUAGE_MODELS: dict[str, str] = {
    "toy": "synclr_hf.toyworld.language_model:ToyLanguageModel",
    "transformers": "synclr_hf.captions.transformers_model:TransformersLanguageModel",
    "openai": "synclr_hf.captions.openai_model:OpenAIChatModel",
    "openai-completions": "synclr_hf.captions.openai_model:OpenAICompletionsModel",
}
"""Back end name -> import string, so that no room imports the toy world."""

_SERVED = ("openai", "openai-completions")


def find_language_model(spec: str, options: LanguageModelOptions | None = None) -> BackEnd:
    """Find a language model without loading it.

    Args:
        spec: `toy`; `transformers:ORG/NAME`, or just `ORG/NAME` or a folder with a saved model; `openai:MODEL` for
            the chat of an OpenAI-compatible server, `openai-completions:MODEL` for a base model there.
        options: how to run it; default: `LanguageModelOptions()`.

    Raises:
        UserInputError: none of these, or an option that this back end does not take.
    """
    back_end = find_back_end(
        spec,
        LANGUAGE_MODELS,
        model_back_end="transformers",
        what="language model",
        option="--language-model",
        served=_SERVED,
    )
    options = options or LanguageModelOptions()
    takes = back_end.takes
    for option in fields(options):
        if option.name not in (*takes, "batch_size") and getattr(options, option.name) != option.default:
            raise _not_taken(option.name, getattr(options, option.name), spec)
    return replace(back_end, options=tuple((name, getattr(options, name)) for name in takes))


def holds(text: str, stop: Sequence[str]) -> bool:
    """Whether one of the `stop` strings is in `text`."""
    return any(ending in text for ending in stop if ending)


def cut_at(text: str, stop: Sequence[str]) -> str:
    """Return `text` up to the first of the `stop` strings."""
    for ending in stop:
        text = text.partition(ending)[0] if ending else text
    return text


def _not_taken(name: str, value: object, spec: str) -> UserInputError:
    flag = f"--{name.replace('_', '-')}"
    able = [other for other, path in LANGUAGE_MODELS.items() if name in getattr(load_object(path), "takes", ())]
    forms = [f"{other}:{'MODEL' if other in _SERVED else 'ORG/NAME'}" for other in able]
    return UserInputError(
        f"{flag} is for {' and '.join(forms)}, not for '{spec}'; leave it out, or type --language-model {forms[0]} "
        f"{flag} {value}"
    )
