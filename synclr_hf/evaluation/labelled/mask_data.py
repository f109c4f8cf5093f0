"""Masks of segmentation data sets: found, decoded one by one, and checked against their pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from synclr_hf.data.pictures import DECODING_ERRORS, Picture
from synclr_hf.data.progress import Progress
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.label_columns import PictureColumn, image_column, missing_column, picture_columns
from synclr_hf.evaluation.labelled.masked_images import IGNORED, MaskedImages
from synclr_hf.evaluation.labelled.stored_sets import set_fingerprint

if TYPE_CHECKING:
    from datasets import Dataset

MASK_COLUMNS = ("mask", "annotation", "segmentation_mask", "label", "labels")
NAMES_FILE = "names.json"
"""Beside the data: the class names as a list, or as an object of number -> name."""
_ORIENTATION, _TURNED = 274, (5, 6, 7, 8)
"""Tag of EXIF, and those of its values that swap width and height."""


@dataclass(frozen=True)
class MaskCode:
    """What the stored values of a mask mean.

    Attributes:
        ignored: values that count for nothing, beside `IGNORED`.
        shift: class 0 is stored as this.
    """

    ignored: tuple[int, ...] = ()
    shift: int = 0


def mask_column(dataset: Dataset, path_or_id: object, wanted: str | None = None) -> str | None:
    """Return the column of the masks, or `None` where the pictures have none.

    Args:
        dataset: the rows.
        path_or_id: their name in errors.
        wanted: the column that the user typed.

    Raises:
        UserInputError: there is no such column, or it holds neither pictures nor arrays.
    """
    if wanted is not None:
        if wanted not in dataset.column_names or not _can_be_masks(dataset, wanted):
            raise missing_column(dataset, path_or_id, wanted, "--mask-column", "masks (datasets.Image, or arrays)")
        return wanted
    pictures = picture_columns(dataset)
    found = (name for name in MASK_COLUMNS if name in dataset.column_names and _can_be_masks(dataset, name))
    return next((name for name in found if set(pictures) - {name}), None)


def mask_names(
    splits: Sequence[Dataset],
    column: str,
    path_or_id: Any,
    code: MaskCode,
    *,
    names: tuple[str, ...] | None = None,
    num_classes: int | None = None,
) -> tuple[str, ...]:
    """Return the class names: told by the feature, by `names`, by `names.json` beside the data, else numbers.

    Where nothing tells how many there are, all masks are looked through.

    Args:
        splits: the rows of each side.
        column: from `mask_column`.
        path_or_id: where they were loaded from.
        code: of the stored values.
        names: of the classes where they are known from elsewhere.
        num_classes: of a benchmark.

    Raises:
        UserInputError: `names.json` cannot be read, or there are fewer than two classes, or more than 255.
    """
    found = _names_of_feature(splits[0], column) or names or _names_beside(path_or_id)
    if found is None:
        count = num_classes if num_classes is not None else _largest_class(splits, column, path_or_id, code) + 1
        found = tuple(map(str, range(count)))
    if not 2 <= len(found) <= IGNORED:
        raise UserInputError(f"'{path_or_id}' has {len(found)} classes in its masks; allowed: 2 to {IGNORED}")
    return found


def masked_images(
    dataset: Dataset,
    column: str,
    names: tuple[str, ...],
    path_or_id: object,
    code: MaskCode,
    *,
    split: str,
    state: str = "",
    wanted_image: str | None = None,
) -> MaskedImages:
    """Turn one split into pictures with masks; nothing is decoded yet.

    Args:
        dataset: the rows.
        column: from `mask_column`.
        names: of the classes, from `mask_names`.
        path_or_id: their name in errors.
        code: of the stored values.
        split: its name, for errors.
        state: of their files, from `content_state`.
        wanted_image: the column of the pictures that the user typed.
    """
    pictured_by = image_column(dataset, path_or_id, wanted_image, but=column)
    rows = np.arange(len(dataset))
    storage = dataset.with_format("arrow")
    pictures = PictureColumn(storage, pictured_by, rows)
    masks = _Masks(PictureColumn(storage, column, rows), pictures, code, len(names), f"of '{split}' of '{path_or_id}'")
    fingerprint = set_fingerprint(dataset, state, (names, pictured_by, column, code))
    return MaskedImages(pictures, masks, names, fingerprint)


class _Masks(Sequence[np.ndarray]):
    """Masks as (H, W) uint8 class numbers, decoded and checked when they are asked for."""

    def __init__(
        self, stored: Sequence[Any], pictures: Sequence[Picture], code: MaskCode, num_classes: int, where: str
    ) -> None:
        self._stored, self._pictures, self._where = stored, pictures, where
        self._code, self._num_classes = code, num_classes

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, row: int) -> np.ndarray:
        mask = stored_mask(self._stored[row], f"row {row} {self._where}")
        try:
            height, width = _upright_shape(self._pictures[row])
        except DECODING_ERRORS:  # the picture is left out and counted elsewhere
            height, width = mask.shape
        if mask.shape != (height, width):
            raise UserInputError(
                f"the mask of row {row} {self._where} is {mask.shape[0]} x {mask.shape[1]}, its picture "
                f"{height} x {width} (height x width); needed: the same size"
            )
        classes = class_numbers(mask, self._code)
        strange = classes[(classes != IGNORED) & ((classes < 0) | (classes >= self._num_classes))]
        if strange.size:
            raise UserInputError(
                f"the mask of row {row} {self._where} holds the value {int(strange[0]) + self._code.shift}; allowed: "
                f"{self._code.shift} to {self._num_classes - 1 + self._code.shift}, and "
                f"{', '.join(map(str, sorted({*self._code.ignored, IGNORED})))} for pixels that do not count"
            )
        return classes.astype(np.uint8)


def stored_mask(value: Any, where: str) -> np.ndarray:
    """Return a mask as it is stored, (H, W) int64.

    Args:
        value: an encoded picture of one channel or with a palette (the indices count, not the colours), a colour
            picture whose channels are equal, or rows of numbers.
        where: which row, for errors.

    Raises:
        UserInputError: there is none, it cannot be read, or it is no mask.
    """
    if value is None:
        raise UserInputError(f"{where} has no mask; leave such rows out of the data set")
    if isinstance(value, list):
        mask = np.asarray(value)
    else:
        try:
            with _opened(value) as image:
                mask = np.asarray(image)
        except DECODING_ERRORS as error:
            raise UserInputError(f"the mask of {where} cannot be read ({error}); PNG is the usual format") from error
        if mask.ndim == 3 and mask.shape[2] >= 3 and (mask[..., :3] == mask[..., :1]).all():
            mask = mask[..., 0]
    if mask.ndim != 2 or mask.dtype.kind not in "iub":
        raise UserInputError(
            f"the mask of {where} has {mask.ndim} dimensions of {mask.dtype}; needed: one whole number a pixel "
            "(PNG of mode L or P)"
        )
    return mask.astype(np.int64)


def class_numbers(mask: np.ndarray, code: MaskCode) -> np.ndarray:
    """Return stored values as class numbers, `IGNORED` where they count for nothing; (H, W) int64."""
    passed_over = np.isin(mask, [*code.ignored, IGNORED])
    return np.where(passed_over, IGNORED, mask - code.shift)


def _opened(picture: Any) -> Image.Image:
    if isinstance(picture, dict):
        picture = picture["bytes"] if picture.get("bytes") is not None else picture.get("path")
    if picture is None:
        raise OSError("the row holds no picture")
    return Image.open(BytesIO(picture) if isinstance(picture, bytes) else picture)


def _upright_shape(picture: Picture) -> tuple[int, int]:
    """Return height and width of the upright picture; reads its header only."""
    image = picture if isinstance(picture, Image.Image) else _opened(picture)
    width, height = image.size
    return (width, height) if image.getexif().get(_ORIENTATION) in _TURNED else (height, width)


def _can_be_masks(dataset: Dataset, column: str) -> bool:
    from datasets import Array2D, Image, LargeList, List

    feature = dataset.features[column]
    is_table = isinstance(feature, List | LargeList) and isinstance(feature.feature, List | LargeList)
    return isinstance(feature, Image | Array2D) or is_table


def _names_of_feature(dataset: Dataset, column: str) -> tuple[str, ...] | None:
    """Return the names of a `ClassLabel` inside lists of lists."""
    from datasets import ClassLabel

    feature = dataset.features[column]
    while (inner := getattr(feature, "feature", None)) is not None:
        feature = inner
    return tuple(feature.names) if isinstance(feature, ClassLabel) else None


def _names_beside(path_or_id: Any) -> tuple[str, ...] | None:
    file = Path(path_or_id).expanduser() / NAMES_FILE
    if not file.is_file():
        return None
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        names = [told[str(number)] for number in range(len(told))] if isinstance(told, dict) else told
    except (ValueError, KeyError) as error:
        raise UserInputError(f"'{file}' cannot be read ({error}); needed: a JSON list of class names") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserInputError(f"'{file}' is no list of names; needed: a JSON list of class names")
    return tuple(names)


def _largest_class(splits: Sequence[Dataset], column: str, path_or_id: Any, code: MaskCode) -> int:
    """Look through all masks for the largest class number; -1 if there is none."""
    largest = -1
    with Progress("classes of the masks", total=sum(map(len, splits)), unit="mask") as bar:
        for split in splits:
            masks = PictureColumn(split.with_format("arrow"), column, np.arange(len(split)))
            for row in range(len(masks)):
                classes = class_numbers(stored_mask(masks[row], f"row {row} of '{path_or_id}'"), code)
                counted = classes[classes != IGNORED]
                largest = max(largest, int(counted.max()) if counted.size else -1)
                bar.update()
    return largest
