"""Makes the image rows of a shard: draws the pictures of its captions and encodes them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from PIL.Image import Image, Resampling

from synclr_hf.data.back_ends import BackEnd
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.shards import Row, ShardTask, kept_rows
from synclr_hf.data.tally import Tally
from synclr_hf.data.workers import Report
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.generators import ImageGenerator


@dataclass
class ImageMaker:
    """Makes the rows of a shard: all pictures of its captions.

    Attributes:
        config: the stage's settings, resolved.
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
        kept = {row["caption_id"]: row for row in kept_rows(task)}
        wanted = [
            (row, self._seeds(row)[len(kept[row["caption_id"]]["seeds"]) if row["caption_id"] in kept else 0 :])
            for number, row in enumerate(task.inputs)
            if row["caption_id"] in kept or number >= task.kept_num_rows
        ]
        tally.dropped += task.num_rows - len(wanted)
        pictures = self._encoded_pictures(wanted, report)
        for row, seeds in wanted:
            before = kept.get(row["caption_id"], {"images": [], "seeds": []})
            if not seeds:  # the generator may not have drawn yet, and its provenance is not complete
                yield before
                continue
            yield {
                **row,
                "images": [*before["images"], *islice(pictures, len(seeds))],
                "seeds": [*before["seeds"], *seeds],
                "guidance_scale": float(self.config.guidance_scale),
                "provenance": json.dumps(self._provenance(), sort_keys=True),
            }

    def _encoded_pictures(self, rows: list[tuple[Row, list[int]]], report: Report) -> Iterator[dict[str, Any]]:
        """Draw the pictures of all rows in batches, and yield them one by one."""
        assert self._generator is not None
        pairs = [(row["caption"], seed) for row, seeds in rows for seed in seeds]
        pictures = self._generator.generate(
            [caption for caption, _ in pairs],
            seeds=[seed for _, seed in pairs],
            guidance_scale=self.config.guidance_scale,
            num_inference_steps=self.config.num_inference_steps,
            size=self.config.size,
        )
        for picture in pictures:
            report(1)
            yield {"bytes": self._encode(picture), "path": None}

    def _encode(self, picture: Image) -> bytes:
        size = self.config.size
        if picture.mode != "RGB" or min(picture.size) < size:
            raise RuntimeError(f"the image generator drew {picture.mode} {picture.size}, not RGB {(size, size)}")
        file = io.BytesIO()
        reduced(picture, size).save(file, self.config.image_format, quality=self.config.image_quality)
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
            "format": self.config.image_format,
            "quality": self.config.image_quality,
        }


def reduced(picture: Image, size: int) -> Image:
    """Return the picture as a square of `size` pixels: the middle is cut out if it is not square."""
    if picture.size == (size, size):
        return picture
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    return picture.resize((size, size), Resampling.LANCZOS, box=box)
