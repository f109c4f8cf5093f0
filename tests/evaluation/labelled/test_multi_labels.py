import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as PilImage
from tiny_data_sets import classified, encoded, save

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.data import load_evaluation_data
from synclr_hf.evaluation.labelled.labelled_images import labelled_pictures
from synclr_hf.evaluation.labelled.multi_labels import (
    holds_vectors,
    multi_label_column,
    multi_label_names,
    multi_labelled_images,
)
from synclr_hf.evaluation.labelled.row_reader import RowReader
from synclr_hf.evaluation.labelled.splits import stratification_classes, stratified_group_split

EXPECTED = [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
NUMBERS = [[0, 2, 2], [1], []]


def read(rows, wanted=None, **known):
    column = multi_label_column(rows, "x", wanted)
    names = multi_label_names([rows], column, "x", **known)
    return multi_labelled_images(rows, column, names, "x", are_vectors=holds_vectors([rows], column, len(names)))


def objects(category, difficult):
    """Objects as a dict of lists, and as a list of dicts."""
    number = Value("int32")
    rows = [{"image": encoded("red"), "objects": {"category": category, "difficult": difficult}}]
    lists = Features({"image": Image(), "objects": {"category": List(number), "difficult": List(number)}})
    pairs = [{"category": each, "difficult": mark} for each, mark in zip(category, difficult, strict=True)]
    dicts = Features({"image": Image(), "objects": List({"category": number, "difficult": number})})
    yield Dataset.from_list(rows, features=lists)
    yield Dataset.from_list([{"image": encoded("red"), "objects": pairs}], features=dicts)


@pytest.mark.parametrize(
    ("values", "feature", "names"),
    [
        (NUMBERS, List(Value("int64")), ("0", "1", "2")),
        (NUMBERS, List(ClassLabel(names=["x", "y", "z"])), ("x", "y", "z")),
        ([["x", "z"], ["y"], []], List(Value("string")), ("x", "y", "z")),
        (EXPECTED, List(Value("int8")), ("0", "1", "2")),
        ([[1, -1, 1], [float("nan"), 1, 0], [0, 0, 0]], List(Value("float32")), ("0", "1", "2")),
    ],
)
def test_lists_of_classes_and_vectors_of_truth_values(values, feature, names):
    data = read(classified(values, feature, label="labels"))
    assert data.labels.dtype == np.float32 and data.labels.tolist() == EXPECTED
    assert data.label_names == names and len(data) == len(data.pictures) == 3


def test_a_column_a_class(tmp_path):
    rows = [{"image": encoded((row, 0, 0)), "x": a, "y": b, "z": c} for row, (a, b, c) in enumerate(EXPECTED)]
    made = save(
        tmp_path / "set",
        train=Dataset.from_list(
            rows * 2, features=Features({"image": Image(), **{name: Value("int64") for name in "xyz"}})
        ),
    )
    data = load_evaluation_data(str(made), label_column="x,y,z")
    assert data.metric == "map_11point" and data.train.label_names == ("x", "y", "z")
    assert len(data.train) + len(data.test) == 6 and data.train.labels.shape[1] == 3
    with pytest.raises(UserInputError, match="no column 'w' with a class; found: image, x, y, z"):
        load_evaluation_data(str(made), label_column="x,w")


def test_difficult_objects_are_passed_over_as_in_the_reference():
    for rows in objects([4, 0, 4], [0, 1, 0]):
        data = read(rows, "objects.category", num_classes=5)
        assert np.flatnonzero(data.labels[0]).tolist() == [4]
        assert multi_label_column(rows, "x") == "objects.category"


def test_bad_classes():
    rows = classified([[0, 7]], List(Value("int64")), label="labels")
    with pytest.raises(UserInputError, match="row 0 of 'x' has the class 7 in column 'labels'; allowed: 0 to 2"):
        read(rows, names=("a", "b", "c"))
    with pytest.raises(UserInputError, match="column 'labels' of 'x' tells 1 classes"):
        read(classified([[0], [0]], List(Value("int64")), label="labels"))
    with pytest.raises(UserInputError, match="no column 'objects.x' with classes; found: image, objects"):
        multi_label_column(next(objects([1], [0])), "x", "objects.x")


def test_splits_and_limits_keep_rare_classes_on_both_sides():
    labels = np.zeros((60, 4), dtype=np.float32)
    labels[:, 0] = 1  # everywhere
    labels[:40, 1] = 1
    labels[40:44, 2] = 1  # class 3 is nowhere
    assert np.bincount(stratification_classes(labels)).tolist() == [16, 40, 4]
    assert stratification_classes(np.zeros((2, 4))).tolist() == [4, 4]
    first, second = stratified_group_split(labels, np.arange(60), held_out=0.25, seed=0)
    assert labels[first].sum(axis=0).tolist() == [45, 30, 3, 0] and labels[second].sum(axis=0).tolist() == [
        15,
        10,
        1,
        0,
    ]
    data = labelled_pictures([PilImage.new("RGB", (1, 1))] * 60, labels, "abcd")
    assert data.labels.dtype == np.float32
    assert data.at_most(9, seed=0).labels.sum(axis=0).tolist() == [9, 3, 3, 0]
    assert data.rows([41, 0]).labels.tolist() == [[1, 0, 1, 0], [1, 1, 0, 0]]


def test_splits_are_read_alike_where_one_alone_would_leave_open_what_it_holds():
    numbers = List(Value("int64"))
    train, test = classified([[0, 1], [1, 1], [0, 0]], numbers), classified([[0, 1], [1, 0]], numbers)
    loaded = RowReader("x", kind="multi_label", label="label").load({"train": train, "test": test})
    assert [side.labels.tolist() for side in loaded] == [[[0, 1], [1, 1], [0, 0]], [[0, 1], [1, 0]]]
    told = classified([None, [0.0, 1.0]], List(Value("float32")))
    assert multi_label_names([told], "label", "x") == ("0", "1")
