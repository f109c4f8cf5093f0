"""Labelled pictures for evaluation, from any image data set or from an images set of our own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synclr_hf.data.pictures import Picture
from synclr_hf.data.reading import read_images
from synclr_hf.data.runs import RUN_FILE
from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled_images import LabelledImages
from synclr_hf.evaluation.splits import stratified_group_split

if TYPE_CHECKING:
    from datasets import Dataset

TRAIN_SPLITS = ("train", "training")
TEST_SPLITS = ("test", "validation", "valid", "val")
NO_LABEL = -1
"""What stands in a column of class numbers where the class is not told."""
HELD_OUT_SHARE = 1 / 3
"""Share of a data set with a single split that is used for testing."""


def labelled_splits(
    path_or_id: str | Path, *, seed: int = 0, option: str = "--eval-dataset"
) -> tuple[LabelledImages, LabelledImages]:
    """Load the train and the test side of a labelled image data set.

    Two layouts are read: a picture and a class a row (`image` and `label`, a `ClassLabel`, string or integer column),
    and our own images sets (`images`, `concept`, `caption_id`), whose classes are the sorted concept names. A data set
    with a single split is divided 2/3 to 1/3 in each class, whole captions at a time.

    Args:
        path_or_id: a folder that `datasets.load_dataset` reads, or the name of a data set on the Hub.
        seed: of the division of a single split.
        option: the option that names the set, for the errors.

    Raises:
        UserInputError: nothing is there, it has no picture or label column, or fewer than two classes.
    """
    splits = _load(path_or_id, option)
    train_name = next((name for name in TRAIN_SPLITS if name in splits), None)
    test_name = next((name for name in TEST_SPLITS if name in splits and _has_labels(splits[name], path_or_id)), None)
    if train_name is not None and test_name is not None:
        names = _label_names([splits[train_name], splits[test_name]], path_or_id)
        return tuple(_labelled(splits[name], names, path_or_id) for name in (train_name, test_name))
    only = splits[train_name or test_name or next(iter(splits))]  # a test split without labels is of no use
    whole = _labelled(only, _label_names([only], path_or_id), path_or_id)
    train_rows, test_rows = stratified_group_split(
        whole.labels, whole.groups, held_out=HELD_OUT_SHARE, seed=seed_for(seed, "train and test")
    )
    if len(test_rows) == 0:
        raise UserInputError(
            f"'{path_or_id}' has one picture a class and no test split: nothing is left to test on; "
            "give a data set with a 'test' split or with two pictures a class or more"
        )
    return whole.rows(train_rows), whole.rows(test_rows)


class _Column(Sequence[Picture]):
    """The still encoded pictures of a data set, one item a picture, also where a row holds several."""

    def __init__(self, storage: Dataset, column: str, rows: np.ndarray, places: np.ndarray | None = None) -> None:
        self._storage, self._column, self._rows, self._places = storage, column, rows, places

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> Picture:
        value = self._storage[int(self._rows[place])][self._column][0].as_py()
        return value if self._places is None else value[int(self._places[place])]


def _load(path_or_id: str | Path, option: str) -> dict[str, Dataset]:
    """Load all splits with one-line errors."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

    name = str(Path(path_or_id).expanduser()) if str(path_or_id).startswith("~") else str(path_or_id)
    is_here = Path(name).exists()
    if not is_here and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise UserInputError(
            f"no data set at '{name}'; allowed: an existing folder or the name of a data set on the Hub; "
            f"type {option} FOLDER or {option} ORG/NAME"
        )
    if (Path(name) / RUN_FILE).is_file():  # made by our images stage: complete, or an error says what to type
        return {"train": read_images(name)}
    try:
        splits = dict(load_dataset(name, cache_dir=_cache_of(Path(name)) if is_here else None))
    except (OSError, ValueError, RuntimeError, DatasetNotFoundError, DatasetGenerationError) as error:
        where = "the folder" if is_here else "neither a folder here nor a data set on the Hub:"
        reason = (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0][:200]
        raise UserInputError(
            f"cannot load {where} '{name}' ({reason}); allowed: whatever datasets.load_dataset reads; "
            f"type {option} FOLDER or {option} ORG/NAME"
        ) from error
    if not any(len(split) for split in splits.values()):
        raise UserInputError(f"the data set '{name}' has no rows; give one with pictures and labels")
    return {split: rows for split, rows in splits.items() if len(rows)}


def _cache_of(folder: Path) -> str:
    """Return a cache folder for one state of a local data set.

    The cache of `datasets` takes folders of the same name, and a folder that was made anew, for the same data set
    where a card names the files.
    """
    from datasets import config

    return str(Path(config.HF_DATASETS_CACHE) / "synclr_hf" / _state_of(folder))


def _state_of(folder: Path) -> str:
    """Return a checksum of the path of a folder and of the names, sizes and times of its files."""
    digest = blake2b(str(folder.resolve()).encode(), digest_size=8)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        state = file.stat()
        digest.update(repr((str(file.relative_to(folder)), state.st_size, state.st_mtime_ns)).encode())
    return digest.hexdigest()


def _is_images_set(dataset: Dataset) -> bool:
    return {"images", "concept", "caption_id"} <= set(dataset.column_names)


def _image_column(dataset: Dataset, path_or_id: str | Path) -> str:
    from datasets import Image as ImageFeature

    found = [name for name, feature in dataset.features.items() if isinstance(feature, ImageFeature)]
    if "image" in found or len(found) == 1:
        return "image" if "image" in found else found[0]
    raise UserInputError(
        f"'{path_or_id}' has no picture column; found: {', '.join(dataset.column_names)}; "
        "needed: a column 'image' of the type datasets.Image"
    )


def _label_column(dataset: Dataset, path_or_id: str | Path) -> str:
    from datasets import ClassLabel, Value

    found = [name for name, feature in dataset.features.items() if isinstance(feature, ClassLabel)]
    feature = dataset.features.get("label")
    usable = isinstance(feature, ClassLabel) or (
        isinstance(feature, Value) and feature.dtype.startswith(("int", "uint", "string", "large_string"))
    )
    if usable or len(found) == 1:
        return "label" if usable else found[0]
    raise UserInputError(
        f"'{path_or_id}' has no label column; found: {', '.join(dataset.column_names)}; "
        "needed: a column 'label' with class numbers or names (rename it with dataset.rename_column)"
    )


def _label_values(dataset: Dataset, path_or_id: str | Path) -> list[Any]:
    """Return the label of each row as stored: a class number, a name, or None."""
    column = "concept" if _is_images_set(dataset) else _label_column(dataset, path_or_id)
    return dataset.with_format(None)[column][:]


def _has_labels(dataset: Dataset, path_or_id: str | Path) -> bool:
    """Tell whether any row has a class: test splits of challenges often hold -1 everywhere."""
    return bool(set(_label_values(dataset, path_or_id)) - {None, NO_LABEL})


def _label_names(splits: Sequence[Dataset], path_or_id: str | Path) -> tuple[str, ...]:
    """Return the class names that all splits have in common."""
    from datasets import ClassLabel

    values = {value for split in splits for value in _label_values(split, path_or_id)} - {None, NO_LABEL}
    names = tuple(str(value) for value in sorted(values))
    if not _is_images_set(splits[0]):
        feature = splits[0].features[_label_column(splits[0], path_or_id)]
        if isinstance(feature, ClassLabel):
            names = tuple(feature.names)
    if len(values) < 2:
        raise UserInputError(
            f"'{path_or_id}' has {len(values)} class; classification needs at least 2; "
            "give a data set whose 'label' column tells pictures apart"
        )
    return names


def _labelled(dataset: Dataset, names: tuple[str, ...], path_or_id: str | Path) -> LabelledImages:
    """Turn one split into pictures with class numbers; rows without a label (None or -1) are left out."""
    import pyarrow.compute as pc
    from datasets import ClassLabel

    values = _label_values(dataset, path_or_id)
    numbers = {name: number for number, name in enumerate(names)}
    folder = Path(path_or_id).expanduser()
    is_foreign = folder.is_dir() and not (folder / RUN_FILE).is_file()
    state = _state_of(folder) if is_foreign else ""  # with a card, datasets' own fingerprint sees no changed files
    fingerprint = f"{dataset._fingerprint}-{blake2b(repr((names, state)).encode(), digest_size=8).hexdigest()}"
    storage = dataset.with_format("arrow")  # pictures come as they are stored, not decoded
    if _is_images_set(dataset):
        counts = pc.list_value_length(storage[:]["images"]).to_numpy()
        counts = np.where([value is None for value in values], 0, counts)
        rows = np.repeat(np.arange(len(dataset)), counts)
        places = np.concatenate([np.arange(count) for count in counts])
        labels = np.asarray([numbers.get(value, NO_LABEL) for value in values], dtype=np.int64)[rows]
        groups = np.asarray(dataset.with_format(None)["caption_id"][:], dtype=np.int64)[rows]
        return LabelledImages(_Column(storage, "images", rows, places), labels, names, groups, fingerprint)
    column = _image_column(dataset, path_or_id)
    is_class_label = isinstance(dataset.features[_label_column(dataset, path_or_id)], ClassLabel)
    known = [
        NO_LABEL if value in (None, NO_LABEL) else int(value) if is_class_label else numbers[str(value)]
        for value in values
    ]
    rows = np.asarray([row for row, label in enumerate(known) if label >= 0], dtype=np.int64)
    labels = np.asarray([known[row] for row in rows], dtype=np.int64)
    return LabelledImages(_Column(storage, column, rows), labels, names, rows, fingerprint)
