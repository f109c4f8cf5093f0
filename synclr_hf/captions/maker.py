"""Makes the caption rows of a shard: draws for every slot until the filters keep one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from synclr_hf.captions.filters import CaptionFilters
from synclr_hf.captions.language_models import LanguageModel
from synclr_hf.captions.templates import Pools, Prompt, build_prompt
from synclr_hf.captions.words import normalized
from synclr_hf.concepts.concept import Concept
from synclr_hf.concepts.mixture import ConceptMixture, ConceptPrompt
from synclr_hf.data.back_ends import BackEnd
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.shards import Row, ShardTask
from synclr_hf.data.tally import Tally
from synclr_hf.data.workers import Report
from synclr_hf.errors import UserInputError

MAX_ATTEMPTS = 50
"""Draws for one slot before the run gives up: the model does not write captions."""

NO_BACKGROUND_LIST = "no_background_list"
"""Counts rows whose background template was drawn first and redrawn, because the concept lists no backgrounds."""

_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»"}


@dataclass(frozen=True)
class Sampling:
    """How the language model draws.

    Attributes:
        temperature: 0 is greedy.
        top_p: nucleus, in (0, 1].
        max_new_tokens: longest completion.
    """

    temperature: float
    top_p: float
    max_new_tokens: int


@dataclass(frozen=True)
class _Slot:
    """One draw for one row."""

    caption_id: int
    attempt: int
    seed: int
    wanted: ConceptPrompt
    prompt: Prompt


@dataclass
class CaptionMaker:
    """Makes the rows of a shard.

    Attributes:
        concepts: the bank or mixture.
        back_end: the language model, not loaded yet.
        pools: examples of the prompts.
        filters: decide what is kept.
        sampling: how the language model draws.
        seed: the run's seed.
        keep_rejects: whether rejected draws are kept beside the shard.
    """

    concepts: tuple[Concept, ...]
    back_end: BackEnd
    pools: Pools
    filters: CaptionFilters
    sampling: Sampling
    seed: int = 0
    keep_rejects: bool = False
    _model: LanguageModel | None = field(default=None, init=False, repr=False)
    _mixture: ConceptMixture | None = field(default=None, init=False, repr=False)

    def load(self) -> None:
        """Load the language model."""
        self._model = self.back_end.load()
        self._mixture = ConceptMixture(self.concepts)

    def make(self, task: ShardTask, tally: Tally, report: Report) -> Iterator[Row]:
        """Yield the shard's rows in order of their slots.

        All slots are drawn once, then those that were rejected once more, and so on; so a duplicate is always found
        in the same slot, whatever the batch size.
        """
        start, used = time.perf_counter(), self._usage()
        rows: dict[int, Row] = {}
        seen: set[str] = set()
        pending = list(range(task.first_row, task.first_row + task.num_rows))
        for attempt in range(MAX_ATTEMPTS):
            slots = [self._draw(caption_id, attempt) for caption_id in pending]
            reasons: Counter[str] = Counter()
            concepts: Counter[str] = Counter()
            pending = []
            for slot, caption in zip(slots, self._complete(slots), strict=True):
                name = slot.wanted.concept.name
                reason = self.filters.first_reason(caption, slot.prompt, name, seen)
                if reason is None:
                    seen.add(normalized(caption))
                    rows[slot.caption_id] = self._row(slot, caption)
                    if slot.wanted.without_list:
                        tally.counts[NO_BACKGROUND_LIST] += 1
                else:
                    reasons[reason] += 1
                    concepts[name] += 1
                    pending.append(slot.caption_id)
                    if self.keep_rejects:
                        tally.rejects.append({"reason": reason, "attempt": attempt, **self._row(slot, caption)})
            report(len(slots) - len(pending))
            tally.counts.update(reasons)
            tally.concepts.update(concepts)
            if not pending:
                break
        else:
            raise _give_up(self._model_name(), reasons, concepts)
        tally.cost.update({name: count - used[name] for name, count in self._usage().items()})
        tally.cost["seconds"] += time.perf_counter() - start
        yield from (rows[caption_id] for caption_id in sorted(rows))

    def _draw(self, caption_id: int, attempt: int) -> _Slot:
        assert self._mixture is not None
        seed = seed_for(self.seed, "caption", caption_id, attempt)
        wanted = self._mixture.sample(seed_for(seed, "concept"))
        return _Slot(caption_id, attempt, seed, wanted, build_prompt(wanted, seed_for(seed, "examples"), self.pools))

    def _complete(self, slots: Sequence[_Slot]) -> list[str]:
        assert self._model is not None
        completions = self._model.complete(
            [slot.prompt.text for slot in slots],
            seeds=[slot.seed for slot in slots],
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            max_new_tokens=self.sampling.max_new_tokens,
            stop=("\n",),
        )
        return [first_line(completion) for completion in completions]

    def _row(self, slot: _Slot, caption: str) -> Row:
        return {
            "caption_id": slot.caption_id,
            "caption": caption,
            "concept": slot.wanted.concept.name,
            "source": slot.wanted.concept.source,
            "template": slot.wanted.template,
            "background": slot.wanted.background,
            "relation": slot.wanted.relation,
            "language_model": self._model_name(),
            "seed": slot.seed,
        }

    def _model_name(self) -> str:
        assert self._model is not None
        return self._model.name

    def _usage(self) -> Counter[str]:
        return Counter(getattr(self._model, "usage", None) or {})


def first_line(completion: str) -> str:
    """Return the first line of a completion without space or quotes around it (paper, section 3.1)."""
    line = completion.partition("\n")[0].strip()
    if len(line) > 1 and _QUOTES.get(line[0]) == line[-1]:
        return line[1:-1].strip()
    return line


def _give_up(model: str, reasons: Counter[str], concepts: Counter[str]) -> UserInputError:
    return UserInputError(
        f"'{model}' wrote no caption that the filters keep in {MAX_ATTEMPTS} draws for {reasons.total()} rows; last "
        f"reasons: {_most(reasons)}; concepts: {_most(concepts)}; type another --language-model or --concepts, "
        f"or fewer --rows-per-shard if they are duplicates"
    )


def _most(counts: Counter[str]) -> str:
    told = ", ".join(f"{name} ({count})" for name, count in counts.most_common(5))
    return f"{told}, ..." if len(counts) > 5 else told
