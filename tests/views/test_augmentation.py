"""The fast forms of the augmentation, on a CPU and for a device, against the plain one."""

import numpy as np
import pytest
import torch
from PIL import Image
from pretend_device import OnDevice, Waits

from synclr_hf.errors import UserInputError
from synclr_hf.views import ViewsConfig, augment
from synclr_hf.views.augment_on_device import augment_batch, constants
from synclr_hf.views.augment_on_host import ELEMENTS_AT_ONCE, PIECE
from synclr_hf.views.photometric import (
    BRIGHTNESS,
    CONTRAST,
    HUE,
    ORDER,
    SATURATION,
    SOLARIZE,
    draw_parameters,
)


def smooth(rng, batch, height, width):
    """Colourful pictures as natural ones are: smooth, with values that reach 0 and 255."""
    pictures = [
        Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
        for _ in range(batch)
    ]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def drawn(rng, batch, local=False):
    return torch.from_numpy(np.stack([draw_parameters(ViewsConfig(), local, rng) for _ in range(batch)]))


def on_device(pixels, parameters):
    """The function for a device, as it is before it is compiled."""
    return augment_batch(pixels, parameters, *constants(pixels.device))


FORMS = {"host": augment, "device": on_device}


def check(found, pixels, parameters):
    """Compare with the plain form; a value on the brink of solarisation may fall to either side of it."""
    expected = augment(pixels, parameters, implementation="plain")
    assert found.shape == expected.shape and found.dtype == torch.float32 and found.isfinite().all()
    wrong = (found - expected).abs() > 2e-5
    brink = (parameters[:, SOLARIZE, None, None, None] > 0) & ((found + expected).abs() < 10) & wrong
    assert (wrong & ~brink).sum() == 0 and brink.sum() <= 1e-4 * found.numel()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("height", "width", "batch", "local"),
    [(32, 32, 60, False), (24, 24, 60, True), (5, 7, 40, False), (2 * PIECE + 3, PIECE + 1, 12, False)],
)
def test_fast_equals_plain(form, height, width, batch, local):
    rng = np.random.default_rng(height)
    pixels, parameters = smooth(rng, batch, height, width), drawn(rng, batch, local)
    before = pixels.clone()
    check(FORMS[form](pixels, parameters), pixels, parameters)
    assert torch.equal(pixels, before)
    channels_last = pixels.contiguous(memory_format=torch.channels_last)
    assert torch.equal(FORMS[form](channels_last, parameters), FORMS[form](pixels, parameters))


@pytest.mark.parametrize("form", FORMS)
def test_every_order_and_strong_changes(form):
    rng = np.random.default_rng(0)
    pixels, parameters = smooth(rng, 48, 12, 12), drawn(rng, 48)
    parameters[:, ORDER] = torch.arange(48) % 24
    parameters[:, BRIGHTNESS : SATURATION + 1] = torch.from_numpy(rng.uniform(0, 2.5, (48, 3))).float()
    parameters[:, HUE] = torch.from_numpy(rng.uniform(-0.6, 0.6, 48)).float()
    check(FORMS[form](pixels, parameters), pixels, parameters)


@pytest.mark.parametrize("form", FORMS)
def test_one_operation_of_the_four_alone(form):
    rng = np.random.default_rng(1)
    pixels, parameters = smooth(rng, 5, 12, 12), torch.zeros(5, 9)
    parameters[:, [BRIGHTNESS, CONTRAST, SATURATION]] = 1
    for row, column in enumerate((BRIGHTNESS, CONTRAST, SATURATION, HUE)):
        parameters[row, column] += 0.15
    found = FORMS[form](pixels, parameters)
    check(found, pixels, parameters)
    untouched = augment(pixels, parameters[4:].expand(5, -1))
    assert ((found - untouched).abs().amax((1, 2, 3)) > 0.05).tolist() == [True] * 4 + [False]


@pytest.mark.parametrize("form", FORMS)
def test_pictures_without_colour_or_light(form):
    """Grey has no hue, black no saturation; corners of the colour cube have equal channels."""
    shades = [(0, 0, 0), (255, 255, 255), (99, 99, 99), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    shades += [(0, 255, 255), (255, 0, 255), (128, 128, 7), (7, 128, 128), (128, 7, 128)]
    pixels = torch.tensor(shades, dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 8, 8).repeat(5, 1, 1, 1)
    parameters = drawn(np.random.default_rng(2), len(pixels))
    parameters[:, SOLARIZE] = 0  # a flat picture on the brink would fall as a whole
    check(FORMS[form](pixels, parameters), pixels, parameters)


def test_a_picture_larger_than_a_group_and_an_empty_batch():
    side = int((ELEMENTS_AT_ONCE / 3) ** 0.5) + 8
    rng = np.random.default_rng(3)
    pixels, parameters = smooth(rng, 2, side, side), drawn(rng, 2)
    check(augment(pixels, parameters), pixels, parameters)
    assert augment(pixels[:0], parameters[:0]).shape == (0, 3, side, side)


def test_the_form_for_a_device_never_makes_the_host_wait():
    rng = np.random.default_rng(4)
    pixels, parameters = smooth(rng, 8, 16, 16), drawn(rng, 8)
    expected = on_device(pixels, parameters)
    there = OnDevice(pixels), OnDevice(parameters)
    with Waits():
        augment(*there)  # copies its constants once
    with Waits() as waits, torch.no_grad():
        found = augment(*there)
    assert waits.seen == [] and isinstance(found, OnDevice) and torch.equal(found.held, expected)
    with Waits() as waits:
        there[1].nonzero()
    assert waits.seen == ["nonzero"], "waits are seen where there are some"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
@pytest.mark.parametrize("size", [32, 17])
def test_compiled_equals_plain(size):
    rng = np.random.default_rng(5)
    pixels, parameters = smooth(rng, 24, size, size), drawn(rng, 24)
    parameters[:, ORDER] = torch.arange(24)
    compiled = torch.compile(augment_batch.__wrapped__, dynamic=False, fullgraph=True)
    check(compiled(pixels, parameters, *constants(pixels.device)), pixels, parameters)


def test_a_mistyped_implementation():
    with pytest.raises(
        UserInputError, match="unknown implementation 'fats' .did you mean 'fast'.*type implementation"
    ):
        augment(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 9), implementation="fats")
