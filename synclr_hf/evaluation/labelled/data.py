"""Data for evaluation: benchmarks of the registry, any labelled or segmented data set, or images sets of our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError, unknown_name
from synclr_hf.evaluation.context import EvaluationData
from synclr_hf.evaluation.labelled.benchmark import METRICS, Benchmark
from synclr_hf.evaluation.labelled.benchmarks import BENCHMARKS, benchmark
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.evaluation.labelled.masked_images import MaskedImages
from synclr_hf.evaluation.labelled.row_reader import RowReader
from synclr_hf.evaluation.labelled.splits import stratified_group_split
from synclr_hf.evaluation.labelled.stored_sets import content_state, is_toy_set, load_splits

if TYPE_CHECKING:
    from datasets import Dataset

TRAIN_SPLITS = ("train", "training")
VALIDATION_SPLITS = ("validation", "valid", "val")
TEST_SPLITS = ("test", *VALIDATION_SPLITS)
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
    reader = RowReader(path_or_id, content_state(path_or_id))
    train, test, _ = _divided(reader, _sides(reader, load_splits(path_or_id, option)), seed)
    return train, test


def load_evaluation_data(
    name: str,
    *,
    seed: int = 0,
    option: str = "--dataset",
    image_column: str | None = None,
    label_column: str | None = None,
    mask_column: str | None = None,
    train_split: str | None = None,
    test_split: str | None = None,
    metric: str | None = None,
    max_train: int | None = None,
    max_test: int | None = None,
) -> EvaluationData:
    """Load a benchmark, or anybody's own labelled or segmented pictures.

    A data set with a column of masks is for segmentation, one with a class a picture or with lists of classes for
    classification. Where it brings train, validation and test splits all three are used; where it has train and
    validation only, the second is tested on; a single split is divided as `labelled_splits` says.

    Args:
        name: a benchmark (`aircraft`), a copy of one (`aircraft=FOLDER`, `aircraft=ORG/NAME`: its columns, splits and
            metric on other files), a folder, or a name on the Hub, also `ORG/NAME@REVISION`.
        seed: of the division of a single split and of the choice of pictures.
        option: the option that names it, for the errors.
        image_column: column of the pictures, where it is not found or not the wanted one.
        label_column: column of the classes: one a picture, lists, `objects.category`, or `a,b,c` for a truth value a
            class in columns of their own.
        mask_column: column of the masks.
        train_split: name of the split to learn from.
        test_split: name of the split to test on.
        metric: instead of the benchmark's or that of the kind of labels (`accuracy`, `map_11point`, `mean_iou`).
        max_train: at most so many pictures to learn from, and to choose settings on.
        max_test: at most so many pictures to test on.

    Raises:
        UserInputError: nothing there, or it cannot be used as it is; the message names what is there.
    """
    for told, limit in (("--max-train", max_train), ("--max-test", max_test)):
        if limit is not None and limit < 1:
            raise UserInputError(f"{told} {limit} leaves no pictures; allowed: 1 and more; type {told} 1000")
    if metric is not None and metric not in METRICS:
        raise unknown_name("metric", metric, METRICS, "--metric accuracy")
    known, source = _source(name, option)
    is_registered = known is not None and source == known.hub_id
    splits = load_splits(
        source,
        option,
        config_name=known.config_name if is_registered else None,
        revision=known.revision if is_registered else None,
        data_dir=known.data_dir if known and (is_registered or Path(source).exists()) else None,
        copy_of=known.name if known else None,
    )
    reader = RowReader(source, content_state(source), image=image_column, label=label_column, mask=mask_column)
    reader = reader.for_rows(next(iter(splits.values())), known)
    sides = _sides(reader, splits, known, train_split, test_split)
    train, test, validation = _divided(reader, sides, seed)
    _check_not_empty(name, train=train, test=test)
    data = EvaluationData(
        name=name,
        train=train,
        test=test,
        validation=validation,
        metric=(scored_by := _metric(metric, known, reader)),
        benchmark=known.name if known else None,
        is_toy=is_toy_set(sides),
        is_whole_benchmark=known is not None
        and scored_by == known.metric
        and _is_whole(known, train, test, validation),
        num_unseen_labels=_num_unseen(train, test),
    )
    return _limited(data, max_train, max_test, seed)


def _source(name: str, option: str) -> tuple[Benchmark | None, str]:
    """Tell which benchmark is meant, if any, and where its files are."""
    left, _, right = name.partition("=")
    is_path = bool(name) and Path(name).expanduser().exists() or any(mark in left for mark in "/\\.~")
    if name in BENCHMARKS or (right and not is_path):
        known = benchmark(left.strip(), option)
        if not right and known.hub_id is None:
            raise UserInputError(
                f"no copy of '{name}' with a train split is known ({known.split_note}); give one of your own: "
                f"type {option} {name}=FOLDER"
            )
        return known, right or str(known.hub_id)
    if not is_path:
        benchmark(name, option)  # raises: neither a benchmark, nor a folder, nor ORG/NAME
    return None, name


def _sides(
    reader: RowReader,
    splits: Mapping[str, Dataset],
    known: Benchmark | None = None,
    train_split: str | None = None,
    test_split: str | None = None,
) -> dict[str, Dataset]:
    """Choose the splits: train and test, then validation if there is one; or a single one that is to be divided."""
    where = reader.path_or_id
    for wanted, option in ((train_split, "--train-split"), (test_split, "--test-split")):
        if wanted is not None and wanted not in splits:
            raise UserInputError(f"'{where}' has no split '{wanted}'; found: {', '.join(splits)}; type {option} NAME")
    if train_split is not None and train_split == test_split:
        raise UserInputError(f"'{train_split}' cannot be learned from and tested on; type another --test-split")
    train = train_split or _first(splits, (known.train,) if known else TRAIN_SPLITS)
    if train is not None and train == test_split and len(splits) > 1:
        raise UserInputError(
            f"'{train}' of '{where}' is what is learned from; found: {', '.join(splits)}; to test on it type "
            "--train-split NAME as well"
        )
    wanted_tests = (*_also_called(known.test), "test") if known else TEST_SPLITS
    there = [split for split in wanted_tests if split in splits and split != train]
    if known is not None:  # a copy may call the test split 'test' and have made a validation split of its own
        there.sort(key=lambda split: len(splits[split]) != known.num_test)
    test = test_split or next((split for split in there if reader.is_labelled(splits[split])), None)
    if train is not None and test is not None:
        wanted = _also_called(known.validation) if known and known.validation else VALIDATION_SPLITS
        validation = _first(splits, [split for split in wanted if split not in (train, test)])
        chosen = [train, test] + ([validation] if validation and reader.is_labelled(splits[validation]) else [])
        return {split: splits[split] for split in chosen}
    if known is not None:
        raise UserInputError(
            f"'{where}' lacks splits of the benchmark '{known.name}' with pictures and labels; found: "
            f"{', '.join(splits)}; needed: '{known.train}' and '{known.test}'; type --train-split and --test-split"
        )
    only = train or test or next(iter(splits))  # a test split without labels is of no use
    return {only: splits[only]}


def _first(splits: Mapping[str, Dataset], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in splits), None)


def _also_called(split: str) -> tuple[str, ...]:
    """Return the names that a split goes by, its own first."""
    return (split, *(name for name in VALIDATION_SPLITS if split in VALIDATION_SPLITS and name != split))


def _divided(reader: RowReader, sides: Mapping[str, Dataset], seed: int) -> list[LabelledImages | MaskedImages | None]:
    """Load train, test and validation; a single split is divided in two."""
    loaded = reader.load(sides)
    if len(loaded) > 1:
        return [*loaded, None][:3]
    (whole,) = loaded
    if isinstance(whole, MaskedImages):
        labels, groups = np.zeros(len(whole), dtype=np.int64), np.arange(len(whole))
    else:
        labels, groups = whole.labels, whole.groups
    train_rows, test_rows = stratified_group_split(
        labels, groups, held_out=HELD_OUT_SHARE, seed=seed_for(seed, "train and test")
    )
    if len(test_rows) == 0:
        raise UserInputError(
            f"'{reader.path_or_id}' has one picture a class and no test split: nothing is left to test on; "
            "give a data set with a 'test' split or with two pictures a class or more"
        )
    return [whole.rows(train_rows), whole.rows(test_rows), None]


def _metric(typed: str | None, known: Benchmark | None, reader: RowReader) -> str:
    """Return the metric, checked against the kind of labels."""
    by_kind = {"label": METRICS[:2], "multi_label": METRICS[2:3], "mask": METRICS[3:]}[reader.kind]
    metric = typed or (known.metric if known else by_kind[0])
    if metric not in by_kind:
        kind = {"label": "one class a picture", "multi_label": "several classes a picture", "mask": "masks"}
        raise UserInputError(
            f"the metric {metric} does not fit '{reader.path_or_id}', which has {kind[reader.kind]}; "
            f"allowed: {', '.join(by_kind)}; type --metric {by_kind[0]}"
        )
    return metric


def _check_not_empty(name: str, **sides: LabelledImages | MaskedImages) -> None:
    for side, data in sides.items():
        if len(data) == 0:
            raise UserInputError(f"no row of the {side} side of '{name}' has a label; type --{side}-split NAME")


def _num_unseen(train: LabelledImages | MaskedImages, test: LabelledImages | MaskedImages) -> int:
    """Count the test pictures whose classes no train picture has."""
    if isinstance(train, MaskedImages) or isinstance(test, MaskedImages):
        return 0
    if train.labels.ndim == 2:
        seen = train.labels.any(axis=0)
        return int((test.labels.any(axis=1) & ~test.labels[:, seen].any(axis=1)).sum())
    return int((~np.isin(test.labels, train.labels)).sum())


def _is_whole(
    known: Benchmark,
    train: LabelledImages | MaskedImages,
    test: LabelledImages | MaskedImages,
    validation: LabelledImages | MaskedImages | None,
) -> bool:
    """Compare numbers of pictures and of classes with the registry's."""
    counts = [len(train), len(test), None if validation is None else len(validation)]
    if counts != [known.num_train, known.num_test, known.num_validation]:
        return False
    if isinstance(test, MaskedImages) or isinstance(train, MaskedImages):
        return len(test.label_names) == known.num_classes
    labels = [side.labels for side in (train, test)]
    seen = np.logical_or(*(side.any(axis=0) for side in labels)).sum() if labels[0].ndim == 2 else None
    return (len(np.unique(np.concatenate(labels))) if seen is None else int(seen)) == known.num_classes


def _limited(data: EvaluationData, max_train: int | None, max_test: int | None, seed: int) -> EvaluationData:
    """Keep at most so many pictures a side; a part of a benchmark is not the whole any more."""
    limits = {"train": max_train, "validation": max_train, "test": max_test}
    kept = {
        side: whole.at_most(limit, seed=seed_for(seed, side))
        for side, limit in limits.items()
        if limit is not None and (whole := getattr(data, side)) is not None and len(whole) > limit
    }
    if not kept:
        return data
    smaller = replace(data, **kept, is_whole_benchmark=False)
    return replace(smaller, num_unseen_labels=_num_unseen(smaller.train, smaller.test))
