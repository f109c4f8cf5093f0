"""Makes the caption rows of a shard: draws for every slot until the filters keep one."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from synclr_hf.captions.filters import CaptionFilters
from synclr_hf.captions.templates import Pools, Prompt, build_prompt
from synclr_hf.captions.words import normalized
from synclr_hf.captions.writer import Writer
from synclr_hf.concepts.concept import Concept
from synclr_hf.concepts.mixture import ConceptMixture, ConceptPrompt
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.shards import Row, ShardTask, kept_rows
from synclr_hf.data.tally import Tally
from synclr_hf.data.workers import Report
from synclr_hf.errors import UserInputError

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 50
"""Draws for one slot before the run gives up."""

TRIES_PER_CONCEPT = 5
"""Draws for one slot that ask for the same thing, each with other examples; then another concept gets its turn.

So names that a model often misses keep their share, and one that it never says does not end the run.
"""

HOPELESS_DRAWS = 128
"""Rejected draws, with none kept, after which a model is given up: it does not write captions."""

NO_BACKGROUND_LIST = "no_background_list"
"""Counts rows whose background template was drawn first and redrawn, because the concept lists no backgrounds."""


@dataclass(frozen=True)
class _Slot:
    """One draw for one row."""

    caption_id: int
    seed: int
    wanted: ConceptPrompt
    prompt: Prompt


@dataclass
class CaptionMaker:
    """Makes the rows of a shard.

    Attributes:
        concepts: the bank or mixture.
        writer: the language model.
        pools: examples of the prompts.
        filters: decide what is kept.
        seed: the run's seed.
        keep_rejects: whether rejected draws are kept beside the shard.
    """

    concepts: tuple[Concept, ...]
    writer: Writer
    pools: Pools
    filters: CaptionFilters
    seed: int = 0
    keep_rejects: bool = False
    _mixture: ConceptMixture | None = field(default=None, init=False, repr=False)

    def load(self) -> None:
        """Load the language model."""
        self.writer.load()
        self._mixture = ConceptMixture(self.concepts)

    def make(self, task: ShardTask, tally: Tally, report: Report) -> Iterator[Row]:
        """Yield the shard's rows in order of their slots.

        All slots are drawn once, then those that were rejected once more, and so on; so a duplicate is always found
        in the same slot, whatever the batch size. The rows of an earlier version of the shard stay.
        """
        rows: dict[int, Row] = {row["caption_id"]: row for row in kept_rows(task)}
        seen = {normalized(row["caption"]) for row in rows.values()}
        kept = len(rows)
        drawn, rejected = 0, ""
        pending = [slot for slot in range(task.first_row, task.first_row + task.num_rows) if slot not in rows]
        with self.writer.metered(tally):
            for attempt in range(MAX_ATTEMPTS):
                reasons: Counter[str] = Counter()
                concepts: Counter[str] = Counter()
                for slot, caption in self._drawn(pending, attempt, report):
                    name = slot.wanted.concept.name
                    reason = self.filters.first_reason(caption, slot.prompt, name, seen)
                    if reason is None:
                        seen.add(normalized(caption))
                        rows[slot.caption_id] = self._row(slot, caption)
                        if slot.wanted.without_list:
                            tally.counts[NO_BACKGROUND_LIST] += 1
                        continue
                    reasons[reason] += 1
                    concepts[name] += 1
                    rejected = caption
                    if self.keep_rejects:
                        tally.rejects.append({"reason": reason, "attempt": attempt, **self._row(slot, caption)})
                left = [caption_id for caption_id in pending if caption_id not in rows]
                report(-len(left))  # they were reported as done
                tally.counts.update(reasons)
                tally.concepts.update(concepts)
                pending = left
                if not pending:
                    break
                drawn += len(left)
                if len(rows) == kept and attempt == 1:
                    logger.warning("none of the first %d captions was kept: %s", drawn, _most(reasons))
                if len(rows) == kept and drawn >= HOPELESS_DRAWS:
                    raise _give_up(self.writer.model.name, f"{drawn} draws", reasons, concepts, rejected)
            else:
                draws = f"{MAX_ATTEMPTS} draws for each of {len(pending)} rows"
                raise _give_up(self.writer.model.name, draws, reasons, concepts, rejected)
        yield from (rows[caption_id] for caption_id in sorted(rows))

    def _drawn(self, caption_ids: list[int], attempt: int, report: Report) -> Iterator[tuple[_Slot, str]]:
        """Draw a caption for each slot, all at once."""
        slots = [self._slot(caption_id, attempt) for caption_id in caption_ids]
        captions = self.writer.lines([slot.prompt.text for slot in slots], [slot.seed for slot in slots], report)
        return zip(slots, captions, strict=True)

    def _slot(self, caption_id: int, attempt: int) -> _Slot:
        assert self._mixture is not None
        seed = seed_for(self.seed, "caption", caption_id, attempt)
        turn = attempt // TRIES_PER_CONCEPT
        wanted = self._mixture.sample(seed_for(self.seed, "concept", caption_id, turn))
        return _Slot(caption_id, seed, wanted, build_prompt(wanted, seed_for(seed, "examples"), self.pools))

    def _row(self, slot: _Slot, caption: str) -> Row:
        return {
            "caption_id": slot.caption_id,
            "caption": caption,
            "concept": slot.wanted.concept.name,
            "source": slot.wanted.concept.source,
            "template": slot.wanted.template,
            "background": slot.wanted.background,
            "relation": slot.wanted.relation,
            "language_model": self.writer.model.name,
            "seed": slot.seed,
        }


def _give_up(model: str, draws: str, reasons: Counter[str], concepts: Counter[str], rejected: str) -> UserInputError:
    """Return the error of a shard that cannot be made; its rejects are lost with it, so one is shown."""
    return UserInputError(
        f"'{model}' wrote no caption that the filters keep in {draws}; last reasons: {_most(reasons)}; concepts: "
        f"{_most(concepts)}; the last one: {rejected[:100]!r}; type another --output-dir with another "
        "--language-model or --concepts, or a higher --temperature if they are duplicates"
    )


def _most(counts: Counter[str]) -> str:
    told = ", ".join(f"{name} ({count})" for name, count in counts.most_common(5))
    return f"{told}, ..." if len(counts) > 5 else told
