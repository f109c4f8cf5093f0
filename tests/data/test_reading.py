import io
import json
from dataclasses import replace

import pytest
from counting_rows import plan_for
from datasets import Dataset, load_dataset
from PIL import Image

from synclr_hf.data.reading import captions_fingerprint, read_captions, read_images
from synclr_hf.data.schemas import caption_features, image_features
from synclr_hf.data.writing import write_run
from synclr_hf.errors import UserInputError


class CaptionRows:
    """Caption rows, `word` in each of them."""

    def __init__(self, word="red"):
        self.word = word

    def load(self):
        pass

    def make(self, task, tally, report):
        for number in range(task.first_row, task.first_row + task.num_rows):
            text = {"caption": f"A {self.word} mug {number}.", "concept": "mug", "source": "test"}
            fields = {"template": "concept", "background": None, "relation": None, "language_model": "none"}
            yield {"caption_id": number, **text, **fields, "seed": number}


class ImageRows:
    """Image rows with two pictures of one colour each."""

    def load(self):
        pass

    def make(self, task, tally, report):
        for number in range(task.first_row, task.first_row + task.num_rows):
            pictures = []
            for level in (40, 200):
                file = io.BytesIO()
                Image.new("RGB", (8, 8), (level, 0, 0)).save(file, "JPEG")
                pictures.append({"bytes": file.getvalue(), "path": None})
            text = {"caption": "A mug.", "concept": "mug", "source": "test"}
            fields = {"seeds": [1, 2], "guidance_scale": 2.5, "provenance": json.dumps({"generator": "none"})}
            yield {"caption_id": number, **text, "images": pictures, **fields}


def write(folder, stage="captions", rows=25, maker=None, **configuration):
    plan = replace(plan_for(folder, rows, **configuration), stage=stage)
    features = caption_features() if stage == "captions" else image_features()
    maker = maker or (CaptionRows() if stage == "captions" else ImageRows())
    return write_run(plan, features.arrow_schema, maker, workers=1)


def test_captions_round_trip(tmp_path):
    folder = write(tmp_path / "captions")
    rows = read_captions(folder)
    assert rows.features == caption_features() and len(rows) == 25
    assert rows["caption_id"][:] == list(range(25))
    assert rows[24]["caption"] == "A red mug 24." and rows[24]["background"] is None


def test_load_dataset_reads_the_same_without_this_package(tmp_path):
    folder = write(tmp_path / "captions")
    splits = load_dataset(str(folder))
    assert list(splits) == ["train"] and splits["train"][:] == read_captions(folder)[:]


def test_pictures_are_encoded_here_and_decoded_by_load_dataset(tmp_path):
    folder = write(tmp_path / "images", "images", rows=3)
    encoded = read_images(folder)[0]["images"]
    assert len(encoded) == 2 and all(image["bytes"].startswith(b"\xff\xd8") for image in encoded)
    rows = load_dataset(str(folder), split="train")
    assert rows.features == image_features()
    assert [picture.getpixel((4, 4))[0] // 10 for picture in rows[2]["images"]] == [4, 20]


def test_a_folder_written_anew_is_read_anew(tmp_path):
    folder = write(tmp_path / "captions")
    assert read_captions(folder)[0]["caption"] == "A red mug 0."
    for path in folder.rglob("*.parquet"):
        path.unlink()
    write(folder, maker=CaptionRows("fat"))
    assert read_captions(folder)[0]["caption"] == "A fat mug 0."
    assert load_dataset(str(folder), split="train")[0]["caption"] == "A fat mug 0."


def test_two_folders_of_the_same_name_are_not_mixed_up(tmp_path):
    first, second = write(tmp_path / "a/captions"), write(tmp_path / "b/captions", maker=CaptionRows("fat"))
    texts = [load_dataset(str(folder), split="train")[0]["caption"] for folder in (first, second)]
    assert texts == ["A red mug 0.", "A fat mug 0."]
    for folder in (first, second):  # the card of some other maker
        metadata = "configs:\n- config_name: default\n  data_files: data/*.parquet"
        (folder / "README.md").write_text(f"---\n{metadata}\n---\n")
    assert [read_captions(folder)[0]["caption"] for folder in (first, second)] == texts


@pytest.mark.parametrize("where", ["no/such/folder", "./captions", "captions"])
def test_nothing_there(where):
    with pytest.raises(UserInputError, match=f"'{where}' does not exist.*type synclr captions --output-dir {where}"):
        read_captions(where)


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "captions.parquet").write_text("")
    with pytest.raises(UserInputError, match="is not a folder"):
        read_captions(tmp_path / "captions.parquet")


def test_a_name_of_the_hub_that_cannot_be_reached(monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserInputError, match="no folder 'outputs/captions', and it cannot be loaded from the Hub"):
        read_captions("outputs/captions")


def test_an_empty_folder(tmp_path):
    with pytest.raises(UserInputError, match="holds no rows .*type synclr captions"):
        read_captions(tmp_path)


def test_an_unfinished_run_says_how_to_finish_it(tmp_path):
    folder = write(tmp_path / "captions")
    (folder / "shards/00001.json").unlink()
    with pytest.raises(UserInputError, match="is not finished: 2 of 3 shards; finish it first: type synclr numbers"):
        read_captions(folder)
    (folder / "data/train-00002.parquet").unlink()
    with pytest.raises(UserInputError, match="1 of 3 shards"):
        read_captions(folder)


def test_a_damaged_shard_says_how_to_mend_it(tmp_path):
    folder = write(tmp_path / "captions")
    (folder / "data/train-00001.parquet").write_bytes(b"PAR1 rubbish")
    with pytest.raises(UserInputError, match="cannot be read .*run the command that made it again"):
        read_captions(folder)


def test_the_folder_of_another_stage(tmp_path):
    folder = write(tmp_path / "captions")
    with pytest.raises(UserInputError, match="holds captions, not images; type the folder that synclr images wrote"):
        read_images(folder)


def test_a_data_set_without_the_columns(tmp_path):
    (tmp_path / "data").mkdir()
    Dataset.from_dict({"caption": ["A mug."]}).to_parquet(tmp_path / "data/train-00000.parquet")
    with pytest.raises(UserInputError, match=r"has no column caption_id, concept, .* \(it has caption\)"):
        read_captions(tmp_path)


def test_a_data_set_of_other_makers_is_welcome(tmp_path):
    folder = write(tmp_path / "captions")
    (tmp_path / "copy").mkdir()
    read_captions(folder).to_parquet(tmp_path / "copy/train.parquet")
    assert read_captions(tmp_path / "copy")[3] == read_captions(folder)[3]


def test_the_fingerprint_follows_the_contents(tmp_path):
    folder = write(tmp_path / "captions")
    rows = read_captions(folder)
    other = write(tmp_path / "other", maker=CaptionRows("fat"))
    assert captions_fingerprint(folder, rows) != captions_fingerprint(other, read_captions(other))
    assert captions_fingerprint("org/name", rows) == captions_fingerprint("org/name", read_captions(folder))
    assert captions_fingerprint("org/name", rows) != captions_fingerprint("org/name", read_captions(other))
