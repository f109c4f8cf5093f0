"""From the rows of a data set to pictures with a class each, with several, or with masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.benchmark import Benchmark
from synclr_hf.evaluation.labelled.label_columns import common_classes, has_label_column, has_labels, labelled_images
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.evaluation.labelled.mask_data import MaskCode, mask_column, mask_names, masked_images
from synclr_hf.evaluation.labelled.masked_images import MaskedImages
from synclr_hf.evaluation.labelled.multi_labels import (
    has_multi_labels,
    holds_vectors,
    multi_label_column,
    multi_label_names,
    multi_labelled_images,
)
from synclr_hf.evaluation.labelled.stored_sets import is_images_set

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class RowReader:
    """How the rows of a data set become pictures with labels or masks.

    Attributes:
        path_or_id: where they were loaded from.
        state: of their files, from `content_state`.
        kind: a class a picture, several, or masks.
        image: column of the pictures; `None`: looked for.
        label: column of the classes; `None`: looked for.
        mask: column of the masks; `None`: looked for.
        code: of the values in the masks.
        names: of the classes, where they are known from elsewhere.
        num_classes: of a benchmark.
    """

    path_or_id: str | Path
    state: str = ""
    kind: Literal["label", "multi_label", "mask"] = "label"
    image: str | None = None
    label: str | None = None
    mask: str | None = None
    code: MaskCode = MaskCode()
    names: tuple[str, ...] | None = None
    num_classes: int | None = None

    def for_rows(self, rows: Dataset, known: Benchmark | None) -> RowReader:
        """Decide by the columns what kind of data this is; a benchmark's columns come before guesses."""
        where = self.path_or_id
        if known is not None:
            there = set(rows.column_names)
            told = replace(
                self,
                image=self.image or (known.image if known.image in there else None),
                label=self.label or (known.label if known.label in there else None),
                mask=self.mask or (known.mask if known.mask in there else None),
                names=known.label_names,
                num_classes=known.num_classes,
                code=MaskCode(known.mask_ignored, known.mask_shift),
            )
            if known.metric == "mean_iou":
                return told._for_masks(rows)
            several = multi_label_column(rows, where, told.label) if known.metric == "map_11point" else None
            return replace(told, kind="multi_label", label=several) if several else told
        if is_images_set(rows):
            return self
        if self.mask is not None or (self.label is None and mask_column(rows, where) is not None):
            return self._for_masks(rows)
        if self.label is None and has_label_column(rows):
            return self
        several = multi_label_column(rows, where, self.label)
        return replace(self, kind="multi_label", label=several) if several else self

    def _for_masks(self, rows: Dataset) -> RowReader:
        column = mask_column(rows, self.path_or_id, self.mask)
        if column is None:
            raise UserInputError(
                f"'{self.path_or_id}' has no column of masks; found: {', '.join(rows.column_names)}; "
                "needed: a column 'mask' of the type datasets.Image, or type --mask-column NAME"
            )
        return replace(self, kind="mask", mask=column)

    def is_labelled(self, rows: Dataset) -> bool:
        """Tell whether any row has a class."""
        if self.kind == "label":
            return has_labels(rows, self.path_or_id, self.label)
        return self.kind == "mask" or has_multi_labels(rows, self.label)

    def load(self, sides: Mapping[str, Dataset]) -> list[LabelledImages | MaskedImages]:
        """Turn splits into pictures whose classes have the same numbers in all of them."""
        where, splits = self.path_or_id, list(sides.values())
        shared: dict[str, Any] = {"state": self.state, "wanted_image": self.image}
        if self.kind == "mask":
            told = {"names": self.names, "num_classes": self.num_classes}
            names = mask_names(splits, self.mask, where, self.code, **told)
            return [
                masked_images(rows, self.mask, names, where, self.code, split=split, **shared)
                for split, rows in sides.items()
            ]
        if self.kind == "multi_label":
            names = multi_label_names(splits, self.label, where, names=self.names, num_classes=self.num_classes)
            shared["are_vectors"] = holds_vectors(splits, self.label, len(names))
            return [multi_labelled_images(rows, self.label, names, where, **shared) for rows in splits]
        classes = common_classes(splits, where, self.label, names=self.names, num_classes=self.num_classes)
        return [labelled_images(rows, classes, where, wanted_label=self.label, **shared) for rows in splits]
