import json
from dataclasses import replace

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from datasets.exceptions import DatasetNotFoundError
from PIL import Image as PilImage
from tiny_data_sets import classified, encoded, save

from synclr_hf.data.pictures import open_picture
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.benchmarks import BENCHMARKS
from synclr_hf.evaluation.labelled.data import load_evaluation_data
from synclr_hf.evaluation.labelled.label_columns import common_classes, label_column, labelled_images
from synclr_hf.evaluation.labelled.row_reader import RowReader
from synclr_hf.evaluation.labelled.stored_sets import is_toy_set, loading_error

AB = ClassLabel(names=["a", "b"])


@pytest.fixture(scope="module")
def three_splits(tmp_path_factory):
    """Class c stands in the test split only; other splits of odd names; a second column of classes."""
    others = {"colour": ("red", Value("string")), "weight": (0.5, Value("float32"))}
    names = Value("string")
    return save(
        tmp_path_factory.mktemp("three") / "set",
        train=classified([*"aaaaab"], names, others=others),
        validation=classified([*"ab"], names, others=others),
        test=classified([*"abcc"], names, others=others),
        extra=classified([*"bbb"], names, others=others),
    )


def test_three_splits_are_used_and_a_class_of_the_test_split_alone_is_counted(three_splits):
    data = load_evaluation_data(str(three_splits), seed=0)
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 2, 4)
    assert data.train.label_names == data.validation.label_names == ("a", "b", "c")
    assert data.test.labels.tolist() == [0, 1, 2, 2] and data.num_unseen_labels == 2
    assert (data.metric, data.benchmark, data.is_toy, data.is_whole_benchmark) == ("accuracy", None, False, False)
    assert data.name == str(three_splits)


def test_limits_keep_classes_even_and_typed_splits_and_metrics_count(three_splits):
    data = load_evaluation_data(
        str(three_splits), max_train=2, max_test=3, metric="mean_per_class_accuracy", train_split="extra"
    )
    assert data.train.labels.tolist() == [1, 1] and len(data.validation) == 2 and len(data.test) == 3
    assert data.metric == "mean_per_class_accuracy"
    assert np.bincount(load_evaluation_data(str(three_splits), max_train=2).train.labels).tolist() == [1, 1]
    data = load_evaluation_data(str(three_splits), test_split="validation")
    assert len(data.test) == 2 and data.validation is None


def test_what_cannot_be_used_is_told_in_one_line(three_splits):
    for options, told in (
        ({"train_split": "x"}, "has no split 'x'; found: train, .*; type --train-split NAME"),
        ({"train_split": "test", "test_split": "test"}, "'test' cannot be learned from and tested on"),
        ({"test_split": "train"}, "'train' of .* is what is learned from; found: train, .*type --train-split NAME"),
        (
            {"label_column": "x"},
            "no column 'x' with classes; found: image, label, colour, weight; type --label",
        ),
        ({"label_column": "weight"}, "column 'weight' of .* holds float32; needed: whole numbers or names"),
        ({"label_column": "colour"}, "has 1 class; classification needs at least 2"),
        ({"image_column": "colour"}, "no column 'colour' with pictures .*type --image-column NAME"),
        ({"mask_column": "colour"}, "no column 'colour' with masks .*type --mask-column NAME"),
        ({"metric": "f1"}, "unknown metric 'f1'; allowed: accuracy"),
        ({"metric": "mean_iou"}, "mean_iou does not fit .*one class a picture; allowed: accuracy, mean_per_class"),
        ({"max_train": 0}, "--max-train 0 leaves no pictures"),
    ):
        with pytest.raises(UserInputError, match=told):
            load_evaluation_data(str(three_splits), **options)


def test_a_copy_of_a_benchmark_needs_its_splits(tmp_path):
    copy = save(tmp_path / "copy", train=classified([0, 1], AB), other=classified([0, 1], AB))
    with pytest.raises(UserInputError, match="lacks splits of the benchmark 'pets'.*found: train, other; needed: 'tr"):
        load_evaluation_data(f"pets={copy}")
    with pytest.raises(UserInputError, match="'.*copy' has no column of masks; found: image, label"):
        load_evaluation_data(f"ade20k={copy}", test_split="other")
    with pytest.raises(UserInputError, match="map_11point does not fit .*one class a picture"):
        load_evaluation_data(f"voc2007={copy}", test_split="other")


def test_a_copy_with_a_validation_split_of_its_own_is_tested_on_the_official_pictures(three_splits, monkeypatch):
    data = load_evaluation_data(f"dtd={three_splits}")
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 2, 4)
    official = replace(BENCHMARKS["food101"], num_test=4)
    assert official.test == "validation"
    monkeypatch.setitem(BENCHMARKS, "food101", official)
    data = load_evaluation_data(f"food101={three_splits}")
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 2, 4)


def test_an_empty_split_and_one_without_labels(tmp_path):
    made = save(tmp_path / "empty", train=classified([0, 1], AB), test=classified([0], AB).select([]))
    with pytest.raises(UserInputError, match="the split 'test' of '.*empty' is empty; remove its files or fill them"):
        load_evaluation_data(str(made))
    made = save(tmp_path / "set", train=classified([0, 1, 0, 1], AB), blind=classified([-1], AB))
    with pytest.raises(UserInputError, match="no row of the test side of .* has a label; type --test-split NAME"):
        load_evaluation_data(str(made), test_split="blind")
    data = load_evaluation_data(str(made))  # one split is left: it is divided
    assert len(data.train) == 2 and len(data.test) == 2 and data.validation is None


def test_folder_of_class_folders_with_a_class_of_one_picture(tmp_path):
    for split, name in (("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dog")):
        (tmp_path / split / name).mkdir(parents=True)
        PilImage.new("RGB", (8, 8), "red" if name == "cat" else "blue").save(tmp_path / split / name / "1.png")
    data = load_evaluation_data(str(tmp_path))
    assert data.test.label_names == ("cat", "dog") and data.train.labels.tolist() == [0, 1]
    assert open_picture(data.test.pictures[1]).getpixel((0, 0)) == (0, 0, 255)


def test_numbers_of_a_benchmark_stay_what_they_are_elsewhere_they_are_sorted():
    rows = classified([3, 7, 7], Value("int64"), image="webp", label="cls")
    classes = common_classes([rows], "x", num_classes=10)
    assert classes.names == tuple("0123456789")
    assert labelled_images(rows, classes, "x").labels.tolist() == [3, 7, 7]
    assert labelled_images(rows, common_classes([rows], "x"), "x").labels.tolist() == [0, 1, 1]
    truths = classified([True, False], Value("bool"))
    assert common_classes([truths], "x").names == ("False", "True")
    other = classified([0, 1], ClassLabel(names=["b", "a"]))
    with pytest.raises(UserInputError, match="the splits of 'x' do not name the same classes"):
        common_classes([classified([0, 1], AB), other], "x")
    with pytest.raises(UserInputError, match="column 'label' of 'x' holds float64; needed: whole numbers or names"):
        label_column(classified([0.5], Value("float64")), "x")


def images_set(provenance):
    rows = [
        {"caption_id": 0, "concept": "owl", "images": [encoded("red")], "provenance": json.dumps(told)}
        for told in provenance
    ]
    features = {"caption_id": Value("int64"), "concept": Value("string"), "provenance": Value("string")}
    return Dataset.from_list(rows, features=Features({**features, "images": List(Image())}))


def test_rows_say_themselves_that_the_toy_world_drew_them():
    real, toy = {"back_end": "diffusers", "generator": "x/y"}, {"back_end": "toy", "generator": "toyworld-renderer"}
    assert not is_toy_set({"train": images_set([real])})
    assert is_toy_set({"train": images_set([real]), "test": images_set([real, toy])})
    assert is_toy_set({"train": images_set([{**real, "first_pictures": {"count": 1, **toy}}])})
    captions = {"language_model": ("toyworld-grammar", Value("string"))}
    assert is_toy_set({"train": classified([0, 1], AB, others=captions)})
    assert RowReader("x").for_rows(images_set([toy]), None).kind == "label"


def test_errors_of_datasets_say_what_to_do(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "old.py").write_text("import datasets")
    with pytest.raises(UserInputError, match="made by a loading script.*--dataset ORG/NAME@refs/convert/parquet"):
        load_evaluation_data(str(tmp_path / "old"))
    gated = DatasetNotFoundError(
        "Dataset 'a/b' is a gated dataset on the Hub. You must be authenticated to access it."
    )
    told = str(loading_error("a/b", gated, "--dataset", is_here=False))
    assert "https://huggingface.co/datasets/a/b and type hf auth login" in told and "--dataset FOLDER" in told
    assert "--dataset pets=FOLDER" in str(loading_error("a/b", gated, "--dataset", is_here=False, copy_of="pets"))
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.bin").write_bytes(b"\0")
    with pytest.raises(UserInputError, match="cannot load the folder '.*text'.*--dataset FOLDER or --dataset ORG"):
        load_evaluation_data(str(tmp_path / "text"))
