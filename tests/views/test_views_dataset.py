"""Rows to crops to batches: layout, repeatability, masks, ids, one-line errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from image_sets import encoded
from PIL import Image
from torch.utils.data import DataLoader

from synclr_hf.errors import UserInputError
from synclr_hf.views import EpochSampler, ViewsConfig, ViewsDataset, collate_views
from synclr_hf.views.crops import random_crop_box, random_downsample
from synclr_hf.views.photometric import SIGMA, SOLARIZE

CONFIG = ViewsConfig(global_crop_size=32, local_crop_size=16, num_local_crops=3)


@pytest.fixture
def rows():
    return [{"caption_id": 100 + i, "images": [encoded(4 * i + k, 48) for k in range(4)]} for i in range(5)]


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
        "unreadable_rows": (1,),
    }
    assert item["pixel_values"].dtype == item["local_pixel_values"].dtype == torch.uint8
    assert item["caption_ids"].tolist() == [102] * 4
    assert item["image_ids"].tolist() == [102000, 102001, 102002, 102003]
    assert item["view_ids"].tolist() == [1020000, 1020010, 1020020, 1020030]


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


def test_a_batch_knows_the_places_of_its_masked_patches(rows):
    dataset = ViewsDataset(rows, CONFIG, patch_size=8, seed=0)
    items = [dataset[(0, index)] for index in range(3)]
    batch = collate_views(items)
    masks, positions = batch["bool_masked_pos"], batch["masked_positions"]
    assert masks.shape == (12, 16) and positions.shape == (48,) and positions.dtype == torch.int64
    assert torch.equal(positions, masks.flatten().nonzero().squeeze(1)), "row-major, over the whole batch"
    marked = torch.zeros(12 * 16, dtype=torch.bool)
    marked[positions] = True
    assert torch.equal(marked.view(12, 16), masks)
    unmasked = ViewsDataset(rows, replace(CONFIG, masked_image_fraction=0.0), patch_size=8, seed=0)
    assert collate_views([unmasked[(0, 0)]])["masked_positions"].shape == (0,)
    bare = [{name: value for name, value in item.items() if name != "bool_masked_pos"} for item in items]
    assert "masked_positions" not in collate_views(bare), "a user's own dataset may mask nothing"


def test_numbers_drawn_for_one_global_crop_are_those_of_earlier_versions(rows):
    config = replace(CONFIG, downsample_probability=0.5, downsample_sizes=[8, 16])
    item = ViewsDataset(rows, config, patch_size=8, seed=0)[(3, 2)]
    expected = [1.0, 1.0912562, 1.1017917, 0.9486852, -0.0343548, 18.0, 0.0, 0.5777057, 0.0]
    assert item["aug_params"][2].tolist() == pytest.approx(expected, abs=1e-6)
    assert item["bool_masked_pos"][1].nonzero().flatten().tolist() == [0, 3, 4, 8, 9, 10, 12, 14]


def test_layout_with_several_global_crops():
    colours = [(250, 0, 0), (0, 250, 0)]
    row = {"caption_id": 7, "images": [Image.new("RGB", (40, 40), colour) for colour in colours]}
    config = replace(CONFIG, num_global_crops=3, num_local_crops=2)
    dataset = ViewsDataset([row], config, patch_size=8, seed=0)
    item = dataset[(0, 0)]
    assert dataset.crops_per_caption == 6
    assert item["pixel_values"].shape == (6, 3, 32, 32) and item["bool_masked_pos"].shape == (6, 16)
    assert (item["bool_masked_pos"].sum(1) == 8).sum() == 3 and item["bool_masked_pos"].sum() == 24
    assert item["image_ids"].tolist() == [7000] * 3 + [7001] * 3
    assert item["view_ids"].tolist() == [70000, 70001, 70002, 70010, 70011, 70012]
    for name, per_picture in (("pixel_values", 3), ("local_pixel_values", 6)):
        assert len(item[name]) == 2 * per_picture == len(item[f"{name.removesuffix('pixel_values')}aug_params"])
        for crop, pixels in enumerate(item[name]):
            assert pixels.float().mean((1, 2)).tolist() == pytest.approx(list(colours[crop // per_picture]), abs=1)


def test_two_crops_of_a_picture_get_the_two_kinds_of_byol(rows):
    """One of them is always blurred and never solarised; which one is a coin."""
    dataset = ViewsDataset(rows, replace(CONFIG, num_global_crops=2), patch_size=8, seed=0)
    drawn = torch.stack([dataset[(epoch, 0)]["aug_params"].unflatten(0, (4, 2)) for epoch in range(60)]).flatten(0, 1)
    blurred, solarized = drawn[..., SIGMA] > 0, drawn[..., SOLARIZE] > 0
    first_kind = blurred & ~solarized
    assert first_kind.any(1).all()
    alone = first_kind.sum(1) == 1
    assert alone.sum() > 150
    assert first_kind[alone, 0].float().mean().item() == pytest.approx(0.5, abs=0.12)
    assert blurred.float().mean().item() == pytest.approx(0.55, abs=0.05)
    assert solarized.float().mean().item() == pytest.approx(0.1, abs=0.05)


def test_one_picture_is_enough_with_two_global_crops(rows):
    config = replace(CONFIG, num_global_crops=2, images_per_caption=1)
    item = ViewsDataset(rows, config, patch_size=8, seed=0)[(0, 1)]
    assert len(item["pixel_values"]) == 2 and len(set(item["view_ids"].tolist())) == 2
    assert len(set(item["image_ids"].tolist())) == 1


def test_other_pictures_are_drawn_in_every_epoch(rows):
    def drawn(epoch, index=0, seed=0):
        dataset = ViewsDataset(rows, replace(CONFIG, images_per_caption=2), patch_size=8, seed=seed)
        return tuple((dataset[(epoch, index)]["image_ids"] - 1000 * (100 + index)).tolist())

    pairs = [drawn(epoch) for epoch in range(40)]
    assert pairs == [drawn(epoch) for epoch in range(40)] and all(a < b for a, b in pairs)
    assert len(set(pairs)) == 6, "every pair of four comes up"
    assert pairs != [drawn(epoch, index=1) for epoch in range(40)] != [drawn(epoch, seed=1) for epoch in range(40)]


def test_ids_are_those_of_the_pictures_drawn():
    colours = [(0, 0, 0), (80, 80, 80), (160, 160, 160), (240, 240, 240)]
    row = {"caption_id": 0, "images": [Image.new("RGB", (40, 40), colour) for colour in colours]}
    dataset = ViewsDataset([row], replace(CONFIG, images_per_caption=2), patch_size=8, seed=0)
    for epoch in range(8):
        item = dataset[(epoch, 0)]
        levels = item["pixel_values"].float().mean((1, 2, 3))
        assert levels.tolist() == pytest.approx([80.0 * place for place in item["image_ids"].tolist()], abs=1)


def test_class_ids_are_places_among_the_names(rows):
    for number, row in enumerate(rows):
        row["concept"] = ("mug", "bell")[number % 2]
    item = ViewsDataset(rows, CONFIG, patch_size=8, seed=0, class_names=["bell", "hat", "mug"])[(0, 2)]
    assert item["class_ids"].tolist() == [2] * 4 and item["class_ids"].dtype == torch.int64
    assert "class_ids" not in ViewsDataset(rows, CONFIG, patch_size=8, seed=0)[(0, 2)]
    with pytest.raises(
        UserInputError, match=r"concept 'mug' of caption 102 is not among the 2 class names \(bell, hat"
    ):
        ViewsDataset(rows, CONFIG, patch_size=8, seed=0, class_names=["bell", "hat"])[(0, 2)]


def test_unusable_sets_and_sizes_are_refused(rows):
    with pytest.raises(UserInputError, match="no rows"):
        ViewsDataset([], CONFIG, patch_size=8, seed=0)
    with pytest.raises(
        UserInputError, match="images per caption 1: .* allowed: 2 or more; type --images-per-caption 4"
    ):
        ViewsDataset([{"caption_id": 0, "images": [encoded(0)]}], CONFIG, patch_size=8, seed=0)
    with pytest.raises(UserInputError, match="global_crop_size 32 is not divisible by patch_size 14.* 28 or 42"):
        ViewsDataset(rows, CONFIG, patch_size=14, seed=0)
    with pytest.raises(UserInputError, match="images_per_caption 5: .* have 4; allowed: 1 to 4; type .*: 4"):
        ViewsDataset(rows, replace(CONFIG, images_per_caption=5), patch_size=8, seed=0)
    for name, value in (("num_global_crops", 0), ("num_global_crops", 11), ("images_per_caption", 0)):
        with pytest.raises(UserInputError, match=f"{name}: {value} cannot be used; allowed"):
            ViewsConfig(**{name: value})
    with pytest.raises(UserInputError, match="max_unreadable_share 5: allowed: 0 to 1"):
        ViewsConfig(max_unreadable_share=5)
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


@pytest.mark.parametrize("first", [None, [], "fewer"])
def test_the_first_row_does_not_decide_how_many_pictures_a_caption_has(rows, first):
    rows[0]["images"] = rows[0]["images"][:3] if first == "fewer" else first
    dataset = ViewsDataset(rows, CONFIG, patch_size=8, seed=0)
    assert dataset.crops_per_caption == 4
    item = dataset[(0, 0)]
    assert item["caption_ids"].tolist() == [101] * 4 and item["unreadable_rows"].item() == 1


@pytest.mark.parametrize("caption_id", [None, -1, 2**61, "7", 1.5])
def test_ids_that_are_none_are_one_line(rows, caption_id):
    rows[2]["caption_id"] = caption_id
    with pytest.raises(UserInputError, match="caption_id .*allowed: whole numbers, 0 to 922337203685476"):
        ViewsDataset(rows, CONFIG, patch_size=8, seed=0)[(0, 2)]


def test_the_size_of_local_crops_counts_where_there_are_some():
    ViewsConfig(global_crop_size=28, local_crop_size=32, num_local_crops=0).check_patch_size(14)
    with pytest.raises(UserInputError, match="local_crop_size 32"):
        ViewsConfig(global_crop_size=28, local_crop_size=32, num_local_crops=1).check_patch_size(14)
