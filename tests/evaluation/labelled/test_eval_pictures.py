import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from transformers import BitImageProcessorPil

from synclr_hf.data.pictures import open_picture
from synclr_hf.evaluation.labelled.pictures import (
    PLAIN,
    Resizing,
    picture_array,
    prepared_batches,
    prepared_places,
    resize_and_crop,
)


def noise(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)


def jpeg(image):
    file = BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.mark.parametrize("resizing", [PLAIN, Resizing(56), Resizing(56, resample="bilinear")])
@pytest.mark.parametrize("size", [(64, 64), (100, 60), (61, 97), (40, 200), (30, 400)])
def test_pixels_are_those_of_the_image_processor(size, resizing):
    image = noise(*size)
    processor = BitImageProcessorPil(
        size={"shortest_edge": resizing.short_side or 48},
        crop_size={"height": 48, "width": 48},
        resample=Image.Resampling[resizing.resample.upper()],
        do_rescale=False,
        do_normalize=False,
    )
    expected = np.asarray(processor(image, return_tensors="np")["pixel_values"][0]).transpose(1, 2, 0)
    found = np.asarray(resize_and_crop(image, 48, resizing))
    assert found.shape == (48, 48, 3)
    # of a very long picture only the crop is computed
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= (1 if max(size) > 4 * min(size) else 0)


def test_squashed_pixels_are_those_of_the_image_processor():
    image = noise(100, 60)
    whole = np.asarray(image.resize((56, 56), Image.Resampling.BICUBIC))
    assert np.array_equal(resize_and_crop(image, 48, Resizing(56, squashes=True)), whole[4:52, 4:52])
    assert np.array_equal(resize_and_crop(image, 56, Resizing(squashes=True)), whole)
    rounded = resize_and_crop(image, 49, Resizing(56, squashes=True, rounds_corner=True))  # torchvision: 3.5 becomes 4
    assert np.array_equal(rounded, whole[4:53, 4:53])
    assert np.array_equal(resize_and_crop(image, 49, Resizing(56, squashes=True)), whole[3:52, 3:52])


def test_extreme_shapes_stay_small():
    assert resize_and_crop(Image.new("RGB", (60_000, 2)), 64).size == (64, 64)


def test_every_kind_of_source_gives_the_same_picture(tmp_path):
    encoded = jpeg(noise(40, 40))
    file = tmp_path / "a.jpg"
    file.write_bytes(encoded)
    sources = [encoded, {"bytes": encoded, "path": None}, {"bytes": None, "path": str(file)}, file]
    arrays = [picture_array(source, 32) for source in sources]
    assert all(np.array_equal(array, arrays[0]) for array in arrays)


def test_transparency_becomes_white_and_grey_becomes_rgb():
    assert open_picture(Image.new("RGBA", (4, 4), (255, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert open_picture(Image.new("L", (4, 4), 7)).getpixel((0, 0)) == (7, 7, 7)


def test_unreadable_pictures_are_left_out():
    good = jpeg(noise(40, 40))
    pictures = [good, b"no picture", good[: len(good) // 2], {"bytes": None, "path": None}, good]
    batches = list(prepared_batches(pictures, size=16, batch_size=2))
    assert [rows.tolist() for rows, _ in batches] == [[0], [], [4]]
    assert np.array_equal(batches[0][1], batches[2][1])


class Watched(list):
    """Pictures that say which of them have been read."""

    def __init__(self, pictures):
        super().__init__(pictures)
        self.read = []

    def __getitem__(self, place):
        self.read.append(place)
        return super().__getitem__(place)


def test_the_next_batches_are_prepared_meanwhile_and_no_more():
    pictures = Watched([jpeg(noise(40, 40))] * 20)
    batches = prepared_batches(pictures, size=16, batch_size=2)
    next(batches)
    until = time.monotonic() + 10
    while len(pictures.read) < 6 and time.monotonic() < until:
        time.sleep(0.01)
    assert sorted(pictures.read) == list(range(6))  # the batch in hand and two more
    batches.close()
    assert len(pictures.read) == 6


def test_chosen_places_and_errors_of_reading():
    images = [noise(40, 40, seed) for seed in range(5)]
    found = dict(zip("ab", prepared_places(images, [range(1, 2), range(3, 5)], size=16), strict=True))
    assert found["a"][0].tolist() == [1] and found["b"][0].tolist() == [3, 4]
    assert np.array_equal(found["b"][1][1].numpy(), picture_array(images[4], 16))
    with pytest.raises(IndexError):  # the data set is broken, not a picture of it
        list(prepared_places(images, [range(4, 6)], size=16))
