"""Pictures with several classes each, in the forms that data sets store them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.label_columns import PictureColumn, image_column, missing_column
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.evaluation.labelled.stored_sets import set_fingerprint

if TYPE_CHECKING:
    from datasets import Dataset

MULTI_LABEL_COLUMNS = ("labels", "label", "classes", "objects.category", "objects.classes", "npy")
"""Where lists of classes are looked for; `npy` in the tar files of WebDataset."""
DIFFICULT = "difficult"
"""Field beside the classes of objects: those that are marked are passed over, as the reference does."""


def multi_label_column(dataset: Dataset, path_or_id: object, wanted: str | None = None) -> str | None:
    """Return the column with several classes a picture, or `None`.

    Args:
        dataset: the rows.
        path_or_id: their name in errors.
        wanted: what the user typed: a column of lists, `COLUMN.FIELD` inside the objects of a picture, or the columns
            of all classes with commas between, one truth value a class.

    Raises:
        UserInputError: there is no column of that name.
    """
    if wanted is None:
        return next((name for name in MULTI_LABEL_COLUMNS if _is_list(_feature(dataset, name))), None)
    if "," in wanted:
        for name in wanted.split(","):
            if name not in dataset.column_names:
                raise missing_column(dataset, path_or_id, name, "--label-column", "a class")
        return wanted
    if _feature(dataset, wanted) is None:
        raise missing_column(dataset, path_or_id, wanted, "--label-column", "classes")
    return wanted if _is_list(_feature(dataset, wanted)) else None


def multi_label_names(
    splits: Sequence[Dataset],
    column: str,
    path_or_id: object,
    *,
    names: tuple[str, ...] | None = None,
    num_classes: int | None = None,
) -> tuple[str, ...]:
    """Return the class names of some splits: told by the feature, by `names`, by the stored names, else numbers.

    Args:
        splits: the rows of each side.
        column: from `multi_label_column`.
        path_or_id: their name in errors.
        names: of the classes 0..C-1 where they are known from elsewhere.
        num_classes: of a benchmark.

    Raises:
        UserInputError: fewer than two classes.
    """
    if "," in column:
        return tuple(column.split(","))
    told = _told_names(_feature(splits[0], column))
    if told and (num_classes is None or len(told) == num_classes):
        return told
    if names:
        return names
    values = [value for split in splits for value in _lists(split, column)]
    if _are_vectors(values, num_classes):
        count = len(next(value for value in values if value is not None))
    else:
        found = {value for row in values for value in row or ()} - {None}
        if all(isinstance(value, str) for value in found) and len(found) > 1:
            return tuple(sorted(found))
        numbers = [value for value in found if isinstance(value, int)]
        count = num_classes or (max(numbers) + 1 if numbers else 0)
    if count < 2:
        raise UserInputError(
            f"column '{column}' of '{path_or_id}' tells {count} classes; classification needs at least 2"
        )
    return tuple(map(str, range(count)))


def holds_vectors(splits: Sequence[Dataset], column: str, num_classes: int) -> bool:
    """Tell whether the column holds 0 and 1 for each class, from all splits: one alone may leave it open."""
    return "," in column or _are_vectors([value for split in splits for value in _lists(split, column)], num_classes)


def has_multi_labels(dataset: Dataset, column: str) -> bool:
    """Tell whether any picture has a class."""
    return any(_lists(dataset, column))


def multi_labelled_images(
    dataset: Dataset,
    column: str,
    names: tuple[str, ...],
    path_or_id: object,
    *,
    are_vectors: bool,
    state: str = "",
    wanted_image: str | None = None,
) -> LabelledImages:
    """Turn one split into pictures with multi-hot labels, (N, C) float32; rows whose labels are missing are left out.

    What is neither 0 nor 1 in a vector (NaN, or a mark for "difficult") counts as absent, and so do the objects whose
    field `difficult` is set, as in the reference (`target == 1`).

    Args:
        dataset: the rows.
        column: from `multi_label_column`.
        names: of the classes, from `multi_label_names`.
        path_or_id: their name in errors.
        are_vectors: from `holds_vectors`.
        state: of their files, from `content_state`.
        wanted_image: the column that the user typed.

    Raises:
        UserInputError: a label that names no class.
    """
    values = _lists(dataset, column)
    labels = np.zeros((len(dataset), len(names)), dtype=np.float32)
    if are_vectors:
        known = np.asarray([value is not None and len(value) == len(names) for value in values])
        for row in np.flatnonzero(known):
            labels[row] = [entry == 1 for entry in values[row]]
    else:
        known = np.asarray([value is not None for value in values])
        numbers = {name: number for number, name in enumerate(names)}
        for row in np.flatnonzero(known):
            for value in values[row]:
                number = numbers.get(value, -1) if isinstance(value, str) else value
                if not isinstance(number, int) or not 0 <= number < len(names):
                    raise UserInputError(
                        f"row {row} of '{path_or_id}' has the class {value!r} in column '{column}'; "
                        f"allowed: 0 to {len(names) - 1} or one of {', '.join(names[:5])}, ..."
                    )
                labels[row, number] = 1
    rows = np.flatnonzero(known)
    pictured_by = image_column(dataset, path_or_id, wanted_image)
    pictures = PictureColumn(dataset.with_format("arrow"), pictured_by, rows)
    fingerprint = set_fingerprint(dataset, state, (names, pictured_by, column))
    return LabelledImages(pictures, labels[rows], names, rows, fingerprint)


def _feature(dataset: Dataset, column: str) -> Any:
    """Return the feature of a column, of `COLUMN.FIELD` that of a field of its objects; `None`: not there."""
    from datasets import List

    if column in dataset.features:
        return dataset.features[column]
    outer, _, field = column.partition(".")
    objects = dataset.features.get(outer) if field else None
    if isinstance(objects, dict):  # lists of each field, as older versions of datasets store objects
        return objects.get(field)
    inner = getattr(objects, "feature", None)
    return List(inner[field]) if isinstance(inner, dict) and field in inner else None


def _is_list(feature: Any) -> bool:
    """Tell whether a feature is a list of numbers or names."""
    from datasets import ClassLabel, LargeList, List, Value

    return isinstance(feature, List | LargeList) and isinstance(feature.feature, ClassLabel | Value)


def _told_names(feature: Any) -> tuple[str, ...] | None:
    from datasets import ClassLabel

    inner = getattr(feature, "feature", None)
    return tuple(inner.names) if isinstance(inner, ClassLabel) else None


def _lists(dataset: Dataset, column: str) -> list[list[Any] | None]:
    """Return the labels of each row as stored; objects that are marked as difficult are passed over."""
    plain = dataset.with_format(None)
    if "," in column:
        return [list(row) for row in zip(*(plain[name][:] for name in column.split(",")), strict=True)]
    if column in dataset.features:
        return plain[column][:]
    outer, _, field = column.partition(".")
    return [_easy(row, field) for row in plain[outer][:]]


def _easy(objects: Any, field: str) -> list[Any] | None:
    """Return a field of the objects of one picture without the difficult ones."""
    if objects is None:
        return None
    if isinstance(objects, dict):
        marks = objects.get(DIFFICULT) or [False] * len(objects[field])
        return [value for value, mark in zip(objects[field], marks, strict=True) if not mark]
    return [one[field] for one in objects if not one.get(DIFFICULT)]


def _are_vectors(values: Sequence[list[Any] | None], num_classes: int | None) -> bool:
    """Tell vectors of 0 and 1, one entry a class, from lists of class numbers."""
    rows = [row for row in values if row is not None]
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or (length := lengths.pop()) < 2 or (num_classes is not None and length != num_classes):
        return False
    entries = {entry for row in rows for entry in row}
    if any(isinstance(entry, str) for entry in entries):
        return False
    if any(isinstance(entry, float | bool) for entry in entries):
        return True
    return entries <= {0, 1, -1, None} and any(len(set(row)) < len(row) for row in rows)
