import numpy as np
import pytest

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.protocols.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from synclr_hf.evaluation.protocols.textures import (
    convolved,
    disk_kernel,
    gaussian_kernel,
    motion_kernel,
    octave_noise,
    sampled,
)


def scene(size, seed=0):
    """Clouds of colour with the falling spectrum of a photograph, and a bright disk with an edge."""
    generator = np.random.default_rng(seed)
    clouds = 0.1 + 0.7 * np.stack([octave_noise((size, size), 1.4, generator) for _ in range(3)], axis=-1)
    rows, columns = np.mgrid[:size, :size] / size
    clouds[np.hypot(rows - 0.4, columns - 0.5) < 0.2] = (0.9, 0.8, 0.3)
    return np.rint(clouds * 255).astype(np.uint8)


SCENE = scene(96)
DRAWN = (
    "gaussian_noise shot_noise impulse_noise glass_blur motion_blur snow frost fog elastic".split()  # by the generator
)


def change(kind, before, after):
    """Return how much a corruption changed: levels, or structure where a layer is mixed in, which may keep levels."""
    before, after = before.astype(float), after.astype(float)
    if kind in ("frost", "fog"):
        return 100 * (1 - np.corrcoef(before.ravel(), after.ravel())[0, 1])
    return np.abs(after - before).mean()


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_repeats_keeps_the_shape_and_grows_with_severity(kind):
    before = SCENE.copy()
    made = [corrupted(SCENE, kind, severity, seed=5) for severity in SEVERITIES]
    assert np.array_equal(SCENE, before)
    assert all(picture.shape == (96, 96, 3) and picture.dtype == np.uint8 for picture in made)
    assert np.array_equal(made[2], corrupted(SCENE, kind, 3, seed=5))
    changes = [change(kind, SCENE, picture) for picture in made]
    assert changes[0] > 1 and changes == sorted(set(changes)), changes


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(8, 8), (24, 40)])
def test_small_and_oblong_pictures_are_corrupted_too(kind, shape):
    pixels = scene(40)[: shape[0], : shape[1]]
    for severity in (1, 5):
        made = corrupted(pixels, kind, severity, seed=0)
        assert made.shape == pixels.shape and made.dtype == np.uint8
    assert not np.array_equal(made, pixels)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_seed_decides_what_is_drawn(kind):
    same = np.array_equal(corrupted(SCENE, kind, 3, seed=1), corrupted(SCENE, kind, 3, seed=2))
    assert same == (kind not in DRAWN)


def test_brightness_contrast_and_noise_have_the_published_strengths():
    grey = np.full((64, 64, 3), 128, dtype=np.uint8)
    assert corrupted(grey, "brightness", 2, seed=0).mean() == pytest.approx(128 + 0.2 * 255, abs=1)
    assert corrupted(grey, "gaussian_noise", 1, seed=0).std() == pytest.approx(0.08 * 255, rel=0.05)
    assert corrupted(grey, "shot_noise", 1, seed=0).std() == pytest.approx((128 / 255 / 60) ** 0.5 * 255, rel=0.05)
    hit = corrupted(grey, "impulse_noise", 5, seed=0)
    assert (hit == 0).mean() == pytest.approx(0.135, abs=0.01) and (hit == 255).mean() == pytest.approx(
        0.135, abs=0.01
    )
    assert corrupted(SCENE, "contrast", 1, seed=0).std(axis=(0, 1)) == pytest.approx(
        0.4 * SCENE.std(axis=(0, 1)), rel=0.02
    )


def test_colour_stays_where_a_picture_gets_brighter():
    pixels = np.full((4, 4, 3), (100, 50, 25), dtype=np.uint8)
    assert corrupted(pixels, "brightness", 3, seed=0)[0, 0] == pytest.approx(np.array([100, 50, 25]) * 1.765, abs=1)


def test_convolution_is_that_of_a_plain_loop():
    generator = np.random.default_rng(0)
    values, kernel = generator.random((6, 7, 2)), generator.random((3, 3))
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="symmetric")
    expected = np.zeros_like(values)
    for row, column, down, right in np.ndindex(6, 7, 3, 3):
        expected[row, column] += padded[row + 2 - down, column + 2 - right] * kernel[down, right]
    np.testing.assert_allclose(convolved(values, kernel), expected)


def test_kernels_sum_to_one_and_have_their_shape():
    for kernel in (gaussian_kernel(1.5), disk_kernel(4, 0.5), motion_kernel(10, 5, 30), disk_kernel(0.2, 0.02)):
        assert kernel.sum() == pytest.approx(1) and kernel.shape[0] == kernel.shape[1] and kernel.shape[0] % 2
    line = motion_kernel(10, 1000, 0)
    assert line.sum(axis=1).max() == pytest.approx(1)  # all of it in one row
    assert line[line.shape[0] // 2, line.shape[0] // 2 + 1 :].sum() > 0.9  # on one side of the middle


def test_a_picture_read_at_its_own_pixels_is_itself():
    values = np.random.default_rng(0).random((5, 6, 3))
    rows, columns = np.mgrid[:5, :6]
    np.testing.assert_allclose(sampled(values, rows, columns), values)
    between = sampled(values, np.array([[1.5]]), np.array([[2.0]]))
    np.testing.assert_allclose(between[0, 0], (values[1, 2] + values[2, 2]) / 2)
    np.testing.assert_allclose(sampled(values, np.array([[-9.0]]), np.array([[99.0]]))[0, 0], values[0, 5])


def test_unknown_kinds_and_severities_say_so():
    with pytest.raises(UserInputError, match="unknown corruption 'fogg' .did you mean 'fog'"):
        corrupted(SCENE, "fogg", 1, seed=0)
    with pytest.raises(UserInputError, match="unknown severity '6'.*allowed: 1, 2, 3, 4, 5"):
        corrupted(SCENE, "fog", 6, seed=0)
