"""An index as it is used: rows, thumbnails and features through a memory map; many threads may read at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from synclr_hf.data.pictures import open_picture
from synclr_hf.errors import UserInputError, unknown_name
from synclr_hf.explorer.index.facts import IndexFacts
from synclr_hf.explorer.index.schema import TEXT_COLUMNS, index_features

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from synclr_hf.evaluation.encoding.encoders import Encoder

NO_CAPTION = -1
"""`caption_id` of pictures that were not drawn from a caption."""
_CHECKED_ROWS = 4096
_READ_AT_ONCE = 1024


@dataclass(frozen=True)
class IndexedPicture:
    """What is known about a picture of an index.

    Attributes:
        row: its place in the index.
        caption_id: which caption it shows; `NO_CAPTION`: none.
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
        cards: name of a set (`captions`, `images`) -> its card as Markdown, as far as they are there.
        faiss_file: a prepared FAISS index of the first encoder, if there is one.

    Raises:
        UserInputError: rows and facts do not belong together, or features are not finite.
    """

    def __init__(
        self,
        rows: Dataset,
        facts: IndexFacts,
        name: str,
        cards: dict[str, str] | None = None,
        faiss_file: str | None = None,
    ) -> None:
        from datasets import Image as ImageFeature

        self.facts, self.name, self.cards, self.faiss_file = facts, name, cards or {}, faiss_file
        self._pieces: dict[int, list[Tensor]] = {}
        self._lengths: dict[int, Tensor] = {}
        self._lock = threading.Lock()
        self._check(rows)
        self.rows = rows.cast_column("image", ImageFeature(decode=False))
        self.table: pa.Table = self.rows.data.table
        """The columns, memory-mapped; `rows` has no indices between them and this."""

    def __len__(self) -> int:
        return len(self.rows)

    def picture(self, row: int) -> IndexedPicture:
        """Return what is known about the picture of a row."""
        told = {name: self._cell(name, row) for name in ("caption_id", "place", *TEXT_COLUMNS)}
        told |= {name: told[name] or "" for name in TEXT_COLUMNS}
        told["caption_id"] = NO_CAPTION if told["caption_id"] is None else told["caption_id"]
        return IndexedPicture(row=int(row), **{**told, "place": told["place"] or 0})

    def thumbnail(self, row: int) -> Image.Image:
        """Return the stored picture of a row, RGB."""
        return open_picture(self._cell("image", row))

    def embeddings(self, number: int = 0) -> Sequence[Tensor]:
        """Return the features of encoder `number` as pieces of (n, D) float16, in the order of the rows, unread."""
        if number not in self._pieces:
            encoder = self.facts.encoders[number]
            chunks = self.table.column(encoder.column).chunks
            self._pieces[number] = [
                torch.from_dlpack(chunk.flatten()).view(-1, encoder.width) for chunk in chunks if len(chunk)
            ]
        return self._pieces[number]

    def lengths(self, number: int = 0) -> Tensor:
        """Return the lengths of the stored features of encoder `number`, (N,) float32: 1 but for float16's rounding.

        Read once, then kept; 1 for zeros, which are like nothing.

        Raises:
            UserInputError: a feature is not finite or not of length one; names the row.
        """
        with self._lock:
            if number not in self._lengths:
                parts = [
                    torch.linalg.vector_norm(rows.float(), dim=1)
                    for piece in self.embeddings(number)
                    for rows in piece.split(_READ_AT_ONCE)
                ]
                lengths = torch.cat(parts) if parts else torch.zeros(0)
                _check_lengths(self, number, lengths, torch.arange(len(lengths)))
                self._lengths[number] = torch.where(lengths == 0, 1.0, lengths)
            return self._lengths[number]

    def embedding(self, row: int, number: int = 0) -> Tensor:
        """Return the feature of one row, (D,) float32."""
        column = self.table.column(self.facts.encoders[number].column)
        return torch.tensor(column.slice(row, 1).combine_chunks().flatten().to_numpy().astype(np.float32))

    @cached_property
    def concepts(self) -> list[str]:
        """The concepts of the pictures, sorted, without the empty one."""
        return self.distinct("concept")

    @cached_property
    def concept_set(self) -> frozenset[str]:
        """The same, to ask whether there is one."""
        return frozenset(self.concepts)

    @cached_property
    def has_captions(self) -> bool:
        """Whether pictures were drawn from captions, several of one caption."""
        column = self.table.column("caption_id")
        return column.null_count < len(column)

    def distinct(self, column: str) -> list[str]:
        """Return the different texts of a column, sorted, without the empty one."""
        return sorted(text for text in self.table.column(column).unique().to_pylist() if text)

    def rows_of_concepts(self, concepts: Sequence[str]) -> np.ndarray:
        """Return the rows of some concepts, (n,) int64, ascending."""
        import pyarrow as pa
        import pyarrow.compute as pc

        is_one = pc.is_in(self.table.column("concept"), value_set=pa.array(list(concepts), pa.string()))
        return np.flatnonzero(is_one.to_numpy())

    def number_of(self, name: str) -> int:
        """Return the number of the encoder of that name.

        Raises:
            UserInputError: there is none.
        """
        names = [one.name for one in self.facts.encoders]
        if name not in names:
            raise unknown_name("encoder", name, names, "one of those that the index holds")
        return names.index(name)

    def encoder_number(self, encoder: Encoder) -> int:
        """Return the number of the encoder of the index that is this one: same weights, same settings.

        Raises:
            UserInputError: there is none; the message says which models made the index.
        """
        for number, one in enumerate(self.facts.encoders):
            if one.fingerprint == encoder.fingerprint:
                return number
        raise UserInputError(self._other_model(encoder))

    def _other_model(self, encoder: Encoder) -> str:
        from synclr_hf.explorer.index.stage import shown_names

        names = ", ".join(f"'{one.name}'" for one in self.facts.encoders)
        advice = f"type synclr index --model {encoder.name} --images IMAGES --output-dir FOLDER, or give another index"
        settings, shown = encoder.settings(), shown_names([encoder.name])[0]
        for one in self.facts.encoders:
            if one.name not in (encoder.name, shown):
                continue
            differing = [name for name in settings if one.settings.get(name, settings[name]) != settings[name]]
            told = ", ".join(f"{name} {one.settings[name]} there, {settings[name]} here" for name in differing)
            what = f"other settings of '{one.name}' ({told})" if told else f"other weights of '{one.name}'"
            return f"the index '{self.name}' was made with {what}; {advice}"
        return f"the index '{self.name}' was made with {names}, not with '{shown}'; {advice}"

    def _cell(self, column: str, row: int) -> Any:
        return self.table.column(column)[int(row)].as_py()

    def _check(self, rows: Dataset) -> None:
        wanted = index_features(self.facts.encoders)
        odd = [name for name, kind in wanted.items() if name not in rows.features or rows.features[name] != kind]
        if odd or len(rows) != self.facts.num_pictures:
            told = f"column {odd[0]} is missing or of another type" if odd else f"{len(rows)} rows are there"
            raise UserInputError(
                f"the index '{self.name}' is damaged: it should have {self.facts.num_pictures} pictures seen by "
                f"{len(self.facts.encoders)} encoders, but {told}; run the command that made it again"
            )
        if rows._indices is not None:
            raise ValueError("an index is opened as it lies on the disk, without a choice of rows")


def check_finite(index: PictureIndex) -> None:
    """Refuse an index with features that are NaN, infinite or not of length one, by an even sample of its rows.

    Raises:
        UserInputError: names the row.
    """
    step = max(1, len(index) // _CHECKED_ROWS)
    for number in range(len(index.facts.encoders)):
        start = 0
        for piece in index.embeddings(number):
            places = torch.arange((-start) % step, len(piece), step)
            lengths = torch.linalg.vector_norm(piece[places].float(), dim=1)
            _check_lengths(index, number, lengths, places + start)
            start += len(piece)


def _check_lengths(index: PictureIndex, number: int, lengths: Tensor, rows: Tensor) -> None:
    """Refuse rows that are neither of length one nor zero, which is what raw pixels say of a picture of one grey."""
    bad = rows[~(((lengths - 1).abs() < 0.01) | (lengths == 0))]
    if len(bad):
        raise UserInputError(
            f"the features of '{index.facts.encoders[number].name}' in the index '{index.name}' are damaged (row "
            f"{int(bad[0])} is not of length one); run the command that made it again"
        )
