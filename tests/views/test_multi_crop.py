"""The fast way to all crops of a caption: the numbers of the plain one, its pixels but for single levels."""

import hashlib
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from image_sets import encoded, picture
from PIL import ExifTags, Image

from synclr_hf.data.pictures import UndecodedPicture, open_picture
from synclr_hf.errors import UserInputError
from synclr_hf.views import ViewsConfig, ViewsDataset
from synclr_hf.views.multi_crop import cut, fast_crops, largest_reduction, plain_crops, scaled

CONFIG = ViewsConfig(global_crop_size=32, local_crop_size=16, num_local_crops=2, downsample_probability=0.5)


def item(rows, implementation, config=CONFIG, key=(0, 0)):
    return ViewsDataset(rows, config, patch_size=8, seed=0, implementation=implementation)[key]


def jpeg(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, **options)
    return {"bytes": file.getvalue(), "path": None}


def test_the_plain_crops_are_those_of_earlier_versions():
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (5, 5, 3), dtype=np.uint8) for _ in range(3)]
    images = [Image.fromarray(array).resize((64, 48), Image.Resampling.BICUBIC) for array in pixels]
    config = replace(CONFIG, num_global_crops=2, downsample_sizes=[12, 24], images_per_caption=2)
    found = item([{"caption_id": 7, "images": images}], "plain", config, (3, 0))
    names = ("pixel_values", "local_pixel_values", "aug_params", "local_aug_params", "bool_masked_pos")
    sums = {name: hashlib.sha256(found[name].numpy().tobytes()).hexdigest()[:16] for name in names}
    assert sums == {
        "pixel_values": "ca68bd16f128fa32",
        "local_pixel_values": "0392d860f2f6e8b1",
        "aug_params": "de234b7193c7999c",
        "local_aug_params": "d4c2d7cc5382a238",
        "bool_masked_pos": "938976545a398b95",
    }


@pytest.mark.parametrize("size", [48, 256])
@pytest.mark.parametrize("broken", [False, True])
def test_fast_draws_the_same_numbers_and_cuts_the_same_crops(size, broken):
    """Also where numbers were drawn for a row whose last picture turned out not to decode."""
    rows = [{"caption_id": place, "images": [encoded(4 * place + k, size) for k in range(3)]} for place in range(4)]
    if broken:
        rows[0]["images"][2]["bytes"] = rows[0]["images"][2]["bytes"][:-400]
    sides = {"global_crop_size": 160, "local_crop_size": 80} if size == 256 else {}
    config = replace(CONFIG, num_global_crops=2, downsample_sizes=[24, 40], **sides)
    for epoch in range(4):
        plain, fast = (item(rows, way, config, (epoch, 0)) for way in ("plain", "fast"))
        assert plain["unreadable_rows"].item() == broken and list(plain) == list(fast)
        for name in plain:
            if not name.endswith("pixel_values"):
                assert torch.equal(plain[name], fast[name]), name
                continue
            assert fast[name].is_contiguous(memory_format=torch.channels_last)
            difference = (plain[name].int() - fast[name].int()).abs().float()
            assert difference.max() <= 16 and difference.mean() < 0.4, name
            assert difference[..., 2:-2, 2:-2].max() <= 3, "the downsampled are sharp, so a level more or two"


@pytest.mark.parametrize("capability", ["AVX512", "DEFAULT"])
def test_a_cut_is_crop_and_then_resize_as_in_the_reference(monkeypatch, capability):
    """With torch's kernel, and with Pillow's where a processor does not have that; any picture, down to one pixel."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (90, 70, 3), dtype=np.uint8))
    for box in ((0, 0, 70, 90), (3, 20, 60, 61), (30, 40, 42, 55), (8, 8, 9, 9), (0, 5, 1, 60)):
        expected = np.asarray(noise.crop(box).resize((24, 24), Image.Resampling.BICUBIC)).astype(int)
        found = cut(torch.from_numpy(np.array(noise)), box, 24)
        assert found.shape == (24, 24, 3) and found.dtype == torch.uint8
        assert abs(found.numpy().astype(int) - expected).max() <= 1


def test_a_picture_is_reduced_as_far_as_no_crop_is_enlarged():
    assert largest_reduction([((0, 0, 63, 200), 32)]) == 1
    assert largest_reduction([((0, 0, 64, 200), 32), ((0, 0, 300, 300), 32)]) == 2
    assert largest_reduction([((0, 0, 127, 300), 16)]) == 4
    assert largest_reduction([((0, 0, 3000, 3000), 16)]) == 8
    assert largest_reduction([((0, 0, 10, 10), 16)]) == 1
    assert scaled((10, 21, 100, 201), (400, 300), (400, 300)) == (10, 21, 100, 201)
    assert scaled((10, 21, 100, 201), (400, 300), (200, 150)) == (5, 10, 50, 100)


def test_a_large_jpeg_is_decoded_smaller_and_gives_the_same_crops(monkeypatch):
    config, sizes = replace(CONFIG, downsample_probability=0.0, local_crop_size=24), set()
    decode = UndecodedPicture.decode

    def noted(self, reduction=1):
        image = decode(self, reduction)
        sizes.add(image.size)
        return image

    monkeypatch.setattr(UndecodedPicture, "decode", noted)
    for seed in range(8):
        pictures = [jpeg(picture(seed, 500))]
        plain, fast = (way(pictures, config, np.random.default_rng(seed)) for way in (plain_crops, fast_crops))
        for stream in plain:
            difference = (plain[stream].int() - fast[stream].int()).abs().float()
            assert difference.mean() < 5 and difference.max() < 25, "half a pixel of 63 is some 8 levels"
    assert sizes == {(500, 500), (125, 125), (63, 63)}, "whole for the plain way"


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_picture_is_upright_at_every_size(orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    turned = jpeg(picture(3).resize((96, 160), Image.Resampling.BICUBIC), exif=exif)
    whole = open_picture(turned)
    for reduction in (1, 2, 4, 8):
        undecoded = UndecodedPicture(turned)
        assert undecoded.size == whole.size == ((160, 96) if orientation in (6, 8) else (96, 160))
        reduced = undecoded.decode(reduction)
        assert reduced.size == (whole.width // reduction, whole.height // reduction) and reduced.mode == "RGB"
        expected = np.asarray(whole.reduce(reduction) if reduction > 1 else whole).astype(int)
        assert abs(np.asarray(reduced).astype(int) - expected).mean() < 2


def test_only_a_jpeg_that_nobody_else_holds_is_reduced():
    content = jpeg(picture(0, 64))["bytes"]
    theirs = Image.open(io.BytesIO(content))
    assert UndecodedPicture(theirs).decode(4).size == theirs.size == (64, 64)
    file = io.BytesIO()
    Image.new("RGBA", (64, 64), (9, 9, 9, 0)).save(file, "PNG")
    transparent = UndecodedPicture(file.getvalue()).decode(4)
    assert transparent.size == (64, 64) and transparent.getpixel((5, 5)) == (255, 255, 255)
    gray = jpeg(picture(0, 64).convert("L"))
    assert UndecodedPicture(gray).decode(4).size == (16, 16) and UndecodedPicture(gray).decode(4).mode == "RGB"


def test_a_mistyped_implementation_of_the_views():
    with pytest.raises(UserInputError, match="unknown implementation 'quick'; allowed: plain, fast; type impl"):
        item([{"caption_id": 0, "images": [picture(0)] * 2}], "quick")
