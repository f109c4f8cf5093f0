from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from transformers import BitImageProcessorPil

from synclr_hf.data.pictures import open_picture
from synclr_hf.evaluation.pictures import picture_array, prepared_batches, resize_and_crop


def noise(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)


def jpeg(image):
    file = BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.mark.parametrize("size", [(64, 64), (100, 60), (61, 97), (40, 200)])
def test_pixels_are_those_of_the_image_processor(size):
    image = noise(*size)
    processor = BitImageProcessorPil(
        size={"shortest_edge": 48},
        crop_size={"height": 48, "width": 48},
        resample=3,
        do_rescale=False,
        do_normalize=False,
    )
    expected = np.asarray(processor(image, return_tensors="np")["pixel_values"][0]).transpose(1, 2, 0)
    found = np.asarray(resize_and_crop(image, 48))
    assert found.shape == (48, 48, 3)
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


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
