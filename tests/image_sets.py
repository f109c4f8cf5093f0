"""Image sets for tests of training: Parquet files that a real run of the writer left."""

import io
import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from synclr_hf.data import shards
from synclr_hf.data.cards import CardFacts
from synclr_hf.data.plans import RunPlan
from synclr_hf.data.schemas import image_features
from synclr_hf.data.writing import write_run

CONCEPTS = ("mug", "hat", "bell")


def picture(seed, size=40):
    """Smooth colours."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)


def encoded(seed, size=40):
    """A picture as a JPEG."""
    file = io.BytesIO()
    picture(seed, size).save(file, "JPEG", quality=95)
    return {"bytes": file.getvalue(), "path": None}


class PictureRows:
    """Rows with `images` pictures each; those of `broken` hold bytes that are no picture."""

    def __init__(self, images, broken):
        self.images, self.broken = images, broken

    def load(self):
        pass

    def make(self, task, tally, report):
        for number in range(task.first_row, task.first_row + task.num_rows):
            pictures = [encoded(number * self.images + k) for k in range(self.images)]
            if number in self.broken:
                pictures[-1] = {"bytes": b"no picture", "path": None}
            text = {"caption": f"Caption {number}.", "concept": CONCEPTS[number % 3], "source": "test"}
            fields = {"seeds": [1] * self.images, "guidance_scale": 2.5, "provenance": json.dumps({})}
            yield {"caption_id": number, **text, "images": pictures, **fields}


def write_images(folder, rows=40, rows_per_shard=10, rows_per_block=5, images=2, broken=()):
    """Write a finished run of the images stage, in shards of several small blocks."""
    card = CardFacts("Images", "Images.", {"images": "pictures"}, {"All": "free"}, "mit", {}, "synclr images")
    plan = RunPlan(
        Path(folder), "images", rows, rows_per_shard, {"seed": 0}, {"command": "synclr images"}, lambda: card
    )
    with patch.object(shards, "ROWS_PER_GROUP", rows_per_block):
        return write_run(plan, image_features().arrow_schema, PictureRows(images, set(broken)), workers=1)
