import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as PilImage
from tiny_data_sets import classified, encoded, save

from synclr_hf.data.pictures import open_picture
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled import stored_sets
from synclr_hf.evaluation.labelled.data import labelled_splits
from synclr_hf.evaluation.labelled.labelled_images import labelled_pictures


def images_set(captions_a_concept=6, concepts=("owl", "kite", "pear")):
    rows = [
        {
            "caption_id": number,
            "caption": f"a {concept}",
            "concept": concept,
            "images": [encoded((number, k, 0)) for k in range(4)],
        }
        for number, concept in enumerate(concepts * captions_a_concept)
    ]
    features = {"caption_id": Value("int64"), "caption": Value("string"), "concept": Value("string")}
    return Dataset.from_list(rows, features=Features({**features, "images": List(Image())}))


def test_images_set_is_split_by_caption(tmp_path):
    folder = save(tmp_path / "images", train=images_set())
    train, test = labelled_splits(folder, seed=3)
    assert train.label_names == test.label_names == ("kite", "owl", "pear")
    assert len(train) == 48 and len(test) == 24
    assert not set(train.groups) & set(test.groups)
    for side in (train, test):
        for place in range(len(side)):
            red, green, _ = open_picture(side.pictures[place]).getpixel((0, 0))
            assert red == side.groups[place]  # the picture of its own caption
            assert side.label_names[side.labels[place]] == ("owl", "kite", "pear")[red % 3]
    again = labelled_splits(folder, seed=3)[1]
    assert np.array_equal(again.groups, test.groups) and again.fingerprint == test.fingerprint
    assert labelled_splits(folder, seed=4)[1].fingerprint != test.fingerprint


def test_official_splits_and_class_names_are_kept(tmp_path):
    feature = ClassLabel(names=["zebra", "ant"])
    train, test = labelled_splits(
        save(tmp_path / "set", train=classified([0, 1, 0, 1], feature), test=classified([1, 0, -1], feature))
    )
    assert train.label_names == ("zebra", "ant")
    assert train.labels.tolist() == [0, 1, 0, 1]
    assert test.labels.tolist() == [1, 0]  # -1: no label


@pytest.mark.parametrize(
    ("labels", "feature", "names"),
    [(["b", "a", "b", "a"], Value("string"), ("a", "b")), ([7, 3, 7, 3], Value("int64"), ("3", "7"))],
)
def test_names_and_numbers_as_labels(tmp_path, labels, feature, names):
    train, test = labelled_splits(save(tmp_path / "set", train=classified(labels, feature)))
    assert train.label_names == names
    assert len(train) == 2 and len(test) == 2 and set(test.labels) == {0, 1}


def test_folder_of_class_folders(tmp_path):
    for split in ("train", "test"):
        for name, colour in (("cat", "red"), ("dog", "blue")):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            PilImage.new("RGB", (8, 8), colour).save(tmp_path / "set" / split / name / "1.png")
    train, _ = labelled_splits(tmp_path / "set")
    colours = {
        train.label_names[label]: open_picture(train.pictures[row]).getpixel((0, 0))
        for row, label in enumerate(train.labels)
    }
    assert colours == {"cat": (255, 0, 0), "dog": (0, 0, 255)}


CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---
"""


def test_a_set_made_anew_and_one_of_the_same_name_are_not_mixed_up(tmp_path):
    fingerprints = []
    for folder, names in (("a/set", "ab"), ("a/set", "ba"), ("a/set", "cd"), ("b/set", "ab")):
        made = save(tmp_path / folder, train=classified([*names, *names], Value("string")))
        (made / "README.md").write_text(CARD)
        train, _ = labelled_splits(made)
        assert train.label_names == tuple(sorted(names))
        fingerprints.append(train.fingerprint)
    assert len(set(fingerprints)) == 3 and fingerprints[3] == fingerprints[0]  # the same pictures in another place
    assert labelled_splits(tmp_path / "b/set")[0].fingerprint == fingerprints[-1]


def test_one_line_errors(tmp_path):
    with pytest.raises(UserInputError, match="no data set at '/nowhere/at/all'.*--eval-dataset FOLDER"):
        labelled_splits("/nowhere/at/all")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserInputError, match="cannot load the folder"):
        labelled_splits(tmp_path / "empty")
    one = classified([0, 0], ClassLabel(names=["a", "b"]))
    with pytest.raises(UserInputError, match="has 1 class; classification needs at least 2"):
        labelled_splits(save(tmp_path / "one", train=one))
    with pytest.raises(UserInputError, match="no label column; found: image; needed"):
        labelled_splits(save(tmp_path / "bare", train=one.remove_columns("label")))
    blind = Dataset.from_dict({"label": ["a", "b"]})
    with pytest.raises(UserInputError, match="no picture column; found: label; needed"):
        labelled_splits(save(tmp_path / "blind", train=blind))


def test_a_test_split_without_labels_gives_way_to_the_validation_split(tmp_path):
    names = ClassLabel(names=["a", "b"])
    splits = {
        "train": classified([0, 1, 0, -1], names),
        "test": classified([-1, -1], names),
        "validation": classified([1, 0], names),
    }
    train, test = labelled_splits(save(tmp_path / "challenge", **splits))
    assert train.labels.tolist() == [0, 1, 0] and test.labels.tolist() == [1, 0]
    numbers = classified([3, 7, -1, 3, 7, 3], Value("int64"))
    train, test = labelled_splits(save(tmp_path / "numbers", train=numbers))
    assert train.label_names == ("3", "7") and len(train) + len(test) == 5


def test_at_most_keeps_classes_even():
    data = labelled_pictures([PilImage.new("RGB", (1, 1))] * 100, [0] * 80 + [1] * 15 + [2] * 5, ["a", "b", "c"])
    assert np.bincount(data.at_most(15, seed=0).labels).tolist() == [5, 5, 5]
    assert np.bincount(data.at_most(30, seed=0).labels).sum() == 30
    assert data.at_most(100, seed=0) is data
    assert data.at_most(15, seed=0).fingerprint != data.at_most(15, seed=1).fingerprint


@pytest.mark.parametrize("limits", [{}, {"_READ_WHOLE": 0, "_ENDS": 4}, {"_MOST_FILES": 0}])
def test_the_checksum_of_a_folder_is_that_of_what_it_holds(tmp_path, monkeypatch, limits):
    """Small folders are read whole, large ones at the ends of their files, very many files by name and size."""
    for name, value in limits.items():
        monkeypatch.setattr(stored_sets, name, value)
    states = {}
    for name, folder, file, contents in (
        ("first", "here/set", "a.bin", b"0123456789"),
        ("elsewhere", "there/copy", "a.bin", b"0123456789"),
        ("renamed", "renamed", "b.bin", b"0123456789"),
        ("longer", "longer", "a.bin", b"01234567890"),
        ("other end", "end", "a.bin", b"012345678_"),
        ("other middle", "middle", "a.bin", b"01234_6789"),
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / file).write_bytes(contents)
        (tmp_path / folder / ".hidden").write_text(name)
        states[name] = stored_sets.content_state(tmp_path / folder)
    assert states["elsewhere"] == states["first"]
    assert len({states["first"], states["renamed"], states["longer"]}) == 3
    assert (states["other end"] == states["first"]) == ("_MOST_FILES" in limits)
    assert (states["other middle"] == states["first"]) == bool(limits)
    assert stored_sets.content_state("org/name") == ""
