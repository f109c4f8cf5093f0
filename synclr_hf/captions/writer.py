"""A language model with its sampling settings: what the makers of captions and of places ask for lines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from synclr_hf.captions.language_models import CutOff, LanguageModel, Refused
from synclr_hf.data.back_ends import BackEnd
from synclr_hf.data.tally import Tally
from synclr_hf.data.workers import Report

_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»"}


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
