"""The batched augmentation against Pillow and against itself, image by image."""

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from synclr_hf.data.pictures import IMAGENET_MEAN, IMAGENET_STD
from synclr_hf.views import ViewsConfig, augment
from synclr_hf.views.photometric import (
    BRIGHTNESS,
    CONTRAST,
    FLIP,
    GRAY,
    HUE,
    JITTER_ORDERS,
    ORDER,
    SATURATION,
    SIGMA,
    SOLARIZE,
    draw_parameters,
    gaussian_blur,
    shift_hue,
)


@pytest.fixture
def picture():
    """Smooth colours, as natural pictures have."""
    noise = np.random.default_rng(0).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((32, 32), Image.Resampling.BICUBIC)


def plain(batch=1):
    parameters = torch.zeros(batch, 9)
    parameters[:, [BRIGHTNESS, CONTRAST, SATURATION]] = 1
    return parameters


def to_tensor(image):
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]


def augmented(image, **changes):
    """Augment one picture and undo the normalisation; uint8 levels as floats."""
    parameters = plain()
    for column, value in changes.items():
        parameters[0, globals()[column]] = value
    values = augment(to_tensor(image), parameters)
    mean, std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]
    return (values[0] * std + mean) * 255


@pytest.mark.parametrize(
    ("changes", "by_pillow", "tolerance"),
    [
        ({}, lambda image: image, 1e-3),
        ({"FLIP": 1}, ImageOps.mirror, 1e-3),
        ({"BRIGHTNESS": 1.3}, lambda image: ImageEnhance.Brightness(image).enhance(1.3), 1.01),
        ({"CONTRAST": 0.6}, lambda image: ImageEnhance.Contrast(image).enhance(0.6), 1.5),
        ({"SATURATION": 1.2}, lambda image: ImageEnhance.Color(image).enhance(1.2), 1.5),
        ({"GRAY": 1}, lambda image: image.convert("L").convert("RGB"), 1.01),
        ({"SOLARIZE": 1}, lambda image: ImageOps.solarize(image, 128), 1e-3),
    ],
)
def test_equals_pillow_up_to_its_rounding(picture, changes, by_pillow, tolerance):
    expected = to_tensor(by_pillow(picture))[0].float()
    assert (augmented(picture, **changes) - expected).abs().max() <= tolerance
    if changes:
        assert (expected - to_tensor(picture)[0].float()).abs().max() > 5, "the operation must do something here"


def test_hue_equals_the_standard_library():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(6, 3, 2, 2, generator=generator)
    pixels[0] = 0.4  # grey has no hue
    turns = torch.tensor([0.1, -0.1, 0.05, 0.3, -0.45, 0.0])
    found = shift_hue(pixels, turns)
    for image in range(6):
        for y in range(2):
            for x in range(2):
                h, s, v = colorsys.rgb_to_hsv(*pixels[image, :, y, x].tolist())
                expected = colorsys.hsv_to_rgb((h + turns[image].item()) % 1, s, v)
                assert found[image, :, y, x].tolist() == pytest.approx(expected, abs=1e-5)


def test_blur_smooths_keeps_the_mean_and_depends_on_sigma(picture):
    pixels = to_tensor(picture).float().expand(2, -1, -1, -1) / 255
    weak, strong = gaussian_blur(pixels, torch.tensor([0.1, 2.0]))
    torch.testing.assert_close(weak, pixels[0], atol=1e-4, rtol=0)
    by_pillow = to_tensor(picture.filter(ImageFilter.GaussianBlur(2.0)))[0].float() / 255
    assert (strong - by_pillow)[:, 6:-6, 6:-6].abs().max() < 0.03
    assert strong.mean().item() == pytest.approx(pixels[0].mean().item(), abs=0.02)


def test_jitter_follows_the_order_of_each_image(picture):
    both = to_tensor(picture).expand(2, -1, -1, -1)
    parameters = plain(2)
    parameters[:, BRIGHTNESS], parameters[:, CONTRAST] = 1.6, 0.4
    orders = JITTER_ORDERS.tolist()
    parameters[0, ORDER], parameters[1, ORDER] = orders.index([0, 1, 2, 3]), orders.index([1, 0, 2, 3])
    first, second = augment(both, parameters)
    assert (first - second).abs().max() > 0.05
    for row, found in enumerate((first, second)):
        alone = augment(both[:1], parameters[row : row + 1])[0]
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)


def test_an_image_does_not_see_its_neighbours_in_the_batch():
    rng = np.random.default_rng(1)
    pixels = torch.from_numpy(rng.integers(0, 256, (16, 3, 24, 24), dtype=np.uint8))
    parameters = torch.from_numpy(np.stack([draw_parameters(ViewsConfig(), False, rng) for _ in range(16)]))
    together = augment(pixels, parameters)
    alone = torch.cat([augment(pixels[i : i + 1], parameters[i : i + 1]) for i in range(16)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_parameters_have_the_distributions_of_the_reference():
    rng = np.random.default_rng(2)
    drawn = np.stack([draw_parameters(ViewsConfig(), False, rng) for _ in range(4000)])
    jittered = drawn[:, BRIGHTNESS] != 1
    blurred = drawn[:, SIGMA] > 0
    rates = {"flip": drawn[:, FLIP], "jitter": jittered, "gray": drawn[:, GRAY], "solarize": drawn[:, SOLARIZE]}
    expected = {"flip": 0.5, "jitter": 0.8, "gray": 0.2, "solarize": 0.1}
    for name, rate in expected.items():
        assert rates[name].mean() == pytest.approx(rate, abs=0.03), name
    assert blurred.mean() == pytest.approx(0.55, abs=0.03)
    assert np.abs(drawn[:, HUE]).max() == pytest.approx(0.1, abs=0.005)
    assert drawn[jittered, BRIGHTNESS].min() >= 0.6 and drawn[jittered, SATURATION].max() <= 1.2
    assert len(np.unique(drawn[jittered, ORDER])) == 24
    local = np.stack([draw_parameters(ViewsConfig(), True, rng) for _ in range(2000)])
    assert (local[:, SIGMA] > 0).mean() == pytest.approx(0.5, abs=0.04) and local[:, SOLARIZE].max() == 0
