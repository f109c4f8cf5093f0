"""`synclr images --extend`: pictures of more captions, or more of each, beside those that are there."""

import re
from dataclasses import replace

import pytest
from huggingface_hub import HfApi

from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.data.parquet_rows import ParquetRows
from synclr_hf.data.reading import read_images
from synclr_hf.errors import UserInputError
from synclr_hf.hub.shipping import DatasetTarget
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.maker import ImageMaker
from synclr_hf.images.stage import write_images
from synclr_hf.toyworld.image_generator import ToyImageGenerator


def rows_of(folder):
    return read_images(folder).to_list()


@pytest.fixture
def config(tmp_path):
    captions = write_captions(CaptionsConfig(tmp_path / "captions", num_captions=14, rows_per_shard=8), workers=1)
    return ImagesConfig(
        str(tmp_path / "images"), str(captions), images_per_caption=2, size=32, rows_per_shard=4, image_quality=50
    )


def grow_captions(config, count=21, **settings):
    more = CaptionsConfig(config.captions, num_captions=count, rows_per_shard=8, extend=True, **settings)
    write_captions(more, workers=1)


@pytest.mark.parametrize(("captions", "pictures"), [(21, 2), (14, 4), (21, 4)])
def test_an_extended_set_is_what_a_fresh_one_would_be(tmp_path, config, captions, pictures, monkeypatch):
    before = rows_of(write_images(config, workers=1))
    if captions > 14:
        grow_captions(config)
    more = replace(config, images_per_caption=pictures, extend=True)
    drawn = []
    generate = ToyImageGenerator.generate

    def counted(self, prompts, *, seeds, **settings):
        drawn.extend(seeds)
        return generate(self, prompts, seeds=seeds, **settings)

    monkeypatch.setattr(ToyImageGenerator, "generate", counted)
    folder = write_images(more, workers=1)
    assert len(drawn) == captions * pictures - 28, "pictures that were there are not drawn again"
    fresh = write_images(replace(more, output_dir=str(tmp_path / "fresh"), extend=False), workers=1)
    shards = [sorted((place / "data").iterdir()) for place in (folder, fresh)]
    assert [path.read_bytes() for path in shards[0]] == [path.read_bytes() for path in shards[1]]
    for row, new in zip(before, rows_of(folder)[:14], strict=True):
        assert new["images"][:2] == row["images"] and new["seeds"][:2] == row["seeds"]
    assert not {"--extend", "| extend"} & set(re.findall(r"(?:--|\| )\w+", (folder / "README.md").read_text()))


def test_stopped_in_the_middle_nobody_reads_it(config, monkeypatch):
    folder = write_images(config, workers=1)
    more = replace(config, images_per_caption=3)
    make = ImageMaker.make

    def stop(self, task, tally, report):
        if task.index == 2:
            raise KeyboardInterrupt
        return make(self, task, tally, report)

    monkeypatch.setattr(ImageMaker, "make", stop)
    with pytest.raises(KeyboardInterrupt, match="2 of 4 shards are safe"):
        write_images(replace(more, extend=True), workers=1)
    for read in (read_images, ParquetRows, lambda where: DatasetTarget("ada/toys").push(where, "images")):
        with pytest.raises(
            UserInputError, match="is not finished: 2 of 4 shards; finish it first: type synclr images"
        ):
            read(folder)
    monkeypatch.undo()
    write_images(more, workers=1)
    assert {len(row["images"]) for row in rows_of(folder)} == {3}


def test_other_captions_are_no_growth(tmp_path, config):
    write_images(config, workers=1)
    other = write_captions(CaptionsConfig(tmp_path / "other", num_captions=21, rows_per_shard=8, seed=1), workers=1)
    with pytest.raises(UserInputError, match=r"cannot be extended: it was made from other rows \(caption_id 0, capt"):
        write_images(replace(config, captions=str(other), extend=True), workers=1)
    with pytest.raises(UserInputError, match="size 32 there, 64 now; --extend adds to a set and changes nothing else"):
        write_images(replace(config, size=64, extend=True), workers=1)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's LFS upload
def test_an_extended_set_is_published_over_the_earlier_one(config, hub, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    api, target = HfApi(hub.url, token=hub.token), DatasetTarget("ada/toys")
    folder = write_images(config, workers=1)
    target.push(folder, "images", api=api)
    grow_captions(config)
    for more in (replace(config, extend=True), replace(config, extend=True, images_per_caption=3)):
        write_images(more, workers=1)
        target.push(folder, "images", api=api)
        there = {name: data for name, data in hub.files("ada/toys", "dataset").items() if name.startswith("data/")}
        assert there == {f"data/{path.name}": path.read_bytes() for path in (folder / "data").iterdir()}
    other = write_images(replace(more, output_dir=str(tmp_path / "other"), extend=False, seed=1), workers=1)
    with pytest.raises(UserInputError, match="holds another run; nothing was written"):
        target.push(other, "images", api=api)


def test_what_is_not_typed_is_as_it_was(config, capsys):
    from synclr_hf.cli.images import main

    folder = write_images(config, workers=1)
    before = rows_of(folder)
    grow_captions(config)
    main(["--captions", config.captions, "--output-dir", str(folder), "--extend", "--workers", "1"])
    after = rows_of(folder)
    assert len(after) > len(before) and after[: len(before)] == before
    assert {len(row["images"]) for row in after} == {config.images_per_caption} != {4}
