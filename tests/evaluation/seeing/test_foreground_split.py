"""Foreground by the first component: on pictures where the truth is known."""

import numpy as np
import pytest
import torch

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.seeing.foreground_split import (
    OTSU,
    border_patches,
    foreground_split,
    otsu_threshold,
    read_threshold,
)


def things(seed=0, turned=1.0, shapes=((8, 10), (12, 6), (9, 9))):
    """Patch features of pictures with a thing in the middle, and where it is; `turned` = -1 swaps the two sides."""
    generator = torch.Generator().manual_seed(seed)
    apart = turned * torch.tensor([3.0, -2.0, 1.0, 0.0, 0.0])
    maps, truths = [], []
    for height, width in shapes:
        truth = torch.zeros(height, width, dtype=torch.bool)
        truth[2 : height - 1, 2 : width - 2] = True
        noise = torch.randn(height, width, 5, generator=generator) * 0.4
        maps.append(noise + truth[..., None] * apart + 0.7)
        truths.append(truth)
    return maps, truths


@pytest.mark.parametrize("turned", [1.0, -1.0])
@pytest.mark.parametrize("threshold", [0, "0.0", OTSU])
def test_the_thing_is_found_whatever_the_sign_of_the_component(turned, threshold):
    maps, truths = things(turned=turned)
    split = foreground_split(maps, threshold)
    for patches, truth in zip(maps, truths, strict=True):
        assert float((split.is_foreground(patches) == truth).double().mean()) > 0.97


def test_a_thing_that_touches_one_edge_is_still_the_foreground():
    maps, truths = things(shapes=((10, 10),) * 3)
    for patches, truth in zip(maps, truths, strict=True):
        patches[-1, 3:8], truth[-1, 3:8] = patches[-2, 3:8], True
    split = foreground_split(maps)
    assert all(
        float((split.is_foreground(one) == truth).double().mean()) > 0.97
        for one, truth in zip(maps, truths, strict=True)
    )


def test_thresholds_are_standard_deviations_towards_the_foreground():
    maps, _ = things()
    flat = torch.cat([one.flatten(0, 1) for one in maps])
    split = foreground_split(maps, 0.3)
    scores = (flat.double() - split.mean) @ split.direction
    assert abs(float(scores.mean())) < 1e-9 and abs(float(scores.std(unbiased=False)) - 1) < 1e-9
    assert torch.equal(split.is_foreground(flat), scores > 0.3)
    found = [int(foreground_split(maps, value).is_foreground(flat).sum()) for value in (-1, 0, 0.5, 1)]
    assert found == sorted(found, reverse=True) and found[0] > found[-1]


def test_border_patches():
    assert border_patches(3, 4).tolist() == [[True] * 4, [True, False, False, True], [True] * 4]
    assert border_patches(1, 3).all() and border_patches(2, 2).all()


def test_otsu_equals_a_search_over_all_cuts():
    values = torch.cat([torch.randn(70), torch.randn(30) * 0.5 + 4]).double()
    within = {}
    for cut in values.tolist():
        low, high = values[values <= cut], values[values > cut]
        if len(high):
            within[cut] = len(low) * low.var(unbiased=False) + len(high) * high.var(unbiased=False)
    best = min(within, key=within.get)
    assert torch.equal(values > otsu_threshold(values), values > best)
    assert otsu_threshold(torch.tensor([2.0, 2.0, 2.0])) == 2.0
    assert otsu_threshold(torch.tensor([1.0])) == 1.0


def test_constant_features_do_not_break_the_split():
    split = foreground_split([torch.ones(3, 3, 4)], OTSU)
    assert np.isfinite(split.threshold) and torch.isfinite(split.direction).all()


def test_a_threshold_that_is_none_is_refused():
    assert read_threshold("-0.5") == -0.5 and read_threshold("otsu") == OTSU
    for typed in ("half", "nan", ""):
        with pytest.raises(UserInputError, match=f"--threshold '{typed}' is no threshold; allowed: none, otsu"):
            read_threshold(typed)
