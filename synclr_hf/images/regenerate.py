"""Makes the pictures of a row again, from the row alone, and compares them with those that are stored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from PIL import Image

from synclr_hf.data.back_ends import BackEnd
from synclr_hf.data.parquet_rows import ParquetRows
from synclr_hf.data.pictures import open_picture
from synclr_hf.data.schemas import IMAGE_COLUMNS
from synclr_hf.data.shards import Row
from synclr_hf.errors import UserInputError
from synclr_hf.images.encoding import Encoder
from synclr_hf.images.generators import ImageGeneratorOptions, find_image_generator
from synclr_hf.images.maker import FIRST_PICTURES

TOLERANCE = 1.0
"""Mean difference of two pictures, in levels of 255, up to which they are the same one. Other cards, other versions of
the libraries and other batches round differently; pictures from other seeds differ by dozens of levels."""

_MADE_WITH = ("revision", "dtype", "device")
"""What may be another one than it was; told, since it explains differences."""
_GAP = 4


@dataclass(frozen=True)
class Redrawn:
    """A picture that was made again.

    Attributes:
        seed: its seed.
        stored: bytes in the row.
        again: bytes as they come out now.
    """

    seed: int
    stored: bytes
    again: bytes

    @property
    def differences(self) -> np.ndarray:
        """Absolute difference of the decoded pictures, (H, W, 3) integers, 0 to 255."""
        stored, again = (np.asarray(open_picture(data), dtype=np.int16) for data in (self.stored, self.again))
        return np.abs(stored - again)

    @property
    def is_same(self) -> bool:
        """Whether it is the same picture, within `TOLERANCE`."""
        return self.stored == self.again or float(self.differences.mean()) <= TOLERANCE

    def told(self) -> str:
        """Return how it compares, in a few words."""
        if self.stored == self.again:
            return f"seed {self.seed}: same bytes"
        differences = self.differences
        return f"seed {self.seed}: largest difference {differences.max()}, mean {differences.mean():.2f} of 255"


@dataclass(frozen=True)
class Regeneration:
    """The pictures of one row, made again.

    Attributes:
        caption: what they show.
        pictures: in the order of the row.
        notes: what has changed since they were drawn.
    """

    caption: str
    pictures: tuple[Redrawn, ...]
    notes: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        """Whether all pictures are the same, within `TOLERANCE`."""
        return all(picture.is_same for picture in self.pictures)

    def told(self) -> str:
        """Return how the pictures compare, and what has changed, in lines."""
        differ = sum(not picture.is_same for picture in self.pictures)
        verdict = (
            f"{differ} of {len(self.pictures)} pictures are others"
            if differ
            else f"all pictures are the same, within a mean difference of {TOLERANCE:g} of 255"
        )
        pictures = (f"picture {number}, {picture.told()}" for number, picture in enumerate(self.pictures))
        return "\n".join((self.caption, *pictures, *self.notes, verdict))

    def sheet(self) -> Image.Image:
        """Return one picture: the stored ones, and below each what came out now."""
        pairs = [(open_picture(picture.stored), open_picture(picture.again)) for picture in self.pictures]
        width, height = pairs[0][0].size
        sheet = Image.new("RGB", (len(pairs) * (width + _GAP) - _GAP, 2 * height + _GAP), "white")
        for column, pair in enumerate(pairs):
            for line, picture in enumerate(pair):
                sheet.paste(picture, (column * (width + _GAP), line * (height + _GAP)))
        return sheet


def regenerate(images: str, row: int) -> Regeneration:
    """Make the pictures of a row again.

    Args:
        images: folder that the images stage wrote, or `org/name` on the Hub, of which only this row's part is read.
        row: number of the row in the set, from 0.

    Raises:
        UserInputError: no such set or row, pictures that no model here drew, or a model that is not there any more.
    """
    rows = ParquetRows(images, IMAGE_COLUMNS)
    if not 0 <= row < len(rows):
        raise UserInputError(
            f"--regenerate {row}: '{images}' has {len(rows)} rows; allowed: 0 to {len(rows) - 1}; type --regenerate 0"
        )
    found = rows[row]
    where = f"row {row} of '{images}'"
    stored = [image["bytes"] for image in found["images"]]
    sources = _sources(_provenance(found, where), len(stored))
    pictures: list[Redrawn] = []
    notes: list[str] = []
    for told, group in groupby(sources, key=lambda source: json.dumps(source, sort_keys=True)):
        part = slice(len(pictures), len(pictures) + len(list(group)))
        source = json.loads(told)
        again, now = _draw(found, found["seeds"][part], source, where)
        notes += [
            f"{what}: {source.get(what)} when they were drawn, {now.get(what)} now"
            for what in _MADE_WITH
            if source.get(what) != now.get(what)
        ]
        pictures += map(Redrawn, found["seeds"][part], stored[part], again)
    return Regeneration(found["caption"], tuple(pictures), tuple(dict.fromkeys(notes)))


def _provenance(row: Row, where: str) -> dict[str, Any]:
    try:
        provenance = json.loads(row["provenance"])
        if "generator" in provenance and "back_end" in provenance and len(row["seeds"]) == len(row["images"]):
            return dict(provenance)
    except (TypeError, ValueError):
        pass
    raise UserInputError(
        f"{where} does not say which model drew its pictures (imported pictures do not, nor those of an early version)"
        "; only pictures that synclr images drew can be made again: type the row of such a set"
    )


def _sources(provenance: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Return the provenance of each picture; an extended row may have several."""
    rest = {name: value for name, value in provenance.items() if name not in (FIRST_PICTURES, "count")}
    first = provenance.get(FIRST_PICTURES)
    if first is None:
        return [rest] * count
    return [*_sources(first, first["count"]), *[rest] * (count - first["count"])]


def _draw(row: Row, seeds: Sequence[int], source: dict[str, Any], where: str) -> tuple[list[bytes], dict[str, Any]]:
    """Return pictures as they are stored, and the provenance of the generator that drew them."""
    back_end = _back_end(source)
    try:
        generator = back_end.load()
    except UserInputError as error:
        reason = str(error).partition("; type ")[0]
        raise UserInputError(
            f"{where} cannot be made again: {reason}; put the model back where it was and run the same command again"
        ) from error
    pictures = generator.generate(
        [row["caption"]] * len(seeds),
        seeds=list(seeds),
        guidance_scale=row["guidance_scale"],
        num_inference_steps=source["num_inference_steps"],
        size=source["size"],
    )
    encoder = Encoder(source["size"], source["format"], source["quality"])
    return [encoder(picture).data for picture in pictures], generator.provenance


def _back_end(source: dict[str, Any]) -> BackEnd:
    """Return the back end as it was when the row was drawn; what its safety checker let pass needs no second look."""
    spec = "toy" if source["back_end"] == "toy" else f"{source['back_end']}:{source['generator']}"
    takes = find_image_generator(spec).takes
    names = [name for name in ("dtype", "scheduler", "adapter", "size_drawn") if name in takes and source.get(name)]
    unchecked = {"safety_checker": False} if "safety_checker" in takes else {}
    return find_image_generator(spec, ImageGeneratorOptions(**{name: source[name] for name in names}, **unchecked))
