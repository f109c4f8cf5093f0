"""Pictures of every mode that people have."""

import io

import numpy as np
import pytest
from PIL import Image

from synclr_hf.data.pictures import DECODING_ERRORS, open_picture

RAMP = np.linspace(0, 255, 64, dtype=np.uint8).reshape(8, 8)
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=2)


def stored(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return {"bytes": file.getvalue(), "path": None}


@pytest.mark.parametrize(
    ("picture", "wanted"),
    [
        (Image.fromarray(COLOURS), COLOURS),
        (Image.fromarray(RAMP), np.repeat(RAMP[..., None], 3, axis=2)),
        (Image.fromarray(RAMP).convert("P"), np.repeat(RAMP[..., None], 3, axis=2)),
        (Image.fromarray(RAMP.astype(np.uint16) * 257), np.repeat(RAMP[..., None], 3, axis=2)),
        (Image.fromarray(RAMP.astype(np.int32) * 257), np.repeat(RAMP[..., None], 3, axis=2)),
        (Image.fromarray(RAMP.astype(np.int32)), np.repeat(RAMP[..., None], 3, axis=2)),
        (
            Image.merge("LA", [Image.fromarray(RAMP), Image.new("L", (8, 8), 255)]),
            np.repeat(RAMP[..., None], 3, axis=2),
        ),
        (Image.new("LA", (8, 8), (7, 0)), np.full((8, 8, 3), 255)),
        (Image.fromarray(COLOURS).convert("CMYK"), COLOURS),
        (Image.new("1", (8, 8), 1), np.full((8, 8, 3), 255)),
        (Image.new("RGB", (1, 1), (1, 2, 3)), np.array([[[1, 2, 3]]])),
    ],
    ids=["RGB", "L", "P", "16 bit", "I of 16 bit", "I of 8 bit", "LA", "LA, nothing seen", "CMYK", "1", "1x1"],
)
def test_every_mode_becomes_rgb(picture, wanted):
    for given in (picture, stored(picture, "TIFF")):
        image = open_picture(given)
        assert image.mode == "RGB"
        np.testing.assert_allclose(np.asarray(image).astype(int), wanted, atol=1)


def test_a_picture_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    image = open_picture(stored(Image.new("RGB", (40, 20)), "JPEG", exif=exif))
    assert image.size == (20, 40)


@pytest.mark.parametrize(
    "given", [b"", b"no picture", {"bytes": None, "path": None}, {"bytes": b"\x89PNG\r\n", "path": None}]
)
def test_what_is_no_picture_raises_what_callers_expect(given):
    with pytest.raises(DECODING_ERRORS):
        open_picture(given)
