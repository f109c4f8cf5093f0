"""The captions stage: concepts in, caption rows out."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from synclr_hf.captions.card import CaptionFacts, describe_captions
from synclr_hf.captions.filters import MAX_TOKENS, CaptionFilters
from synclr_hf.captions.maker import CaptionMaker
from synclr_hf.captions.prompt_tokens import TokenCounter
from synclr_hf.captions.templates import load_pools, pools_fingerprint
from synclr_hf.captions.unsafe_words import UnsafeWords
from synclr_hf.captions.writer import WriterConfig
from synclr_hf.concepts.backgrounds import with_backgrounds
from synclr_hf.concepts.banks import load_bank
from synclr_hf.concepts.concept import Concept
from synclr_hf.data.cards import CardFacts, code, model_terms
from synclr_hf.data.checks import COUNT, check_integer
from synclr_hf.data.extension import Growth
from synclr_hf.data.plans import RunPlan, ShardSink
from synclr_hf.data.runs import Part
from synclr_hf.data.schemas import caption_features
from synclr_hf.data.writing import command_line, write_run

logger = logging.getLogger(__name__)

CAPTION_COLUMNS_HOLD = {
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
class CaptionsConfig(WriterConfig):
    """Settings of the captions stage (defaults: paper, section 3.1 and appendix A).

    Attributes:
        num_captions: number of captions; `1M` stands for a million, `10k` for ten thousand.
        backgrounds: places where concepts are seen: a folder or Hub id that `synclr backgrounds` wrote, a `.txt` file
            with one place a line, or the name of a list that ships, e.g. `bird`.
        examples: folder with in-context examples of your own: concept.txt, scene.txt, texture.txt, background.txt,
            relation.txt; those that are missing are the ones that ship.
        unsafe_words: file with one word or phrase a line; captions that hold one are dropped.
        max_prompt_tokens: longest caption, in tokens of the image model, special ones included.
        prompt_tokenizer: the image model's tokenizer by Hub id or folder, for exact counts; without it CLIP's count is
            estimated.
        keep_rejects: also write the rejected draws with their reasons, `rejects/*.jsonl`.
        rows_per_shard: captions of one shard, the unit of work and of resuming.
        extend: add to the captions in output_dir, up to num_captions.
    """

    num_captions: int = field(default=1000, metadata=COUNT)
    backgrounds: str | None = None
    examples: str | None = None
    unsafe_words: str | None = None
    max_prompt_tokens: int = MAX_TOKENS
    prompt_tokenizer: str | None = None
    keep_rejects: bool = False
    rows_per_shard: int = field(default=2048, metadata=COUNT)
    extend: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that cannot be used (`UserInputError`)."""
        super().__post_init__()
        for name in ("backgrounds", "examples", "unsafe_words", "prompt_tokenizer"):
            setattr(self, name, None if (value := getattr(self, name)) is None else str(value))
        check_integer("--num-captions", self.num_captions, minimum=1, example=1000)
        check_integer("--max-prompt-tokens", self.max_prompt_tokens, minimum=8, example=MAX_TOKENS)
        check_integer("--rows-per-shard", self.rows_per_shard, minimum=1, example=2048)


def write_captions(
    config: CaptionsConfig, *, workers: int | None = None, part: Part | None = None, sink: ShardSink | None = None
) -> Path:
    """Write the captions, or those that are missing, and return their folder.

    Args:
        config: what to write.
        workers: number of processes; `None`: one a usable core for the toy model, one a GPU for a local model.
        part: the part of a cluster run that is to be made; `None`: all of it, and the card.
        sink: hears of every shard that is finished.

    Raises:
        UserInputError: a setting, the concepts or the folder cannot be used, or the disk is full.
        KeyboardInterrupt: stopped by the user; the message says what is kept.
    """
    growth, config = Growth(config.extend), replace(config, extend=False)
    maker = caption_maker(config)
    writer, concepts, pools, unsafe = maker.writer, maker.concepts, maker.pools, maker.filters.unsafe
    plan = RunPlan(
        folder=Path(config.output_dir).expanduser(),
        stage="captions",
        rows=config.num_captions,
        rows_per_shard=config.rows_per_shard,
        configuration={
            **config.contents(writer.back_end, _ELSEWHERE),
            "what --concepts and --backgrounds hold": _concepts_fingerprint(concepts),
            "what --examples holds": pools_fingerprint(pools),
            **({} if unsafe == UnsafeWords() else {"what --unsafe-words holds": _fingerprint(unsafe.listed())}),
        },
        remarks={"command": command_line("captions", config)},
        card=partial(_card_facts, config),
        describe=partial(describe_captions, facts=_described(config, concepts)),
        unit="caption",
        growth=growth,
    )
    schema = caption_features().arrow_schema
    return write_run(plan, schema, maker, workers=workers, back_end=writer.back_end, part=part, sink=sink)


def caption_maker(config: CaptionsConfig) -> CaptionMaker:
    """Return what makes the rows, its language model found and not loaded yet.

    Raises:
        UserInputError: a setting or the concepts cannot be used.
    """
    writer = config.writer()
    bank = load_bank(str(config.concepts))
    for source, count in bank.dropped.items():
        names = "name is left out: it came" if count == 1 else "names are left out: they came"
        logger.warning("%s: %d %s again, or cannot be used", source, count, names)
    concepts = bank.concepts
    if config.backgrounds is not None:
        concepts = with_backgrounds(concepts, config.backgrounds)
    pools = load_pools(config.examples)
    count_tokens = TokenCounter(config.prompt_tokenizer)
    count_tokens("")  # a tokenizer that cannot be loaded is told before anything is drawn
    unsafe = UnsafeWords() if config.unsafe_words is None else UnsafeWords.read(config.unsafe_words)
    return CaptionMaker(
        concepts=concepts,
        writer=writer,
        pools=pools,
        filters=CaptionFilters(count_tokens, config.max_prompt_tokens, unsafe),
        seed=config.seed,
        keep_rejects=config.keep_rejects,
    )


_ELSEWHERE = ("num_captions", "backgrounds", "examples", "unsafe_words", "extend")
"""Settings that `run.json` keeps elsewhere or not: a number of rows, files by what they hold, and how it is run."""


def _fingerprint(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def _concepts_fingerprint(concepts: Sequence[Concept]) -> str:
    """Return a checksum of all concepts; most of them share their list of backgrounds, which is read once."""
    lists = {id(concept.backgrounds): _fingerprint(concept.backgrounds) for concept in concepts}
    return _fingerprint(
        [
            [concept.name, concept.source, concept.kind, concept.weight, lists[id(concept.backgrounds)]]
            for concept in concepts
        ]
    )


def _described(config: CaptionsConfig, concepts: Sequence[Concept]) -> CaptionFacts:
    weights: Counter[str] = Counter()
    for concept in concepts:
        weights[concept.source] += concept.weight  # type: ignore[assignment]
    total = sum(weights.values())
    return CaptionFacts(
        config.language_model,
        config.temperature,
        config.top_p,
        config.max_new_tokens,
        config.seed,
        wanted_shares={source: weight / total for source, weight in weights.items()},
        count_tokens=TokenCounter(config.prompt_tokenizer),
        max_tokens=config.max_prompt_tokens,
    )


def _card_facts(config: CaptionsConfig) -> CardFacts:
    licence, sentence = model_terms(config.language_model, "language model")
    return CardFacts(
        title="SynCLR captions",
        summary=(
            f"Captions written by the language model {code(config.language_model)} about the concepts of "
            f"{code(config.concepts)}, from in-context prompts as in SynCLR (arXiv 2312.17742, section 3.1). Each row "
            "is one caption, ready for a text-to-image model."
        ),
        columns=CAPTION_COLUMNS_HOLD,
        terms={"Captions": sentence},
        license=licence,
        settings={name: value for name, value in asdict(config).items() if name != "extend"},
        command=command_line("captions", config),
        task_categories=("text-generation",),
    )
