import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_evaluation import masked

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.masked_images import IGNORED, MaskedImages
from synclr_hf.evaluation.segmentation.crops import _YIQ, SegmentationCrops, distorted, scaled_size


def crops(data, **changes):
    settings = {"length": 40, "crop_size": 24, "short_side": 32, "seed": 0}
    settings |= {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.25, 0.25, 0.25)}
    return SegmentationCrops(data, **{**settings, **changes})


def test_crops_follow_from_seed_and_number():
    ours, other = crops(masked(6, 0)), pickle.loads(pickle.dumps(crops(masked(6, 0))))
    for number in (0, 7, 39):
        assert torch.equal(ours[number]["pixel_values"], other[number]["pixel_values"])
        assert torch.equal(ours[number]["labels"], other[number]["labels"])
    assert not torch.equal(ours[0]["pixel_values"], ours[6]["pixel_values"])
    assert not torch.equal(ours[0]["pixel_values"], crops(masked(6, 0), seed=1)[0]["pixel_values"])


def test_masks_go_with_their_pictures_through_scale_crop_and_flip():
    """Red pixels have class 0, blue ones class 1, also behind every change of the place."""
    right = total = 0
    for item in (crops(masked(6, 0))[number] for number in range(40)):
        pixels, labels = item["pixel_values"], item["labels"]
        assert pixels.shape == (3, 24, 24)
        assert labels.shape == (24, 24)
        counted = labels != IGNORED
        assert counted.any()
        smooth = torch.nn.functional.avg_pool2d(pixels[None], 5, 1, 2)[0]
        guess = (smooth[2] > smooth[0]).long()
        right, total = right + int((guess == labels)[counted].sum()), total + int(counted.sum())
    assert right / total > 0.9


def test_small_pictures_are_filled_with_pixels_that_do_not_count():
    item = crops(masked(2, 0, size=8), short_side=0, crop_size=24)[0]
    filling = item["labels"] == IGNORED
    assert filling.sum() >= 24 * 24 - 16 * 16
    corner = item["pixel_values"][:, 20:].abs()
    assert corner.max() == 0  # the mean colour


def test_every_crop_has_a_pixel_that_counts():
    mask = np.full((40, 60), IGNORED, dtype=np.uint8)
    mask[39, 59] = 1
    picture = Image.new("RGB", (60, 40), "red")
    nothing = np.full((40, 60), IGNORED, dtype=np.uint8)
    data = MaskedImages([picture, b"broken", picture], [nothing, nothing, mask], ("a", "b"), "rare")
    for number in range(12):
        for short_side in (64, 20):  # larger, and so small that the pixel is lost
            assert (crops(data, short_side=short_side)[number]["labels"] == 1).any()
    empty = MaskedImages([picture], [nothing], ("a", "b"), "empty")
    with pytest.raises(UserInputError, match="none of the 1 train pictures can be read and has a pixel that counts"):
        crops(empty)[0]


def test_sizes_follow_the_short_side():
    assert scaled_size(240, 320, 512) == (512, 683)
    assert scaled_size(240, 320, 0) == (240, 320)
    assert scaled_size(100, 1000, 50) == (50, 200)  # four short sides at most


def test_distortion_keeps_the_range_and_often_changes_something():
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (6, 5, 3)).astype(np.uint8)
    found = [distorted(pixels, generator) for _ in range(64)]
    assert all(one.dtype == np.float32 and one.min() >= 0 and one.max() <= 255 for one in found)
    same = sum(np.allclose(one, pixels, atol=0.6) for one in found)
    assert same <= 12  # a sixteenth on average
    assert same >= 1


def test_hue_turns_as_far_as_in_mmsegmentation():
    """18 of OpenCV's 180 steps of a whole turn are 36 degrees."""
    pixels = np.uint8([[[180, 100, 90]]])
    _, first, second = _YIQ @ pixels[0, 0]
    turns = []
    for seed in range(300):
        _, i, q = _YIQ @ distorted(pixels, np.random.default_rng(seed))[0, 0]
        turns.append(np.rad2deg(np.angle((i + 1j * q) / (first + 1j * second))))
    assert 34 < max(turns) < 36.5 and -36.5 < min(turns) < -34
