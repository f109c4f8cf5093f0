"""The captions stage: concepts in, caption rows out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from synclr_hf.captions import filters
from synclr_hf.captions.language_models import LanguageModel, find_language_model
from synclr_hf.captions.templates import Prompt, build_prompt
from synclr_hf.concepts.banks import load_concepts
from synclr_hf.concepts.concept import Concept
from synclr_hf.concepts.mixture import ConceptMixture, ConceptPrompt
from synclr_hf.data.back_ends import BackEnd
from synclr_hf.data.cards import CardFacts, model_terms
from synclr_hf.data.checks import check_integer, check_number
from synclr_hf.data.schemas import caption_features
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.shards import Row, ShardTask
from synclr_hf.data.tally import Tally
from synclr_hf.data.workers import Report
from synclr_hf.data.writing import RunPlan, command_line, write_run
from synclr_hf.errors import UserInputError

MAX_ATTEMPTS = 50
"""Draws for one slot before the run gives up: the model does not write captions."""

_COLUMNS = {
    "caption_id": "slot of the row: shard number x rows per shard + place",
    "caption": "one sentence",
    "concept": "the concept that it is about",
    "source": "the bank of the concept",
    "template": "`concept`, `background` or `relation`",
    "background": "background asked for, or null",
    "relation": "relation asked for, or null",
    "language_model": "what wrote it",
    "seed": "seed of its draw",
}


@dataclass
class CaptionsConfig:
    """Settings of the captions stage (defaults: paper, section 3.1 and appendix A).

    Attributes:
        output_dir: folder to write.
        concepts: name of a concept bank, or path of a `.txt` or `.csv` file.
        language_model: `toy`, `transformers:ORG/NAME`, `ORG/NAME`, or a folder with a saved model.
        num_captions: number of captions.
        rows_per_shard: captions of one shard, the unit of work and of resuming.
        seed: the run's seed; every draw follows from it.
        temperature: of the sampling; 0 is greedy.
        top_p: nucleus of the sampling, in (0, 1].
        max_new_tokens: longest completion.
        batch_size: prompts completed at once.
    """

    output_dir: str
    concepts: str = "toyworld"
    language_model: str = "toy"
    num_captions: int = 1000
    rows_per_shard: int = 256
    seed: int = 0
    temperature: float = 0.8
    top_p: float = 0.9
    max_new_tokens: int = 100
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Refuse settings that cannot be used (`UserInputError`)."""
        self.output_dir = str(self.output_dir)
        self.concepts = str(self.concepts)
        check_integer("--num-captions", self.num_captions, minimum=1, example=1000)
        check_integer("--rows-per-shard", self.rows_per_shard, minimum=1, example=256)
        check_integer("--seed", self.seed, minimum=0, example=0)
        check_number("--temperature", self.temperature, minimum=0, example=0.8)
        check_number("--top-p", self.top_p, minimum=0, maximum=1, above_minimum=True, example=0.9)
        check_integer("--max-new-tokens", self.max_new_tokens, minimum=1, example=100)
        check_integer("--batch-size", self.batch_size, minimum=1, example=64)


def write_captions(config: CaptionsConfig, *, workers: int | None = None) -> Path:
    """Write the captions, or those that are missing, and return their folder.

    Args:
        config: what to write.
        workers: number of processes; `None`: one a usable core for the toy model, one for a model on a device.

    Raises:
        UserInputError: a setting, the concepts or the folder cannot be used, or the disk is full.
        KeyboardInterrupt: stopped by the user; the message says what is kept.
    """
    back_end = find_language_model(config.language_model)
    concepts = load_concepts(config.concepts)
    plan = RunPlan(
        folder=Path(config.output_dir).expanduser(),
        stage="captions",
        rows=config.num_captions,
        rows_per_shard=config.rows_per_shard,
        configuration={
            **{name: value for name, value in asdict(config).items() if name not in _NOT_CONTENTS},
            "concepts_fingerprint": _fingerprint(concepts),
        },
        remarks={"command": command_line("captions", config)},
        card=_card_facts(config),
        unit="caption",
    )
    maker = CaptionMaker(config, concepts, back_end)
    schema = caption_features().arrow_schema
    return write_run(plan, schema, maker, workers=workers, parallel=back_end.parallel_processes)


_NOT_CONTENTS = ("output_dir", "num_captions", "rows_per_shard")
"""Settings that `run.json` keeps elsewhere, or that do not decide what the captions say."""


@dataclass(frozen=True)
class _Slot:
    """One draw for one row."""

    caption_id: int
    seed: int
    wanted: ConceptPrompt
    prompt: Prompt


@dataclass
class CaptionMaker:
    """Makes the rows of a shard: draws for every slot until the filters keep one.

    Attributes:
        config: the stage's settings.
        concepts: the bank.
        back_end: the language model, not loaded yet.
    """

    config: CaptionsConfig
    concepts: tuple[Concept, ...]
    back_end: BackEnd
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
        rows: dict[int, Row] = {}
        seen: set[str] = set()
        pending = list(range(task.first_row, task.first_row + task.num_rows))
        attempt = 0
        while pending:
            rejected: Counter[str] = Counter()
            left: list[int] = []
            for batch in _batches(pending, self.config.batch_size):
                kept = len(rows)
                slots = [self._draw(caption_id, attempt) for caption_id in batch]
                for slot, caption in zip(slots, self._complete(slots), strict=True):
                    reason = filters.first_reason(caption, slot.prompt, slot.wanted.concept.name, seen)
                    if reason is None:
                        seen.add(filters.normalized(caption))
                        rows[slot.caption_id] = self._row(slot, caption)
                        tally.counts["no_background_list"] += slot.wanted.without_list
                    else:
                        rejected[reason] += 1
                        left.append(slot.caption_id)
                report(len(rows) - kept)
            tally.counts.update(rejected)
            pending, attempt = left, attempt + 1
            if pending and attempt == MAX_ATTEMPTS:
                raise _give_up(self.config, rejected)
        tally.counts += Counter()  # drop zeros
        yield from (rows[caption_id] for caption_id in sorted(rows))

    def _draw(self, caption_id: int, attempt: int) -> _Slot:
        assert self._mixture is not None
        seed = seed_for(self.config.seed, "caption", caption_id, attempt)
        wanted = self._mixture.sample(seed_for(seed, "concept"))
        return _Slot(caption_id, seed, wanted, build_prompt(wanted, seed_for(seed, "examples")))

    def _complete(self, slots: Sequence[_Slot]) -> list[str]:
        assert self._model is not None
        completions = self._model.complete(
            [slot.prompt.text for slot in slots],
            seeds=[slot.seed for slot in slots],
            temperature=self.config.temperature,
            top_p=self.config.top_p,
            max_new_tokens=self.config.max_new_tokens,
            stop=("\n",),
        )
        return [completion.partition("\n")[0].strip() for completion in completions]

    def _row(self, slot: _Slot, caption: str) -> Row:
        assert self._model is not None
        return {
            "caption_id": slot.caption_id,
            "caption": caption,
            "concept": slot.wanted.concept.name,
            "source": slot.wanted.concept.source,
            "template": slot.wanted.template,
            "background": slot.wanted.background,
            "relation": slot.wanted.relation,
            "language_model": self._model.name,
            "seed": slot.seed,
        }


def _batches(items: list[int], size: int) -> Iterator[list[int]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _give_up(config: CaptionsConfig, rejected: Counter[str]) -> UserInputError:
    reasons = ", ".join(f"{reason} ({count})" for reason, count in rejected.most_common())
    return UserInputError(
        f"'{config.language_model}' wrote no caption that the filters keep in {MAX_ATTEMPTS} draws for "
        f"{rejected.total()} rows; last reasons: {reasons}; type another --language-model or --concepts, "
        f"or fewer --rows-per-shard if they are duplicates"
    )


def _fingerprint(concepts: tuple[Concept, ...]) -> str:
    text = json.dumps([asdict(concept) for concept in concepts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _card_facts(config: CaptionsConfig) -> CardFacts:
    licence, sentence = model_terms(config.language_model, "language model")
    return CardFacts(
        title="SynCLR captions",
        summary=(
            f"Captions written by the language model `{config.language_model}` about the concepts of "
            f"`{config.concepts}`, from in-context prompts as in SynCLR (arXiv 2312.17742, section 3.1). Each row is "
            "one caption, ready for a text-to-image model."
        ),
        columns=_COLUMNS,
        terms={"Captions": sentence},
        license=licence,
        settings=asdict(config),
        command=command_line("captions", config),
        task_categories=("text-generation",),
    )
