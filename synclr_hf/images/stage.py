"""The images stage: caption rows in, image rows out."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from PIL.Image import Image

from synclr_hf.data.back_ends import BackEnd
from synclr_hf.data.cards import CardFacts, code, model_terms
from synclr_hf.data.checks import check_integer, check_number
from synclr_hf.data.reading import captions_fingerprint, read_captions
from synclr_hf.data.runs import RUN_FILE, Part, read_record
from synclr_hf.data.schemas import image_features
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.shards import Row, ShardTask
from synclr_hf.data.tally import Tally
from synclr_hf.data.workers import Report
from synclr_hf.data.writing import RunPlan, command_line, write_run
from synclr_hf.errors import UserInputError
from synclr_hf.images.generators import ImageGenerator, find_image_generator

MAX_IMAGES_PER_CAPTION = 1000
"""An image's id is caption_id x 1,000 + its number."""

_COPIED = ("caption_id", "caption", "concept", "source")
_COLUMNS = {
    "caption_id": "id of the caption",
    "caption": "the sentence that the pictures show",
    "concept": "the concept that it is about",
    "source": "the bank of the concept",
    "images": "the pictures of this caption, positives of each other (JPEG)",
    "seeds": "one seed a picture",
    "guidance_scale": "w of w x conditional + (1 - w) x unconditional",
    "provenance": "JSON: what drew the pictures, and how",
}


@dataclass
class ImagesConfig:
    """Settings of the images stage (defaults: paper, section 3.2).

    Attributes:
        output_dir: folder to write.
        captions: folder that the captions stage wrote, or `org/name` on the Hub.
        image_generator: `toy`, `diffusers:ORG/NAME`, `ORG/NAME`, or a folder with a saved pipeline.
        images_per_caption: pictures of one caption, at least 2: they are each other's positives.
        guidance_scale: classifier-free guidance w.
        num_inference_steps: denoising steps.
        size: side of the stored pictures, in pixels.
        rows_per_shard: captions of one shard, the unit of work and of resuming.
        seed: the run's seed; every picture's seed follows from it.
        batch_size: pictures drawn at once.
        jpeg_quality: 1 to 100.
    """

    output_dir: str
    captions: str
    image_generator: str = "toy"
    images_per_caption: int = 4
    guidance_scale: float = 2.5
    num_inference_steps: int = 50
    size: int = 256
    rows_per_shard: int = 64
    seed: int = 0
    batch_size: int = 32
    jpeg_quality: int = 95

    def __post_init__(self) -> None:
        """Refuse settings that cannot be used (`UserInputError`)."""
        self.output_dir, self.captions = str(self.output_dir), str(self.captions)
        if self.images_per_caption in (0, 1):
            raise UserInputError(
                f"--images-per-caption {self.images_per_caption} cannot be used: the pictures of one caption are each "
                "other's positives; allowed: 2 or more; type --images-per-caption 4"
            )
        check_integer(
            "--images-per-caption", self.images_per_caption, minimum=2, maximum=MAX_IMAGES_PER_CAPTION, example=4
        )
        check_number("--guidance-scale", self.guidance_scale, minimum=0, example=2.5)
        check_integer("--num-inference-steps", self.num_inference_steps, minimum=1, example=50)
        check_integer("--size", self.size, minimum=16, maximum=4096, example=256)
        check_integer("--rows-per-shard", self.rows_per_shard, minimum=1, example=64)
        check_integer("--seed", self.seed, minimum=0, example=0)
        check_integer("--batch-size", self.batch_size, minimum=1, example=32)
        check_integer("--jpeg-quality", self.jpeg_quality, minimum=1, maximum=100, example=95)


def write_images(config: ImagesConfig, *, workers: int | None = None, part: Part | None = None) -> Path:
    """Write the pictures, or those that are missing, and return their folder.

    Args:
        config: what to write.
        workers: number of processes; `None`: one a usable core for the toy renderer, one a GPU for a pipeline.
        part: the part of a cluster run that is to be made; `None`: all of it, and the card.

    Raises:
        UserInputError: a setting, the captions or the folder cannot be used, or the disk is full.
        KeyboardInterrupt: stopped by the user; the message says what is kept.
    """
    back_end = find_image_generator(config.image_generator)
    captions = read_captions(config.captions).select_columns(list(_COPIED))
    contents = {name: value for name, value in asdict(config).items() if name not in _NOT_CONTENTS}
    plan = RunPlan(
        folder=Path(config.output_dir).expanduser(),
        stage="images",
        rows=len(captions),
        rows_per_shard=config.rows_per_shard,
        configuration={**contents, "captions_fingerprint": captions_fingerprint(config.captions, captions)},
        remarks={"command": command_line("images", config), "captions": config.captions},
        card=partial(_card_facts, config),
        unit="picture",
        units_per_row=config.images_per_caption,
    )

    def caption_rows(rows: range) -> tuple[Row, ...]:
        columns = captions[rows.start : rows.stop]
        return tuple(
            dict(zip(_COPIED, values, strict=True)) for values in zip(*map(columns.get, _COPIED), strict=True)
        )

    maker = ImageMaker(config, back_end)
    schema = image_features().arrow_schema
    return write_run(
        plan,
        schema,
        maker,
        inputs=caption_rows,
        workers=workers,
        back_end=back_end,
        part=part,
    )


_NOT_CONTENTS = ("output_dir", "captions", "rows_per_shard", "batch_size")
"""Settings that `run.json` keeps elsewhere, or that do not decide what the pictures show."""


@dataclass
class ImageMaker:
    """Makes the rows of a shard: all pictures of its captions.

    Attributes:
        config: the stage's settings.
        back_end: the image generator, not loaded yet.
    """

    config: ImagesConfig
    back_end: BackEnd
    _generator: ImageGenerator | None = field(default=None, init=False, repr=False)

    def load(self) -> None:
        """Load the image generator."""
        self._generator = self.back_end.load()

    def make(self, task: ShardTask, tally: Tally, report: Report) -> Iterator[Row]:
        """Yield one row a caption, in order; nothing is rejected."""
        pictures = self._encoded_pictures(task.inputs, report)
        for row in task.inputs:
            images = list(islice(pictures, self.config.images_per_caption))
            yield {
                **row,
                "images": images,
                "seeds": self._seeds(row),
                "guidance_scale": float(self.config.guidance_scale),
                "provenance": json.dumps(self._provenance(), sort_keys=True),
            }

    def _encoded_pictures(self, rows: Sequence[Row], report: Report) -> Iterator[dict[str, Any]]:
        """Draw the pictures of all rows in batches, and yield them one by one."""
        assert self._generator is not None
        pairs = ((row["caption"], seed) for row in rows for seed in self._seeds(row))
        while batch := list(islice(pairs, self.config.batch_size)):
            pictures = self._generator.generate(
                [caption for caption, _ in batch],
                seeds=[seed for _, seed in batch],
                guidance_scale=self.config.guidance_scale,
                num_inference_steps=self.config.num_inference_steps,
                size=self.config.size,
            )
            if len(pictures) != len(batch):
                raise RuntimeError(f"the image generator drew {len(pictures)} pictures of {len(batch)}")
            report(len(batch))
            yield from ({"bytes": self._encode(picture), "path": None} for picture in pictures)

    def _encode(self, picture: Image) -> bytes:
        expected = (self.config.size, self.config.size)
        if picture.mode != "RGB" or picture.size != expected:
            raise RuntimeError(f"the image generator drew {picture.mode} {picture.size}, not RGB {expected}")
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=self.config.jpeg_quality)
        return file.getvalue()

    def _seeds(self, row: Row) -> list[int]:
        count = self.config.images_per_caption
        return [seed_for(self.config.seed, "image", row["caption_id"], number) for number in range(count)]

    def _provenance(self) -> dict[str, Any]:
        assert self._generator is not None
        return {
            **self._generator.provenance,
            "num_inference_steps": self.config.num_inference_steps,
            "size": self.config.size,
            "jpeg_quality": self.config.jpeg_quality,
        }


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
        columns=_COLUMNS,
        terms={"Pictures": sentence, "Captions": caption_sentence},
        license=licence if licence == caption_licence else "unknown",
        settings=asdict(config),
        command=command_line("images", config),
        task_categories=("image-feature-extraction",),
    )


def _caption_terms(captions: str) -> tuple[str, str]:
    folder = Path(captions).expanduser()
    if (folder / RUN_FILE).is_file():
        return model_terms(read_record(folder)["configuration"]["language_model"], "language model")
    return "unknown", f"the terms of `{captions}` apply; they were not checked here"
