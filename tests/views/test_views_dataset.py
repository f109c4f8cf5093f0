"""Rows to crops to batches: layout, repeatability, masks, broken pictures, one-line errors."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from synclr_hf.errors import UserInputError
from synclr_hf.views import EpochSampler, ViewsConfig, ViewsDataset, collate_views
from synclr_hf.views.crops import random_crop_box, random_downsample

CONFIG = ViewsConfig(global_crop_size=32, local_crop_size=16, num_local_crops=3)


def encoded(seed, size=48):
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
    return {"bytes": buffer.getvalue(), "path": None}


@pytest.fixture
def rows():
    return [{"caption_id": 100 + i, "images": [encoded(4 * i + k) for k in range(4)]} for i in range(5)]


def test_layout_of_an_item(rows):
    item = ViewsDataset(rows, CONFIG, patch_size=8, seed=0)[(0, 2)]
    shapes = {name: tuple(value.shape) for name, value in item.items()}
    assert shapes == {
        "pixel_values": (4, 3, 32, 32),
        "aug_params": (4, 9),
        "bool_masked_pos": (4, 16),
        "caption_ids": (4,),
        "image_ids": (4,),
        "view_ids": (4,),
        "local_pixel_values": (12, 3, 16, 16),
        "local_aug_params": (12, 9),
    }
    assert item["pixel_values"].dtype == item["local_pixel_values"].dtype == torch.uint8
    assert item["caption_ids"].tolist() == [102] * 4
    assert item["image_ids"].tolist() == [102000, 102001, 102002, 102003]


def test_local_rows_belong_to_their_picture():
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
    row = {"caption_id": 0, "images": [Image.new("RGB", (40, 40), colour) for colour in colours]}
    item = ViewsDataset([row], CONFIG, patch_size=8, seed=0)[(0, 0)]
    for crop, pixels in enumerate(item["local_pixel_values"]):
        assert pixels.float().mean((1, 2)).tolist() == pytest.approx(list(colours[crop // 3]), abs=1)


def test_views_are_a_function_of_seed_epoch_and_index(rows):
    dataset = ViewsDataset(rows, CONFIG, patch_size=8, seed=0)
    again = ViewsDataset(rows, CONFIG, patch_size=8, seed=0)
    np.random.seed(7)
    torch.manual_seed(7)
    first, second = dataset[(3, 1)], again[(3, 1)]
    assert all(torch.equal(first[name], second[name]) for name in first)
    for other in (dataset[(4, 1)], ViewsDataset(rows, CONFIG, patch_size=8, seed=1)[(3, 1)]):
        assert not torch.equal(first["pixel_values"], other["pixel_values"])


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_change_nothing(rows, workers):
    dataset = ViewsDataset(rows, CONFIG, patch_size=8, seed=0)

    def batches(num_workers):
        sampler = EpochSampler(len(dataset), seed=3)
        sampler.set_epoch(1)
        return list(DataLoader(dataset, 2, sampler=sampler, num_workers=num_workers, collate_fn=collate_views))

    for alone, shared in zip(batches(0), batches(workers), strict=True):
        assert all(torch.equal(alone[name], shared[name]) for name in alone)


def test_half_of_each_caption_is_masked_in_half_of_its_patches(rows):
    dataset = ViewsDataset(rows, CONFIG, patch_size=8, seed=0)
    masks = torch.stack([dataset[(epoch, 0)]["bool_masked_pos"] for epoch in range(60)])
    masked = masks.sum(-1)
    assert ((masked == 8).sum(1) == 2).all() and ((masked == 0).sum(1) == 2).all()
    assert (masked > 0).float().mean(0).tolist() == pytest.approx([0.5] * 4, abs=0.2), "any picture may be masked"


def test_order_is_a_permutation_that_changes_with_the_epoch():
    sampler = EpochSampler(50, seed=0)
    first = list(sampler)
    assert first == list(sampler) and sorted(i for _, i in first) == list(range(50)) and {e for e, _ in first} == {0}
    sampler.set_epoch(1)
    assert [i for _, i in sampler] != [i for _, i in first] and {e for e, _ in sampler} == {1}


def test_a_row_with_a_broken_picture_is_replaced_by_the_next_and_told(rows, caplog):
    rows[1]["images"][2] = {"bytes": b"not a picture", "path": None}
    rows[2]["images"][0] = {"bytes": rows[2]["images"][0]["bytes"][:200], "path": None}
    dataset = ViewsDataset(rows, CONFIG, patch_size=8, seed=0)
    assert dataset[(0, 1)]["caption_ids"].tolist() == [103] * 4
    assert "caption 101: a picture does not decode" in caplog.text


def test_nothing_decodes_is_one_line(rows):
    for row in rows:
        row["images"] = [{"bytes": b"x", "path": None}] * 4
    with pytest.raises(UserInputError, match="no row of the image set has pictures that decode"):
        ViewsDataset(rows, CONFIG, patch_size=8, seed=0)[(0, 0)]


def test_unusable_sets_and_sizes_are_refused(rows):
    with pytest.raises(UserInputError, match="no rows"):
        ViewsDataset([], CONFIG, patch_size=8, seed=0)
    with pytest.raises(
        UserInputError, match="images per caption 1: .* allowed: 2 or more; type --images-per-caption 4"
    ):
        ViewsDataset([{"caption_id": 0, "images": [encoded(0)]}], CONFIG, patch_size=8, seed=0)
    with pytest.raises(UserInputError, match="global_crop_size 32 is not divisible by patch_size 14.* 28 or 42"):
        ViewsDataset(rows, CONFIG, patch_size=14, seed=0)
    with pytest.raises(UserInputError, match="local_crop_scale"):
        ViewsConfig(local_crop_scale=[0.5, 0.2])


def test_crop_boxes_lie_inside_and_have_the_asked_area():
    rng = np.random.default_rng(0)
    boxes = np.array([random_crop_box(64, 48, (0.32, 1.0), rng) for _ in range(2000)])
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0 and boxes[:, 2].max() <= 64 and boxes[:, 3].max() <= 48
    areas = widths * heights / (64 * 48)
    assert areas.min() > 0.3 and areas.max() > 0.9 and 0.5 < areas.mean() < 0.75
    assert 0.7 < (widths / heights).min() and (widths / heights).max() < 1.4


def test_downsampling_loses_detail_and_keeps_the_size():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    rng = np.random.default_rng(0)
    assert random_downsample(image, 0.0, [16], rng) is image
    assert random_downsample(image, 1.0, [128], rng) is image, "never enlarges"
    small = random_downsample(image, 1.0, [16], rng)
    assert small.size == (64, 64) and np.asarray(small).std() < 0.5 * np.asarray(image).std()
