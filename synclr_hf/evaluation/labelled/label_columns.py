"""Which columns of a data set hold pictures and classes, and what classes they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synclr_hf.data.pictures import Picture
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.evaluation.labelled.stored_sets import is_images_set, set_fingerprint

if TYPE_CHECKING:
    from datasets import Dataset

NO_LABEL = -1
"""What stands in a column of class numbers where the class is not told."""
LABEL_COLUMNS = ("label", "cls")
"""Columns that hold a class a picture; `cls` in the tar files of WebDataset."""


class PictureColumn(Sequence[Picture]):
    """The still encoded pictures of a data set, one item a picture, also where a row holds several."""

    def __init__(self, storage: Dataset, column: str, rows: np.ndarray, places: np.ndarray | None = None) -> None:
        self._storage, self._column, self._rows, self._places = storage, column, rows, places

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> Picture:
        value = self._storage[int(self._rows[place])][self._column][0].as_py()
        return value if self._places is None else value[int(self._places[place])]


def picture_columns(dataset: Dataset) -> list[str]:
    """Return the columns of the type `datasets.Image`."""
    from datasets import Image

    return [name for name, feature in dataset.features.items() if isinstance(feature, Image)]


def image_column(dataset: Dataset, path_or_id: object, wanted: str | None = None, *, but: str | None = None) -> str:
    """Return the column of the pictures.

    Args:
        dataset: the rows.
        path_or_id: their name in errors.
        wanted: the column that the user typed.
        but: a column of the same type that holds something else, the masks.

    Raises:
        UserInputError: there is none, or there are several and none is called `image`.
    """
    found = [name for name in picture_columns(dataset) if name != but]
    if wanted is not None and wanted not in found:
        raise missing_column(dataset, path_or_id, wanted, "--image-column", "pictures (datasets.Image)")
    if wanted or "image" in found or len(found) == 1:
        return wanted or ("image" if "image" in found else found[0])
    raise UserInputError(
        f"'{path_or_id}' has no picture column; found: {', '.join(dataset.column_names)}; "
        "needed: a column 'image' of the type datasets.Image, or type --image-column NAME"
    )


def label_column(dataset: Dataset, path_or_id: object, wanted: str | None = None) -> str:
    """Return the column that holds one class a picture.

    Args:
        dataset: the rows.
        path_or_id: their name in errors.
        wanted: the column that the user typed.

    Raises:
        UserInputError: there is none, or it holds no classes (fractions, lists).
    """
    from datasets import ClassLabel, Value

    if wanted is not None and wanted not in dataset.column_names:
        raise missing_column(dataset, path_or_id, wanted, "--label-column", "classes")
    names = [wanted] if wanted else [name for name in LABEL_COLUMNS if name in dataset.column_names]
    for name in names:
        if holds_classes(dataset, name):
            return name
    found = [name for name, feature in dataset.features.items() if isinstance(feature, ClassLabel)]
    if wanted is None and len(found) == 1:
        return found[0]
    for name in names:
        if isinstance(feature := dataset.features[name], Value):
            raise UserInputError(
                f"column '{name}' of '{path_or_id}' holds {feature.dtype}; needed: whole numbers or names of classes "
                "(make them with dataset.cast_column), or type --label-column NAME"
            )
    raise UserInputError(
        f"'{path_or_id}' has no label column; found: {', '.join(dataset.column_names)}; "
        "needed: a column 'label' with class numbers or names (rename it with dataset.rename_column), "
        "or type --label-column NAME"
    )


def has_label_column(dataset: Dataset) -> bool:
    """Tell whether `label_column` finds a column by itself."""
    from datasets import ClassLabel

    usual = any(name in dataset.column_names and holds_classes(dataset, name) for name in LABEL_COLUMNS)
    return usual or sum(isinstance(feature, ClassLabel) for feature in dataset.features.values()) == 1


def holds_classes(dataset: Dataset, column: str) -> bool:
    """Tell whether a column can hold one class a row: `ClassLabel`, whole numbers, truth values, names."""
    from datasets import ClassLabel, Value

    feature = dataset.features[column]
    plain = ("int", "uint", "bool", "string", "large_string")
    return isinstance(feature, ClassLabel) or (isinstance(feature, Value) and feature.dtype.startswith(plain))


def missing_column(dataset: Dataset, path_or_id: object, wanted: str, option: str, what: str) -> UserInputError:
    """Return the error for a column that is not there, or not of its kind."""
    return UserInputError(
        f"'{path_or_id}' has no column '{wanted}' with {what}; found: {', '.join(dataset.column_names)}; "
        f"type {option} NAME"
    )


def label_values(dataset: Dataset, path_or_id: object, wanted: str | None = None) -> list[Any]:
    """Return the label of each row as stored: a class number, a name, or None."""
    column = "concept" if is_images_set(dataset) else label_column(dataset, path_or_id, wanted)
    return dataset.with_format(None)[column][:]


def has_labels(dataset: Dataset, path_or_id: object, wanted: str | None = None) -> bool:
    """Tell whether any row has a class: test splits of challenges often hold -1 everywhere."""
    return bool(set(label_values(dataset, path_or_id, wanted)) - {None, NO_LABEL})


@dataclass(frozen=True)
class Classes:
    """The classes that all splits of a data set have in common.

    Attributes:
        names: of class 0..C-1.
        numbers: stored value -> class number.
    """

    names: tuple[str, ...]
    numbers: Mapping[Any, int]


def common_classes(
    splits: Sequence[Dataset],
    path_or_id: object,
    wanted: str | None = None,
    *,
    names: tuple[str, ...] | None = None,
    num_classes: int | None = None,
) -> Classes:
    """Return the classes of some splits: those of a `ClassLabel`, else every value that stands in any split, sorted.

    Whole numbers need not be 0..C-1, and a class may stand in one split only.

    Args:
        splits: the rows of each side.
        path_or_id: their name in errors.
        wanted: the column that the user typed.
        names: of the classes 0..C-1 where they are known from elsewhere.
        num_classes: how many classes a benchmark has; numbers 0..C-1 then stay what they are, also in a part of it.

    Raises:
        UserInputError: fewer than two classes, or the splits do not name the same ones.
    """
    from datasets import ClassLabel

    values = {value for split in splits for value in label_values(split, path_or_id, wanted)} - {None, NO_LABEL}
    if len(values) < 2:
        raise UserInputError(
            f"'{path_or_id}' has {len(values)} class; classification needs at least 2; "
            "give a data set whose 'label' column tells pictures apart"
        )
    if not is_images_set(splits[0]):
        features = [split.features[label_column(split, path_or_id, wanted)] for split in splits]
        named = {tuple(feature.names) if isinstance(feature, ClassLabel) else None for feature in features}
        if len(named) > 1:
            raise UserInputError(
                f"the splits of '{path_or_id}' do not name the same classes; give all splits one ClassLabel feature"
            )
        names = named.pop() or names
    count = len(names) if names else num_classes or 0
    if all(isinstance(value, int) and 0 <= value < count for value in values):
        return Classes(names or tuple(map(str, range(count))), {number: number for number in range(count)})
    values = sorted(values)
    return Classes(tuple(map(str, values)), {value: number for number, value in enumerate(values)})


def labelled_images(
    dataset: Dataset,
    classes: Classes,
    path_or_id: object,
    *,
    state: str = "",
    wanted_image: str | None = None,
    wanted_label: str | None = None,
) -> LabelledImages:
    """Turn one split into pictures with class numbers; rows without a label (None or -1) are left out.

    Args:
        dataset: the rows, or those of an images set of ours, whose pictures of one caption become a group.
        classes: from `common_classes`.
        path_or_id: their name in errors.
        state: of their files, from `content_state`.
        wanted_image: the column that the user typed.
        wanted_label: likewise.
    """
    import pyarrow.compute as pc

    values = label_values(dataset, path_or_id, wanted_label)
    known = np.asarray([classes.numbers.get(value, NO_LABEL) for value in values], dtype=np.int64)
    storage = dataset.with_format("arrow")  # pictures come as they are stored, not decoded
    if is_images_set(dataset):
        counts = np.where(known < 0, 0, pc.list_value_length(storage[:]["images"]).fill_null(0).to_numpy())
        rows = np.repeat(np.arange(len(dataset)), counts)
        places = np.concatenate([np.arange(count) for count in counts])
        pictures = PictureColumn(storage, "images", rows, places)
        groups = np.asarray(dataset.with_format(None)["caption_id"][:], dtype=np.int64)[rows]
        facts: Any = classes.names
    else:
        column = image_column(dataset, path_or_id, wanted_image)
        rows = groups = np.flatnonzero(known >= 0)
        pictures = PictureColumn(storage, column, rows)
        facts = (classes.names, column, label_column(dataset, path_or_id, wanted_label))
    fingerprint = set_fingerprint(dataset, state, facts)
    return LabelledImages(pictures, known[rows], classes.names, groups, fingerprint)
