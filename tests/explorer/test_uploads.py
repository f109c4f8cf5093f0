"""Strangers' pictures: what is taken comes out right, what is not is told in one line and costs nothing."""

import tracemalloc

import numpy as np
import pytest
from bad_uploads import BAD, PHOTO, encoded
from PIL import Image

from synclr_hf.data.pictures import open_picture
from synclr_hf.errors import UserInputError
from synclr_hf.explorer import uploads
from synclr_hf.explorer.uploads import MAX_SIDE, read_upload


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_and_why(tmp_path, name):
    content, words = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserInputError) as error:
        read_upload(tmp_path / name)
    assert words in str(error.value) and str(tmp_path) not in str(error.value)


def test_nothing_a_folder_and_a_file_that_is_gone(tmp_path):
    for file, words in ((None, "no picture yet"), (tmp_path, "not there any more"), (tmp_path / "x", "not there")):
        with pytest.raises(UserInputError, match=words):
            read_upload(file)


def test_too_many_bytes_are_refused_before_the_file_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_BYTES", 1 << 20)
    (tmp_path / "large.jpg").write_bytes(b"\xff\xd8" + b"\0" * (2 << 20))
    with pytest.raises(UserInputError, match="2 MiB, at most 1 are taken"):
        read_upload(tmp_path / "large.jpg")


def test_a_bomb_is_not_decoded(tmp_path):
    (tmp_path / "bomb.png").write_bytes(BAD["bomb.png"][0])
    tracemalloc.start()
    with pytest.raises(UserInputError):
        read_upload(tmp_path / "bomb.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_still_pictures_of_every_kind(tmp_path, kind):
    (tmp_path / "picture").write_bytes(encoded(PHOTO, kind))
    read = read_upload(tmp_path / "picture")
    assert read.mode == "RGB" and read.size == PHOTO.size
    assert (np.asarray(read) == np.asarray(open_picture(encoded(PHOTO, kind)))).all()


def test_large_pictures_are_reduced_and_stay_what_they_were(tmp_path):
    left = Image.new("RGB", (5000, 3000), (200, 0, 0))
    left.paste((0, 0, 200), (2500, 0, 5000, 3000))
    for kind in ("JPEG", "PNG"):
        (tmp_path / "large").write_bytes(encoded(left, kind))
        read = read_upload(tmp_path / "large")
        assert max(read.size) == MAX_SIDE and abs(read.width / read.height - 5 / 3) < 0.01
        assert np.allclose(read.getpixel((100, 100)), (200, 0, 0), atol=4)
        assert np.allclose(read.getpixel((read.width - 100, 100)), (0, 0, 200), atol=4)


def test_upright_and_on_white(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "turned.jpg").write_bytes(encoded(PHOTO, "JPEG", exif=exif))
    assert read_upload(tmp_path / "turned.jpg").size == PHOTO.size[::-1]
    (tmp_path / "clear.png").write_bytes(encoded(Image.new("RGBA", (30, 30), (0, 0, 0, 0)), "PNG"))
    assert read_upload(tmp_path / "clear.png").getpixel((5, 5)) == (255, 255, 255)
    (tmp_path / "cmyk.jpg").write_bytes(encoded(PHOTO.convert("CMYK"), "JPEG"))
    assert read_upload(tmp_path / "cmyk.jpg").mode == "RGB"
