import numpy as np
import pytest
from PIL import Image

from synclr_hf.images.generators import create_image_generator
from synclr_hf.images.quality import difference, fault, look_at, near_identical

CAPTIONS = (
    "Black wood grain from edge to edge in dim light.",
    "A black robot on a starry night.",
    "A white checkerboard seen from close by.",
    "A banana on the kitchen table.",
    "A lighthouse under a night sky.",
    "A house in the snow.",
)


@pytest.fixture(scope="module")
def toy_pictures():
    """Four pictures of each caption, 64 pixels."""
    draw = create_image_generator("toy").generate
    return [
        list(draw([caption] * 4, seeds=[4 * row + k for k in range(4)], size=64))
        for row, caption in enumerate(CAPTIONS)
    ]


def noisy(level, deviation, size=64, seed=0):
    noise = np.random.default_rng(seed).normal(level, deviation, (size, size, 3))
    return Image.fromarray(noise.clip(0, 255).astype(np.uint8))


def test_toy_pictures_are_good_and_differ(toy_pictures):
    looks = [[look_at(picture) for picture in row] for row in toy_pictures]
    assert {fault(look) for row in looks for look in row} == {None}
    assert min(difference(row[i], row[j]) for row in looks for i in range(4) for j in range(i)) > 2


@pytest.mark.parametrize("size", [16, 50, 256, 300])
def test_black_and_flat_at_any_size(size):
    assert fault(look_at(Image.new("RGB", (size, size)))) == "black"
    assert fault(look_at(noisy(3, 1, size))) == "black"
    for level in ((128, 128, 128), (255, 255, 255), (0, 0, 90)):
        assert fault(look_at(Image.new("RGB", (size, size), level))) == "flat"


def test_noise_of_a_decoder_is_flat_and_a_pattern_is_not():
    assert fault(look_at(noisy(128, 2, 256))) == "flat"
    stripes = np.full((64, 64, 3), 100, dtype=np.uint8)
    stripes[::8, :, 2] += 30  # in one channel only, where grey hardly shows it
    assert fault(look_at(Image.fromarray(stripes))) is None


def test_a_bright_thing_in_the_dark_is_no_black_picture():
    night = Image.new("RGB", (256, 256))
    night.paste((250, 250, 220), (100, 40, 125, 65))
    assert fault(look_at(night)) is None
    speck = Image.new("RGB", (256, 256))
    speck.putpixel((9, 9), (255, 255, 255))
    assert fault(look_at(speck)) == "black"


def test_near_identical_is_the_same_picture_again(toy_pictures, tmp_path):
    picture = toy_pictures[3][0]
    picture.save(tmp_path / "worse.jpg", quality=60)
    moved = Image.fromarray(np.roll(np.asarray(picture), 1, axis=1))
    for again in (picture, Image.open(tmp_path / "worse.jpg"), moved):
        assert near_identical(look_at(picture), look_at(again))
    assert not near_identical(look_at(picture), look_at(toy_pictures[3][1]))
    assert (
        difference(look_at(Image.new("RGB", (64, 64), "black")), look_at(Image.new("RGB", (64, 64), "white"))) == 255
    )
