import numpy as np
import pytest
import torch

from synclr_hf.evaluation.finetuning.erasing import erased, erasing_boxes
from synclr_hf.evaluation.finetuning.mixing import cutmix_box, mixed, soft_targets


def batch(count=5, size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, size, size, generator=generator), torch.eye(count)


def test_soft_targets_by_hand():
    targets = soft_targets(torch.tensor([1, 0]), 4, 0.1)
    assert targets.tolist() == [pytest.approx([0.025, 0.925, 0.025, 0.025]), pytest.approx([0.925, *[0.025] * 3])]


def test_mixup_is_the_blend_of_pictures_and_targets():
    pixels, targets = batch()
    found, mixed_targets = mixed(pixels, targets, np.random.default_rng(3), mixup=0.8, cutmix=0)
    rng = np.random.default_rng(3)
    rng.random()
    share = rng.beta(0.8, 0.8)
    for row in range(5):
        assert torch.allclose(found[row], share * pixels[row] + (1 - share) * pixels[4 - row], atol=1e-6)
        assert mixed_targets[row, row].item() == pytest.approx(1 if row == 2 else share, abs=1e-6)
    assert torch.allclose(mixed_targets.sum(1), torch.ones(5))


def test_cutmix_pastes_a_box_and_the_share_is_its_area():
    pixels, targets = batch(count=4)
    kept = pixels.clone()
    found, mixed_targets = mixed(pixels, targets, np.random.default_rng(1), mixup=0, cutmix=1.0)
    rng = np.random.default_rng(1)
    rng.random()
    top, bottom, left, right = cutmix_box(8, 8, rng.beta(1.0, 1.0), rng)
    assert 0 < (bottom - top) * (right - left) < 64
    for row, y, x in np.ndindex(4, 8, 8):
        source = 3 - row if top <= y < bottom and left <= x < right else row
        assert torch.equal(found[row, :, y, x], kept[source, :, y, x])
    share = 1 - (bottom - top) * (right - left) / 64
    assert mixed_targets[0].tolist() == pytest.approx([share, 0, 0, 1 - share])
    assert torch.equal(pixels, kept)


def test_boxes_of_cutmix_stay_inside_and_have_the_asked_area_in_the_middle():
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(300):
        top, bottom, left, right = cutmix_box(32, 48, 0.75, rng)
        assert 0 <= top <= bottom <= 32 and 0 <= left <= right <= 48
        areas.append((bottom - top) * (right - left))
    assert max(areas) == 16 * 24  # a quarter of the picture, where no edge cuts it


def test_both_are_drawn_half_of_the_time_and_neither_is_the_identity():
    pixels, targets = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 8, 8), torch.eye(2)
    blends = 0
    for seed in range(200):
        found, _ = mixed(pixels, targets, np.random.default_rng(seed), mixup=0.8, cutmix=1.0)
        blends += bool(((found > 0) & (found < 1)).any())
    assert 80 < blends < 120
    assert mixed(pixels, targets, np.random.default_rng(0), mixup=0, cutmix=0)[0] is pixels


def test_erasing_equals_a_plain_loop():
    pixels, _ = batch(count=12, size=16)
    boxes = erasing_boxes(12, 16, 16, 0.5, np.random.default_rng(0))
    found = erased(pixels, boxes, seed=7)
    noise = torch.empty_like(pixels).normal_(generator=torch.Generator().manual_seed(7))
    expected = pixels.clone()
    for row, (top, bottom, left, right) in enumerate(boxes):
        expected[row, :, top:bottom, left:right] = noise[row, :, top:bottom, left:right]
    assert torch.equal(found, expected)
    assert not torch.equal(found, pixels)


def test_erasing_boxes_have_the_documented_distribution():
    boxes = erasing_boxes(4000, 64, 48, 0.25, np.random.default_rng(0))
    heights, widths = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    erased_rows = heights > 0
    assert 0.23 < erased_rows.mean() < 0.27
    assert boxes.min() >= 0 and boxes[:, 1].max() <= 64 and boxes[:, 3].max() <= 48
    shares = (heights * widths)[erased_rows] / (64 * 48)
    assert 0.015 < shares.min() and shares.max() < 0.36
    assert 0.1 < (shares < 0.08).mean() < 0.3  # about even between 2 % and a third
    pixels, _ = batch()
    assert erased(pixels, erasing_boxes(5, 8, 8, 0.0, np.random.default_rng(0)), seed=0) is pixels
