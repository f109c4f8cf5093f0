"""An index as it is used: rows, thumbnails and features through a memory map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from synclr_hf.data.pictures import open_picture
from synclr_hf.explorer.index.facts import FACTS_FILE, IndexFacts
from synclr_hf.explorer.index.schema import TEXT_COLUMNS

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class IndexedPicture:
    """What is known about a picture of an index.

    Attributes:
        row: its place in the index.
        caption_id: which caption it shows.
        place: which of the caption's pictures it is, counted from 0.
        caption: the caption; empty where none is known, likewise the others.
        concept: what the caption is about, or the class of a labelled picture.
        source: list that the concept is from.
        template: template that the caption was written with.
    """

    row: int
    caption_id: int
    place: int
    caption: str
    concept: str
    source: str
    template: str


class PictureIndex:
    """An opened index.

    Args:
        rows: the data set, see `index_features`.
        facts: what the index says of itself.
        name: where it was opened from, for errors and captions.
    """

    def __init__(self, rows: Dataset, facts: IndexFacts, name: str) -> None:
        from datasets import Image as ImageFeature

        self.rows = rows.cast_column("image", ImageFeature(decode=False))
        self.facts, self.name = facts, name

    def __len__(self) -> int:
        return len(self.rows)

    def picture(self, row: int) -> IndexedPicture:
        """Return what is known about the picture of a row."""
        told = self.rows.select_columns(["caption_id", "place", *TEXT_COLUMNS])[int(row)]
        return IndexedPicture(
            int(row), told["caption_id"], told["place"], **{name: told[name] or "" for name in TEXT_COLUMNS}
        )

    def thumbnail(self, row: int) -> Image.Image:
        """Return the stored picture of a row, RGB."""
        return open_picture(self.rows.select_columns(["image"])[int(row)]["image"])

    def embeddings(self, number: int = 0) -> Sequence[Tensor]:
        """Return the features of encoder `number` as pieces of (n, D) float16, in the order of the rows, unread."""
        encoder = self.facts.encoders[number]
        column = self.rows.data.column(encoder.column)
        return [torch.from_dlpack(chunk.flatten()).view(-1, encoder.width) for chunk in column.chunks]

    @cached_property
    def concepts(self) -> list[str]:
        """The concepts of the pictures, sorted, without the empty one."""
        return sorted(name for name in self.rows.unique("concept") if name)

    def rows_of_concepts(self, concepts: Sequence[str]) -> np.ndarray:
        """Return the rows of some concepts, (n,) int64, ascending."""
        import pyarrow as pa
        import pyarrow.compute as pc

        is_one = pc.is_in(self.rows.data.column("concept"), value_set=pa.array(list(concepts), pa.string()))
        return np.flatnonzero(is_one.to_numpy(zero_copy_only=False))

    def number_of(self, name: str) -> int:
        """Return the number of the encoder of that name.

        Raises:
            UserInputError: there is none.
        """
        from synclr_hf.errors import unknown_name

        names = [one.name for one in self.facts.encoders]
        if name not in names:
            raise unknown_name("encoder", name, names, f"one of those that '{self.name}' holds")
        return names.index(name)


def open_index(path_or_hub_id: str) -> PictureIndex:
    """Open an index.

    Args:
        path_or_hub_id: a folder that `synclr index` wrote, or `org/name` on the Hub.

    Raises:
        UserInputError: nothing is there, or no index.
    """
    from datasets import load_dataset

    folder = Path(path_or_hub_id).expanduser()
    facts = IndexFacts.load(folder / FACTS_FILE, str(path_or_hub_id))
    files = sorted(str(path) for path in folder.glob("data/train-*.parquet"))
    return PictureIndex(load_dataset("parquet", data_files=files, split="train"), facts, str(path_or_hub_id))
