"""A language model with its sampling settings: what the makers of captions and of places ask for lines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from synclr_hf.captions.language_models import (
    CutOff,
    LanguageModel,
    LanguageModelOptions,
    Refused,
    find_language_model,
)
from synclr_hf.data.back_ends import BackEnd
from synclr_hf.data.checks import check_integer, check_number
from synclr_hf.data.tally import Tally
from synclr_hf.data.workers import Report

_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»"}


@dataclass
class WriterConfig:
    """Settings of a stage that asks a language model for lines about concepts (defaults: paper, appendix A).

    Attributes:
        output_dir: folder to write.
        concepts: a concept bank or mixture by name, a `.txt`, `.csv` or `.yaml` file, or `hub:ORG/NAME` for the class
            names of a data set. Default: `synclr`, the paper's mixture (Table 11); for the toy language model, which
            knows nothing else, `toyworld`.
        language_model: `toy`, `ORG/NAME` or a folder with a saved model; `openai:MODEL` for a chat model behind a
            server, `openai-completions:MODEL` for a base model there.
        seed: the run's seed; every draw follows from it.
        temperature: of the sampling; 0 is greedy.
        top_p: nucleus of the sampling, in (0, 1].
        max_new_tokens: longest completion.
        batch_size: prompts completed at once.
        dtype: precision of a local model: auto (bfloat16 on a GPU, float32 elsewhere), bfloat16, float16, float32.
        device_map: how a local model is spread over devices, e.g. `auto` for one that needs several GPUs.
        base_url: address of the server of `openai:MODEL`, e.g. `http://localhost:8000/v1`.
    """

    output_dir: str
    concepts: str | None = None
    language_model: str = "toy"
    seed: int = 0
    temperature: float = 0.8
    top_p: float = 0.9
    max_new_tokens: int = 100
    batch_size: int = 64
    dtype: str = "auto"
    device_map: str | None = None
    base_url: str | None = None

    def __post_init__(self) -> None:
        """Refuse settings that cannot be used (`UserInputError`)."""
        self.output_dir = str(self.output_dir)
        if self.concepts is None:
            self.concepts = "toyworld" if self.language_model == "toy" else "synclr"
        self.concepts = str(self.concepts)
        check_integer("--seed", self.seed, minimum=0, example=0)
        check_number("--temperature", self.temperature, minimum=0, example=0.8)
        check_number("--top-p", self.top_p, minimum=0, maximum=1, above_minimum=True, example=0.9)
        check_integer("--max-new-tokens", self.max_new_tokens, minimum=1, example=100)
        self.options()

    def options(self) -> LanguageModelOptions:
        """Return how the language model is run."""
        return LanguageModelOptions(self.batch_size, self.dtype, self.device_map, self.base_url)

    def writer(self) -> Writer:
        """Find the language model, without loading it."""
        back_end = find_language_model(self.language_model, self.options())
        return Writer(back_end, self.temperature, self.top_p, self.max_new_tokens)

    def contents(self, back_end: BackEnd, elsewhere: Collection[str]) -> dict[str, Any]:
        """Return the settings that decide what is written.

        Args:
            back_end: the language model; the size of batches counts for some only.
            elsewhere: settings that `run.json` keeps elsewhere, such as files by what they hold.
        """
        left_out = {"output_dir", "rows_per_shard", "device_map", "base_url", *elsewhere}
        if not back_end.batches_decide:
            left_out.add("batch_size")
        return {name: value for name, value in asdict(self).items() if name not in left_out}


def _silent(more: int) -> None:
    """Tell nobody."""


@dataclass
class Writer:
    """Completes prompts by lines; small enough to send to another process before it is loaded.

    Attributes:
        back_end: the language model, not loaded yet.
        temperature: of the sampling; 0 is greedy.
        top_p: nucleus of the sampling, in (0, 1].
        max_new_tokens: longest completion.
    """

    back_end: BackEnd
    temperature: float
    top_p: float
    max_new_tokens: int
    _model: LanguageModel | None = field(default=None, init=False, repr=False)

    def load(self) -> None:
        """Load the language model."""
        self._model = self.back_end.load()

    @property
    def model(self) -> LanguageModel:
        """The language model; it must be loaded."""
        assert self._model is not None
        return self._model

    def lines(self, prompts: Sequence[str], seeds: Sequence[int], report: Report = _silent) -> list[str]:
        """Return the first line of the completion of each prompt, in order (paper, section 3.1).

        A line may be a `CutOff` or a `Refused`, see `first_line`.

        Args:
            prompts: what to complete.
            seeds: one a prompt.
            report: is told how many more completions are done, all of them in the end.
        """
        told = 0

        def count(more: int) -> None:
            nonlocal told
            told += more
            report(more)

        completions = self.model.complete(
            prompts,
            seeds=seeds,
            temperature=self.temperature,
            top_p=self.top_p,
            max_new_tokens=self.max_new_tokens,
            stop=("\n",),
            report=count,
        )
        report(len(prompts) - told)
        return [first_line(completion) for completion in completions]

    @contextmanager
    def metered(self, tally: Tally) -> Iterator[None]:
        """Add the seconds and tokens of a block to the cost of a tally."""
        start, used = time.perf_counter(), self._usage()
        yield
        tally.cost.update({name: count - used[name] for name, count in self._usage().items()})
        tally.cost["seconds"] += time.perf_counter() - start

    def _usage(self) -> Counter[str]:
        return Counter(getattr(self._model, "usage", None) or {})


def first_line(completion: str) -> str:
    """Return the first line of a completion without space or quotes around it.

    That of a `CutOff` is one too, unless a newline ended it; a `Refused` stays as it is.
    """
    if isinstance(completion, Refused):
        return completion
    line, newline, _ = completion.partition("\n")
    line = line.strip()
    if len(line) > 1 and _QUOTES.get(line[0]) == line[-1]:
        line = line[1:-1].strip()
    return CutOff(line) if isinstance(completion, CutOff) and not newline else line
