import pytest
import torch
import torch.nn.functional as F

from synclr_hf.evaluation.segmentation.upsampling import upsampled_classes, upsampled_strips
from synclr_hf.evaluation.segmentation.windows import sliding_logits, window_starts


def place_dependent(crops):
    """Two classes whose logits depend on the place in the window, so that an average differs from either window."""
    ramp = torch.arange(crops.shape[-1]).float()
    return torch.stack([crops[:, 0] * ramp, crops.sum(dim=1) + ramp[:, None]], dim=1)


def naive(pixels, window, stride):
    height, width = pixels.shape[1:]
    filled = torch.zeros(3, max(height, window), max(width, window))
    filled[:, :height, :width] = pixels
    sums, counts = torch.zeros(2, *filled.shape[1:]), torch.zeros(filled.shape[1:])
    for top in window_starts(filled.shape[1], window, stride):
        for left in window_starts(filled.shape[2], window, stride):
            area = (slice(top, top + window), slice(left, left + window))
            sums[:, *area] += place_dependent(filled[:, *area][None])[0]
            counts[area] += 1
    return (sums / counts)[:, :height, :width]


def test_the_last_window_ends_at_the_border():
    assert window_starts(10, 4, 3) == [0, 3, 6]
    assert window_starts(11, 4, 3) == [0, 3, 6, 7]
    assert window_starts(4, 4, 3) == [0]
    assert window_starts(683, 512, 341) == [0, 171]


def test_one_window_that_covers_the_picture_is_the_prediction():
    pixels = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = torch.cat(list(sliding_logits(place_dependent, pixels, window=8, stride=5)), dim=1)
    assert torch.equal(found, place_dependent(pixels[None])[0])


@pytest.mark.parametrize("size", [(8, 8), (5, 20), (23, 9), (17, 31), (3, 4)])
@pytest.mark.parametrize("stride", [3, 5, 8])
def test_overlapping_windows_are_averaged_as_a_loop_does(size, stride):
    pixels = torch.randn(3, *size, generator=torch.Generator().manual_seed(1))
    strips = list(sliding_logits(place_dependent, pixels, window=8, stride=stride, batch_size=2))
    assert max(strip.shape[1] for strip in strips) <= 8  # no more than a window's height is held
    found = torch.cat(strips, dim=1)
    assert found.shape == (2, *size)
    torch.testing.assert_close(found, naive(pixels, 8, stride))


@pytest.mark.parametrize("size", [(7, 5), (40, 31), (4, 3), (2, 9)])
def test_strips_are_the_bilinear_up_sampling_of_torch(size):
    maps = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(2))
    whole = F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
    strips = list(upsampled_strips(maps, size, numbers_at_once=30))
    assert len(strips) > 1
    torch.testing.assert_close(torch.cat(strips, dim=1), whole)
    assert torch.equal(upsampled_classes(maps, size), whole.argmax(dim=0))
