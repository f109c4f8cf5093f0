"""`synclr index`: rows, thumbnails and features of every kind of source; stopped, refused, pushed."""

import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value, load_dataset
from image_sets import write_images
from PIL import Image as Pictures
from tiny_index import picture

from synclr_hf.cli.index import models_together
from synclr_hf.cli.main import main
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.encoder_loading import load_encoder
from synclr_hf.evaluation.encoding.features import encoder_features
from synclr_hf.evaluation.labelled.labelled_images import labelled_pictures
from synclr_hf.explorer.index import maker as index_maker
from synclr_hf.explorer.index.opening import open_index
from synclr_hf.explorer.index.stage import IndexConfig, build_index, shown_names
from synclr_hf.explorer.index.thumbnails import thumbnail


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """An images set: 12 captions x 2 pictures of 40 px."""
    return str(write_images(tmp_path_factory.mktemp("set") / "images", rows=12, rows_per_shard=6))


def jpeg(image, **options):
    file = BytesIO()
    image.save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def built(folder, model, images, **settings):
    return open_index(build_index(IndexConfig(str(folder), [model, "pixels"], images, **settings)))


def test_rows_of_an_images_set(tmp_path, tiny_encoder_folder, images):
    index = built(tmp_path / "index", tiny_encoder_folder, images, rows_per_shard=7)
    assert len(index) == 24 and [one.name for one in index.facts.encoders] == ["encoder", "pixels"]
    told = index.picture(5)
    assert (told.caption_id, told.place, told.caption, told.concept) == (2, 1, "Caption 2.", "bell")
    assert (told.source, told.template) == ("test", "")
    rows = load_dataset("parquet", data_files=f"{images}/data/*.parquet", split="train")
    pictures = [one for row in rows for one in row["images"]]
    data = labelled_pictures(pictures, np.zeros(24, dtype=np.int64), ("",), np.arange(24))
    for number, name in enumerate((tiny_encoder_folder, "pixels")):
        plain = encoder_features(load_encoder(name, dtype="float32"), data).features
        plain = torch.nn.functional.normalize(plain, dim=1)
        stored = torch.cat(list(index.embeddings(number)))
        assert stored.dtype == torch.float16
        assert torch.allclose(stored.float(), plain, atol=6e-4)
        assert torch.allclose(index.embedding(5, number), stored[5].float())
    assert (np.asarray(index.thumbnail(5)) == np.asarray(pictures[5])).all()  # small files are kept byte by byte
    assert index.facts.images == "images" and "images" in index.cards and images not in index.cards["images"]


def test_a_card_that_says_how_to_use_it(tmp_path, tiny_encoder_folder, images):
    folder = build_index(IndexConfig(str(tmp_path / "index"), [tiny_encoder_folder], images))
    card = (folder / "README.md").read_text()
    for words in ("24 pictures of 12 captions, 3 concepts", "16 float16, length one: `encoder`", "add_faiss_index"):
        assert words in card
    assert "UNFINISHED" not in card


def test_templates_come_from_the_captions_set(tmp_path, tiny_encoder_folder, images):
    names = "caption_id caption concept source template background relation language_model seed".split()
    columns = {name: [k if name in ("caption_id", "seed") else f"{name} {k}" for k in range(12)] for name in names}
    (tmp_path / "captions" / "data").mkdir(parents=True)
    Dataset.from_dict(columns).to_parquet(tmp_path / "captions" / "data" / "train-00000.parquet")
    index = built(tmp_path / "index", tiny_encoder_folder, images, captions=str(tmp_path / "captions"))
    assert [index.picture(row).template for row in (0, 1, 23)] == ["template 0", "template 0", "template 11"]
    with pytest.raises(UserInputError, match="nowhere"):
        built(tmp_path / "other", tiny_encoder_folder, images, captions=str(tmp_path / "nowhere"))


def test_at_most_so_many_evenly_and_captions_whole(tmp_path, tiny_encoder_folder, images):
    index = built(tmp_path / "index", tiny_encoder_folder, images, max_pictures=13)
    told = [index.picture(row) for row in range(len(index))]
    assert len(told) == 12 and sorted({one.caption_id for one in told}) == [told[2 * k].caption_id for k in range(6)]
    assert [one.place for one in told] == [0, 1] * 6
    assert {name: sum(one.concept == name for one in told) for name in ("mug", "hat", "bell")} == dict.fromkeys(
        ("mug", "hat", "bell"), 4
    )
    with pytest.raises(UserInputError, match="--max-pictures 1 is less than the pictures of one caption; type .* 2"):
        built(tmp_path / "small", tiny_encoder_folder, images, max_pictures=1)


def test_labelled_pictures_and_plain_folders(tmp_path, tiny_encoder_folder):
    for name in ("cat", "dog"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for k in range(2):
            picture(k).save(tmp_path / "classes" / name / f"{k}.png")
    index = built(tmp_path / "a", tiny_encoder_folder, str(tmp_path / "classes"))
    assert [index.picture(row).concept for row in range(4)] == ["cat", "cat", "dog", "dog"] and not index.has_captions
    rows = {"image": [{"bytes": jpeg(picture(k)), "path": None} for k in range(3)], "text": ["one", "two", "three"]}
    features = Features({"image": Image(), "text": Value("string")})
    (tmp_path / "rows").mkdir()
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "rows" / "train.parquet")
    index = built(tmp_path / "b", tiny_encoder_folder, str(tmp_path / "rows"))
    assert [(index.picture(row).caption, index.picture(row).concept) for row in range(3)] == [
        ("one", ""),
        ("two", ""),
        ("three", ""),
    ]


def test_unreadable_pictures_are_left_out_and_counted(tmp_path, tiny_encoder_folder, monkeypatch):
    folder = tmp_path / "plain"
    folder.mkdir()
    for k in range(30):
        picture(k).save(folder / f"{k:02d}.png")
    (folder / "07.png").write_bytes(b"no picture")
    index = built(tmp_path / "index", tiny_encoder_folder, str(folder))
    assert len(index) == 29 and index.picture(7).caption == "08"
    assert "unreadable" in (tmp_path / "index" / "README.md").read_text()
    monkeypatch.setattr(index_maker, "_ALWAYS_ALLOWED", 0)
    with pytest.raises(UserInputError, match="1 of the first 8 pictures .* cannot be read .* 5% are allowed"):
        monkeypatch.setattr(index_maker, "BATCH", 8)
        built(tmp_path / "strict", tiny_encoder_folder, str(folder))


def files_of(folder):
    return {path.name: path.read_bytes() for path in Path(folder).glob("data/*")}


def test_stopped_in_the_middle_it_goes_on_to_the_same_bytes(tmp_path, tiny_encoder_folder, images, monkeypatch):
    config = IndexConfig(str(tmp_path / "one"), [tiny_encoder_folder], images, rows_per_shard=8)
    whole = files_of(build_index(config))
    config.output_dir = str(tmp_path / "two")
    plain = index_maker.IndexMaker.make

    def stopping(self, task, tally, report):
        if task.index == 1:
            raise KeyboardInterrupt
        yield from plain(self, task, tally, report)

    monkeypatch.setattr(index_maker.IndexMaker, "make", stopping)
    with pytest.raises(KeyboardInterrupt, match="1 of 3 shards are safe"):
        build_index(config)
    with pytest.raises(UserInputError, match="is not finished: 1 of 3 shards; finish it first: type synclr index"):
        open_index(config.output_dir)
    monkeypatch.setattr(index_maker.IndexMaker, "make", plain)
    first = (tmp_path / "two" / "data" / "train-00000.parquet").stat().st_mtime_ns
    assert files_of(build_index(config)) == whole and len(whole) == 3
    assert (tmp_path / "two" / "data" / "train-00000.parquet").stat().st_mtime_ns == first


def test_other_settings_do_not_go_into_the_same_folder(tmp_path, tiny_encoder_folder, images):
    config = IndexConfig(str(tmp_path / "index"), [tiny_encoder_folder], images)
    build_index(config)
    before = (tmp_path / "index" / "index.json").read_bytes()
    config.thumbnail_size = 32
    with pytest.raises(UserInputError, match="thumbnail_size"):
        build_index(config)
    assert (tmp_path / "index" / "index.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": []}, "no --model is named"),
        ({"model": ["pixels", "pixels"]}, "--model 'pixels' is named twice"),
        ({"thumbnail_size": 10}, "--thumbnail-size 10 cannot be used; allowed: a whole number, 32 to 1024"),
        ({"max_pictures": 0}, "--max-pictures 0 cannot be used"),
    ],
)
def test_settings_that_cannot_be_used(changes, words):
    with pytest.raises(UserInputError, match=words):
        IndexConfig(**{"output_dir": "x", "model": ["pixels"], "images": "y", **changes})


def test_no_pictures_and_a_model_under_two_names(tmp_path, tiny_encoder_folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserInputError, match="there are no pictures in"):
        build_index(IndexConfig(str(tmp_path / "i"), ["pixels"], str(tmp_path / "empty")))
    again = Path(tiny_encoder_folder).parent / "." / "encoder"
    picture(0).save(tmp_path / "empty" / "a.png")
    with pytest.raises(UserInputError, match="are the same weights"):
        models = [tiny_encoder_folder, f"{again.parent}/./encoder"]
        build_index(IndexConfig(str(tmp_path / "i"), models, str(tmp_path / "empty")))


def test_thumbnails(tmp_path):
    large = Pictures.new("RGB", (500, 250), "red")
    small = Pictures.open(BytesIO(thumbnail(jpeg(large), large, 100)))
    assert small.size == (100, 50) and small.format == "JPEG"
    own = jpeg(picture(0))
    assert thumbnail({"bytes": own, "path": None}, picture(0), 100) == own
    exif = Pictures.Exif()
    exif[0x0112] = 6
    turned = jpeg(Pictures.new("RGB", (60, 30)), exif=exif)
    upright = Pictures.open(BytesIO(thumbnail(turned, Pictures.new("RGB", (30, 60)), 100)))
    assert upright.size == (30, 60) and 0x0112 not in upright.getexif()


def test_names_in_an_index(tmp_path):
    for place in ("a/encoder", "b/encoder"):
        (tmp_path / place).mkdir(parents=True)
    one, two = f"{tmp_path}/a/encoder", f"{tmp_path}/b/encoder"
    assert shown_names([one, f"untrained:{one}", "pixels", "org/name"]) == [
        "encoder",
        "untrained:encoder",
        "pixels",
        "org/name",
    ]
    assert shown_names([one, two]) == ["a/encoder", "b/encoder"]


def test_several_models_on_the_command_line():
    typed = "--images x --model a b --output-dir y --model=c --model d".split()
    assert models_together(typed) == "--images x --output-dir y --model a b c d".split()


def test_the_readmes_command_runs(tmp_path, tiny_encoder_folder, images, capsys):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (line,) = re.findall(r"^synclr (index --model org/synclr.*)$", readme, re.MULTILINE)
    names = {"org/synclr-vitb16": tiny_encoder_folder, "facebook/dinov2-base": f"untrained:{tiny_encoder_folder}"}
    words = line.replace(" --push-to-hub org/weed-index", "").replace("org/weed-images", images)
    words = words.replace("outputs/weed-index", str(tmp_path / "index"))
    with pytest.raises(SystemExit) as ended:
        main([names.get(word, word) for word in words.split()])
    assert not ended.value.code, capsys.readouterr().err
    assert [one.name for one in open_index(tmp_path / "index").facts.encoders] == [
        "encoder",
        "untrained:encoder",
        "pixels",
    ]
