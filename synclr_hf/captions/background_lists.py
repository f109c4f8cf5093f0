"""The backgrounds stage: concepts in, a list of plausible places for each out (paper, section 3.1)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from synclr_hf.captions.places import PlaceList
from synclr_hf.captions.templates import draw_examples, pools_fingerprint, shipped_examples, write_prompt
from synclr_hf.captions.writer import Writer, WriterConfig
from synclr_hf.concepts.banks import load_concepts
from synclr_hf.concepts.concept import Concept
from synclr_hf.data.cards import CardFacts, CardSections, code, model_terms, plain
from synclr_hf.data.checks import COUNT, check_integer
from synclr_hf.data.plans import RunPlan, ShardSink
from synclr_hf.data.runs import Part
from synclr_hf.data.schemas import background_features
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.shards import Row, ShardTask
from synclr_hf.data.tally import Tally
from synclr_hf.data.workers import Report
from synclr_hf.data.writing import command_line, write_run
from synclr_hf.errors import UserInputError

MAX_DRAWS = 20
"""Lists asked for one concept; what is found by then is kept."""

EXAMPLES = "places"
"""Name of the file of examples."""

NO_PLACES = "concept_without_places"
"""Counts concepts for which no usable place came back."""

_NAMED = 20
_COLUMNS = {
    "concept": "name of the concept",
    "source": "the bank of the concept",
    "backgrounds": "places where it is plausibly seen; empty if the language model named none that can be used",
    "language_model": "what named them",
    "seed": "seed of its draws",
}


@dataclass
class BackgroundsConfig(WriterConfig):
    """Settings of the backgrounds stage; only objects among the concepts get backgrounds.

    Attributes:
        backgrounds_per_concept: places to find for a concept; fewer are kept where 20 lists name no more.
        rows_per_shard: concepts of one shard, the unit of work and of resuming.
    """

    backgrounds_per_concept: int = 50
    rows_per_shard: int = field(default=64, metadata=COUNT)

    def __post_init__(self) -> None:
        """Refuse settings that cannot be used (`UserInputError`)."""
        super().__post_init__()
        check_integer("--backgrounds-per-concept", self.backgrounds_per_concept, minimum=1, example=50)
        check_integer("--rows-per-shard", self.rows_per_shard, minimum=1, example=64)


def write_backgrounds(
    config: BackgroundsConfig, *, workers: int | None = None, part: Part | None = None, sink: ShardSink | None = None
) -> Path:
    """Write the places of all concepts, or those that are missing, and return their folder.

    Args:
        config: what to write.
        workers: number of processes; `None`: one a usable core for the toy model, one a GPU for a local model.
        part: the part of a cluster run that is to be made; `None`: all of it, and the card.
        sink: hears of every shard that is finished.

    Raises:
        UserInputError: a setting, the concepts or the folder cannot be used, or the disk is full.
        KeyboardInterrupt: stopped by the user; the message says what is kept.
    """
    writer = config.writer()
    concepts = _objects(str(config.concepts))
    plan = RunPlan(
        folder=Path(config.output_dir).expanduser(),
        stage="backgrounds",
        rows=len(concepts),
        rows_per_shard=config.rows_per_shard,
        configuration={
            **config.contents(writer.back_end, ()),
            "what --concepts holds": _fingerprint(concepts),
            "what the examples hold": pools_fingerprint({EXAMPLES: shipped_examples(EXAMPLES)}),
        },
        remarks={"command": command_line("backgrounds", config)},
        card=partial(_card_facts, config),
        describe=describe_backgrounds,
        unit="concept",
    )
    schema = background_features().arrow_schema
    maker = BackgroundMaker(config, concepts, writer)
    return write_run(plan, schema, maker, workers=workers, back_end=writer.back_end, part=part, sink=sink)


def describe_backgrounds(files: Sequence[Path], tally: Tally) -> CardSections:
    """Name the concepts for which the language model named no usable place, on the card and in the log.

    Args:
        files: the shards, in order.
        tally: what they told, added up.
    """
    import pyarrow.parquet as pq

    without: list[str] = []
    for path in files:
        rows = pq.read_table(path, columns=["concept", "backgrounds"]).to_pylist()
        without.extend(row["concept"] for row in rows if not row["backgrounds"])
    if not without:
        return CardSections({})
    count = f"{len(without):,} concept{'s' if len(without) > 1 else ''} without a usable place"
    more = f", and {len(without) - _NAMED:,} more" if len(without) > _NAMED else ""
    return CardSections(
        {"Without places": f"{count}: {', '.join(map(plain, without[:_NAMED]))}{more}."},
        notices=(f"{count}: {', '.join(without[:_NAMED])}{more}",),
    )


@dataclass
class BackgroundMaker:
    """Makes the rows of a shard: asks for lists until a concept has enough places, or was asked `MAX_DRAWS` times.

    Attributes:
        config: the stage's settings.
        concepts: one a row.
        writer: the language model.
    """

    config: BackgroundsConfig
    concepts: tuple[Concept, ...]
    writer: Writer

    def load(self) -> None:
        """Load the language model."""
        self.writer.load()

    def make(self, task: ShardTask, tally: Tally, report: Report) -> Iterator[Row]:
        """Yield the shard's rows in the order of the concepts."""
        numbers = range(task.first_row, task.first_row + task.num_rows)
        seeds = [seed_for(self.config.seed, "backgrounds", number) for number in numbers]
        lists = [PlaceList(self.concepts[number].name, self.config.backgrounds_per_concept) for number in numbers]
        pending = list(range(task.num_rows))
        with self.writer.metered(tally):
            for draw in range(MAX_DRAWS):
                drawn = self._ask([lists[row] for row in pending], [seed_for(seeds[row], draw) for row in pending])
                for row, completion in zip(pending, drawn, strict=True):
                    lists[row].add(completion)
                left = [row for row in pending if not lists[row].full]
                report(len(pending) - len(left))
                pending = left
                if not pending:
                    break
        report(len(pending))
        for found in lists:
            tally.counts.update(found.rejected)
            if rejected := found.rejected.total():
                tally.concepts[found.concept] += rejected
            if not found.places:
                tally.counts[NO_PLACES] += 1
        for number, seed, found in zip(numbers, seeds, lists, strict=True):
            yield {
                "concept": found.concept,
                "source": self.concepts[number].source,
                "backgrounds": found.places,
                "language_model": self.writer.model.name,
                "seed": seed,
            }

    def _ask(self, lists: list[PlaceList], seeds: list[int]) -> list[str]:
        pool = shipped_examples(EXAMPLES)
        prompts = [
            write_prompt(found.concept, draw_examples(pool, seed_for(seed, "examples"))).text
            for found, seed in zip(lists, seeds, strict=True)
        ]
        return self.writer.lines(prompts, seeds)


def _objects(spec: str) -> tuple[Concept, ...]:
    """Return the objects among the concepts, each name once a source."""
    unique: dict[tuple[str, str], Concept] = {}
    for concept in load_concepts(spec):
        if concept.kind == "object":
            unique.setdefault((concept.name.casefold(), concept.source), concept)
    if not unique:
        raise UserInputError(
            f"--concepts {spec} names no objects; captions of scenes and textures ask for no background; type "
            "--concepts with a list that has objects"
        )
    return tuple(unique.values())


def _fingerprint(concepts: tuple[Concept, ...]) -> str:
    """Return a checksum of what decides the rows: names and banks, not weights."""
    text = json.dumps([(concept.name, concept.source) for concept in concepts])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _card_facts(config: BackgroundsConfig) -> CardFacts:
    licence, sentence = model_terms(config.language_model, "language model")
    return CardFacts(
        title="SynCLR backgrounds",
        summary=(
            f"Places where each concept of {code(config.concepts)} is plausibly seen, named by the language model "
            f"{code(config.language_model)} from in-context prompts, in the spirit of SynCLR (arXiv 2312.17742, "
            "section 3.1). Each row is one concept with its places; `synclr captions --backgrounds` reads them."
        ),
        columns=_COLUMNS,
        terms={"Backgrounds": sentence},
        license=licence,
        settings=asdict(config),
        command=command_line("backgrounds", config),
    )
