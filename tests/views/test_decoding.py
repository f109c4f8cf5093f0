"""Corrupt and missing pictures: counted, replaced, and an error where there are too many."""

import io
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from image_sets import encoded, write_images
from PIL import Image
from torch.utils.data import DataLoader

from synclr_hf.data.parquet_rows import ParquetRows
from synclr_hf.data.pictures import DECODING_ERRORS, open_picture
from synclr_hf.errors import UserInputError
from synclr_hf.views import EpochSampler, ViewsConfig, ViewsDataset, collate_views

SIZES = {"global_crop_size": 16, "local_crop_size": 8, "num_local_crops": 0}


@pytest.fixture
def rows():
    return [{"caption_id": 100 + i, "images": [encoded(4 * i + k) for k in range(4)]} for i in range(5)]


def views(rows, **settings):
    return ViewsDataset(rows, ViewsConfig(**SIZES, **settings), patch_size=8, seed=0)


def cut(picture):
    return {"bytes": picture["bytes"][:200], "path": None}


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        ({"bytes": b"not a picture", "path": None}, "its pictures cannot be read"),
        (cut(encoded(0)), "its pictures cannot be read"),
        ({"bytes": None, "path": None}, "the row holds no picture"),
        ({"bytes": None, "path": "no/such.jpg"}, "No such file"),
        (Path("no/such.jpg"), "No such file"),
        (None, "the row holds no picture"),
    ],
)
def test_a_row_with_a_broken_picture_is_replaced_by_the_next_and_told(rows, caplog, picture, reason):
    rows[1]["images"][2] = rows[2]["images"][0] = picture
    item = views(rows)[(0, 1)]
    assert item["caption_ids"].tolist() == [103] * 4 and item["unreadable_rows"].tolist() == [1]
    assert views(rows)[(0, 4)]["unreadable_rows"].tolist() == [0]
    assert "caption 101: " in caplog.text and reason in caplog.text


def test_a_row_with_fewer_pictures_than_the_others_is_unreadable(rows, caplog):
    rows[4]["images"], rows[3]["images"] = None, rows[3]["images"][:3]
    item = views(rows)[(0, 3)]
    assert item["caption_ids"].tolist() == [100] * 4 and item["unreadable_rows"].tolist() == [1]
    assert "(3 of 4 pictures)" in caplog.text and "(0 of 4 pictures)" in caplog.text


def test_a_row_with_more_pictures_than_the_others_gives_as_many(rows):
    rows[2]["images"].append(encoded(99))
    drawn = [views(rows)[(epoch, 2)]["image_ids"] - 102_000 for epoch in range(20)]
    assert all(len(places) == 4 for places in drawn) and len({tuple(places.tolist()) for places in drawn}) == 5


def test_a_broken_picture_that_is_not_drawn_does_no_harm(rows):
    rows[0]["images"][3] = cut(encoded(0))
    counts = [int(views(rows, images_per_caption=2)[(epoch, 0)]["unreadable_rows"]) for epoch in range(20)]
    assert 0 < sum(counts) < 20


def test_counts_are_collated_one_a_caption(rows):
    rows[1]["images"][0] = cut(encoded(0))
    dataset = views(rows)
    batch = collate_views([dataset[(0, index)] for index in range(3)])
    assert batch["unreadable_rows"].tolist() == [0, 1, 0]


def test_nothing_decodes_is_one_line(rows):
    for row in rows:
        row["images"] = [{"bytes": b"x", "path": None}] * 4
    with pytest.raises(UserInputError, match="no row of the image set has pictures that decode"):
        views(rows)[(0, 0)]


def many_rows(broken, total=1000):
    good, bad = [encoded(0, 16)] * 2, [cut(encoded(0))] * 2
    return [{"caption_id": i, "images": bad if i in broken else good} for i in range(total)]


def read_all(rows, share):
    dataset = views(rows, max_unreadable_share=share)
    return sum(int(dataset[(0, index)]["unreadable_rows"]) for index in range(len(rows)))


def test_twenty_rows_are_always_allowed_and_beyond_them_a_share():
    assert read_all(many_rows(range(100, 120)), share=0.0) == 20
    spread = range(10, 1000, 40)
    assert read_all(many_rows(spread), share=0.05) == 25
    told = r"^the pictures of 21 of 811 rows .* such as caption 810 \(.+\); .* type max_unreadable_share: 0.5$"
    with pytest.raises(UserInputError, match=told):
        read_all(many_rows(spread), share=0.01)


def test_a_long_stretch_of_unreadable_rows_ends_the_search_for_a_stand_in():
    with pytest.raises(UserInputError, match="the pictures of 21 of 21 rows cannot be read, such as caption 20 "):
        read_all(many_rows(range(500)), share=0.05)


def test_the_error_of_a_worker_stays_one_line_without_a_traceback(tmp_path):
    rows = ParquetRows(write_images(tmp_path / "images", rows=60, broken=range(2, 60)))
    loader = DataLoader(views(rows), 4, sampler=EpochSampler(60, seed=0), num_workers=2, collate_fn=collate_views)
    with pytest.raises(UserInputError, match=r"^the pictures of 21 of \d+ rows cannot be read") as error:
        list(loader)
    assert "Traceback" not in str(error.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_whatever_is_wrong_with_a_file_counts_as_a_decoding_error(kind):
    """Bytes flipped and cut at random: a picture or one of the errors that are counted, never another."""
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(file, kind, exif=exif)
    dice, outcomes = random.Random(0), set()
    for _ in range(150):
        content = bytearray(file.getvalue())
        for _ in range(dice.randint(0, 12)):
            content[dice.randrange(len(content) if dice.random() < 0.5 else 120)] = dice.randrange(256)
        with warnings.catch_warnings(action="ignore"):
            try:
                outcomes.add(type(open_picture(bytes(content[: dice.randint(1, 2 * len(content))]))))
            except DECODING_ERRORS:
                outcomes.add("error")
    assert outcomes == {Image.Image, "error"}


def test_torch_random_state_is_left_alone(rows):
    before = torch.get_rng_state()
    views(rows)[(0, 0)]
    assert torch.equal(before, torch.get_rng_state())
