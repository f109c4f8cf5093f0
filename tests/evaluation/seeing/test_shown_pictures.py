"""Where the pictures to look at come from, and what is known about them."""

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from image_sets import picture, write_images

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.seeing.shown_pictures import in_turns, shown_pictures


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


def files(folder, *names):
    for number, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number, 16).save(file)
    return folder


def test_folders_and_files_of_pictures(tmp_path):
    flat = files(tmp_path / "flat", "b.png", "a.JPG")
    (flat / "notes.txt").write_text("no picture")
    found = shown_pictures([str(flat)])
    assert not found.has_classes and found.data.label_names == ("",)
    assert list(found.texts) == ["a", "b"] and len(found) == 2
    sorted_ = files(tmp_path / "sorted", "cat/1.png", "dog/1.png", "cat/2.png")
    found = shown_pictures([str(sorted_)])
    assert found.has_classes and found.data.label_names == ("cat", "dog")
    assert found.data.labels.tolist() == [0, 0, 1] and list(found.texts) == ["cat", "cat", "dog"]
    found = shown_pictures([str(flat / "b.png"), str(sorted_)])
    assert not found.has_classes and list(found.texts) == ["b", "1", "2", "1"]
    chosen = found.rows([3, 0])
    assert list(chosen.texts) == ["1", "b"] and chosen.data.pictures[1].endswith("b.png")


def test_data_sets_with_classes_captions_and_splits(tmp_path):
    kinds = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"]), "caption": Value("string")})
    rows = {"image": [picture(n, 16) for n in range(3)], "label": [1, -1, 0], "caption": ["x", "who knows", "z"]}
    whole = Dataset.from_dict(rows, features=kinds)
    DatasetDict({"train": whole, "test": whole.select([0, 1])})["test"].to_parquet(tmp_path / "s" / "test.parquet")
    whole.to_parquet(tmp_path / "s" / "train.parquet")
    found = shown_pictures([str(tmp_path / "s")])
    assert list(found.texts) == ["dog", "who knows"]  # the test side; a caption where the class is not told
    found = shown_pictures([str(tmp_path / "s")], split="train")
    assert found.data.label_names == ("", "cat", "dog") and found.data.labels.tolist() == [2, 0, 1]
    with pytest.raises(UserInputError, match="no split 'dev'; it has train, test|no split 'dev'; it has test, train"):
        shown_pictures([str(tmp_path / "s")], split="dev")
    whole.remove_columns("label").to_parquet(tmp_path / "t" / "train.parquet")
    found = shown_pictures([str(tmp_path / "t")])
    assert not found.has_classes and list(found.texts) == ["x", "who knows", "z"]


def test_our_images_sets_have_one_picture_after_the_other(tmp_path):
    write_images(tmp_path / "set", rows=6, rows_per_shard=6, images=2)
    found = shown_pictures([str(tmp_path / "set")])
    assert len(found) == len(found.texts) == 12 and found.has_classes
    assert found.texts[0] == found.texts[1] == found.data.label_names[found.data.labels[0]]


def test_in_turns_takes_each_class_before_any_comes_again():
    classes = ["a"] * 8 + ["b"] * 2 + ["c"] * 4
    order = in_turns(classes, 5)
    assert sorted(order) == list(range(14)) and order == in_turns(classes, 5) != in_turns(classes, 6)
    assert {classes[row] for row in order[:3]} == {classes[row] for row in order[3:6]} == {"a", "b", "c"}


def test_bad_sources_are_named(tmp_path):
    files(tmp_path / "pictures", "a.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserInputError, match="there are no pictures in '.*empty'; needed: files that end in .avif"):
        shown_pictures([str(tmp_path / "empty")])
    with pytest.raises(UserInputError, match="no data set at '.*nowhere'; allowed: an existing folder"):
        shown_pictures([str(tmp_path / "nowhere")])
    with pytest.raises(UserInputError, match="--images 'org/set' is neither a picture nor a folder of pictures"):
        shown_pictures([str(tmp_path / "pictures"), "org/set"])
    with pytest.raises(UserInputError, match="--split 'test' is for a data set"):
        shown_pictures([str(tmp_path / "pictures")], split="test")
    Dataset.from_dict({"text": ["a"]}).to_parquet(tmp_path / "words" / "train.parquet")
    with pytest.raises(UserInputError, match="has no picture column; found: text"):
        shown_pictures([str(tmp_path / "words")])
