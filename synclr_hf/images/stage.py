"""The images stage: caption rows in, image rows out."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from synclr_hf.data.cards import CardFacts, code, model_terms
from synclr_hf.data.extension import Growth
from synclr_hf.data.plans import RunPlan, ShardSink
from synclr_hf.data.reading import captions_fingerprint, read_captions
from synclr_hf.data.runs import RUN_FILE, Part, read_record
from synclr_hf.data.schemas import image_features
from synclr_hf.data.shards import Row
from synclr_hf.data.writing import command_line, write_run
from synclr_hf.images.card import describe_images
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.generators import find_image_generator
from synclr_hf.images.maker import ImageMaker

_COPIED = ("caption_id", "caption", "concept", "source")
_COLUMNS = {
    "caption_id": "id of the caption",
    "caption": "the sentence that the pictures show",
    "concept": "the concept that it is about",
    "source": "the bank of the concept",
    "images": "the pictures of this caption, positives of each other",
    "seeds": "one seed a picture",
    "guidance_scale": "w of w x conditional + (1 - w) x unconditional",
    "provenance": "JSON: what drew the pictures, and how",
}
_SCORES = {"scores": "cosine similarity of each picture with the caption"}


def write_images(
    config: ImagesConfig, *, workers: int | None = None, part: Part | None = None, sink: ShardSink | None = None
) -> Path:
    """Write the pictures, or those that are missing, and return their folder.

    Args:
        config: what to write.
        workers: number of processes; `None`: one a usable core for the toy renderer, one a GPU for a pipeline.
        part: the part of a cluster run that is to be made; `None`: all of it, and the card.
        sink: hears of every shard that is finished.

    Raises:
        UserInputError: a setting, the captions or the folder cannot be used, or the disk is full.
        KeyboardInterrupt: stopped by the user; the message says what is kept.
    """
    growth = Growth(config.extend, (_PER_CAPTION,), _FINGERPRINT, ("caption_id", "caption"))
    config = replace(config.resolved(), extend=False)
    back_end = find_image_generator(config.image_generator, config.options())
    captions = read_captions(config.captions).select_columns(list(_COPIED))
    contents = {name: value for name, value in asdict(config).items() if name not in _NOT_CONTENTS}
    plan = RunPlan(
        folder=Path(config.output_dir).expanduser(),
        stage="images",
        rows=len(captions),
        rows_per_shard=config.rows_per_shard,
        configuration={**contents, _FINGERPRINT: captions_fingerprint(config.captions, captions)},
        remarks={"command": command_line("images", config), "captions": config.captions},
        card=partial(_card_facts, config),
        describe=partial(describe_images, config=config),
        unit="picture",
        units_per_row=config.images_per_caption,
        growth=growth,
    )

    def caption_rows(rows: range) -> tuple[Row, ...]:
        columns = captions[rows.start : rows.stop]
        return tuple(
            dict(zip(_COPIED, values, strict=True)) for values in zip(*map(columns.get, _COPIED), strict=True)
        )

    maker = ImageMaker(config, back_end)
    schema = image_features(scores=config.score_model is not None).arrow_schema
    return write_run(
        plan,
        schema,
        maker,
        inputs=caption_rows,
        workers=workers,
        back_end=back_end,
        part=part,
        sink=sink,
    )


_FINGERPRINT, _PER_CAPTION = "captions_fingerprint", "images_per_caption"
_NOT_CONTENTS = ("output_dir", "captions", "rows_per_shard", "batch_size", "extend")
"""Settings that `run.json` keeps elsewhere, or that do not decide what the pictures show."""


def _card_facts(config: ImagesConfig) -> CardFacts:
    licence, sentence = model_terms(config.image_generator, "image generator")
    caption_licence, caption_sentence = _caption_terms(config.captions)
    return CardFacts(
        title="SynCLR images",
        summary=(
            f"Pictures drawn by {code(config.image_generator)} from the captions of {code(config.captions)}, "
            f"{config.images_per_caption} of each, as in SynCLR (arXiv 2312.17742, section 3.2). Each row is one "
            "caption with all its pictures: positives of each other."
        ),
        columns=_COLUMNS | (_SCORES if config.score_model else {}),
        terms={"Pictures": sentence, **_adapter_terms(config.adapter), "Captions": caption_sentence},
        license=licence if licence == caption_licence else "unknown",
        settings={name: value for name, value in asdict(config).items() if name != "extend"},
        command=command_line("images", config),
        task_categories=("image-feature-extraction",),
    )


def _adapter_terms(adapter: str | None) -> dict[str, str]:
    return {"Adapter": model_terms(adapter, "adapter")[1]} if adapter else {}


def _caption_terms(captions: str) -> tuple[str, str]:
    folder = Path(captions).expanduser()
    if (folder / RUN_FILE).is_file():
        return model_terms(read_record(folder)["configuration"]["language_model"], "language model")
    return "unknown", f"the terms of `{captions}` apply; they were not checked here"
