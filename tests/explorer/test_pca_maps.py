"""PCA maps and patch similarity of the page against the plain functions."""

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_index import picture

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.encoders import normalised, patch_maps
from synclr_hf.evaluation.seeing.pca import PcaBasis, fit_pca_basis
from synclr_hf.evaluation.seeing.resolution import whole_patches
from synclr_hf.explorer.config import ExplorerConfig
from synclr_hf.explorer.look import look
from synclr_hf.explorer.maps import pca_maps, similar_patches
from synclr_hf.explorer.patch_cache import PatchCache
from synclr_hf.explorer.session import Explorer


def shapes():
    return [picture(0, 40), picture(5, 64).resize((64, 32)), picture(9, 50).resize((30, 60))]


def plain_maps(explorer, pictures, long_side):
    encoder = explorer.encoder()
    maps = []
    for one in pictures:
        pixels = np.array(whole_patches(one, long_side, 8))[None]
        maps.append(patch_maps(encoder, normalised(pixels, encoder.image_mean, encoder.image_std))[0])
    return maps


@pytest.mark.parametrize("threshold", [None, 0.0])
def test_colours_are_those_of_one_basis_over_all_pictures(explorer, threshold):
    found = pca_maps(explorer, shapes(), 112, threshold)
    assert [one.grid for one in found.looks] == [(14, 14), (7, 14), (14, 7)]
    plain = plain_maps(explorer, shapes(), 112)
    basis = fit_pca_basis([one.half().float() for one in plain], threshold=threshold)
    for seen, patches in zip(found.looks, plain, strict=True):
        assert torch.allclose(seen.patches, patches, atol=2e-3)
        assert torch.allclose(found.basis.colours(seen.patches), basis.colours(patches.half().float()), atol=1e-4)
    assert ("foreground" in found.words) is (threshold is not None)


def test_overlay_and_background(explorer):
    found = pca_maps(explorer, [picture(0)], 112, 0.0)
    alone, mixed, colours = (np.asarray(found.drawn(share)[0]).astype(int) for share in (0, 0.5, 1))
    image = np.asarray(found.looks[0].image.resize(found.drawn(0)[0].size, Image.Resampling.LANCZOS)).astype(int)
    thing = found.basis.foreground.is_foreground(found.looks[0].patches).numpy()
    side = image.shape[0] // 14
    inside = np.kron(thing, np.ones((side, side), dtype=bool))
    assert (alone[inside] == image[inside]).all() and inside.any() and not inside.all()
    assert np.abs(mixed[inside] - (alone[inside] + colours[inside]) / 2).max() <= 1
    assert colours[~inside].mean() < 0.3 * image[~inside].mean()  # the background is left dark
    flat = found.basis.colours(found.looks[0].patches).numpy()
    block = colours[side // 2 :: side, side // 2 :: side] / 255
    assert np.abs(block - flat)[thing].max() < 0.01  # each patch has its own colour, in its own place


def test_moving_a_slider_does_not_run_the_model(explorer):
    pca_maps(explorer, shapes(), 112, None)
    calls = []
    hook = explorer.encoder().model.register_forward_hook(lambda *_: calls.append(1))
    again = pca_maps(explorer, shapes(), 112, 0.3)
    hook.remove()
    assert not calls and len(again.drawn(0.4)) == 3


def test_similarity_with_a_patch(explorer):
    looks = pca_maps(explorer, shapes(), 112).looks
    drawn, scale = similar_patches(looks, 1, 2, 3)
    chosen = torch.nn.functional.normalize(looks[1].patches[2, 3], dim=0)
    values = torch.cat([(torch.nn.functional.normalize(x.patches, dim=-1) @ chosen).flatten() for x in looks])
    assert scale.high == pytest.approx(1, abs=1e-5)
    assert scale.low == pytest.approx(float(values.sort().values[int(0.02 * len(values)) - 1]), abs=1e-5)
    assert len(drawn) == 3 and drawn[1].width == 2 * drawn[1].height
    for number, row, words in ((3, 0, "no picture 4; allowed: 1 to 3"), (1, 7, "no patch in row 7.* rows 0 to 6")):
        with pytest.raises(UserInputError, match=words):
            similar_patches(looks, number, row, 0)


def test_the_download_loads_again(explorer, tmp_path):
    found = pca_maps(explorer, shapes(), 112)
    with zipfile.ZipFile(io.BytesIO(found.zipped(1.0))) as files:
        assert sorted(files.namelist()) == [
            "map_1.png",
            "map_2.png",
            "map_3.png",
            "pca_basis.safetensors",
            "sheet.png",
        ]
        files.extractall(tmp_path)
    basis = PcaBasis.load(tmp_path / "pca_basis.safetensors")
    assert torch.equal(basis.components.directions, found.basis.components.directions)
    assert (np.asarray(Image.open(tmp_path / "map_2.png")) == np.asarray(found.drawn(1.0)[1])).all()


@pytest.mark.parametrize(
    ("pictures", "resolution", "threshold", "words"),
    [
        (0, 224, None, "no picture yet"),
        (8, 448, None, "8 pictures at 448 pixels are 25,088 patches; at most 8,192 are looked at together"),
        (9, 224, None, "9 pictures are too many; give up to 8"),
        (1, 300, None, "resolution 300 cannot be chosen; allowed: 112, 224, 448, 672"),
        (1, 112, 9.0, "too few patches are foreground"),
    ],
)
def test_what_cannot_be_drawn(explorer, pictures, resolution, threshold, words):
    with pytest.raises(UserInputError, match=words):
        pca_maps(explorer, [picture(k) for k in range(pictures)], resolution, threshold)


def test_raw_pixels_have_no_patches(explorer):
    with pytest.raises(UserInputError, match="'pixels' stands for raw pixels, which have no patch features"):
        look(explorer, [picture(0)], 112, encoder=1)


def test_a_picture_of_a_batch_is_seen_as_alone(explorer, tiny_encoder_folder):
    alone = Explorer(ExplorerConfig(tiny_encoder_folder))
    alone.start()
    together = look(alone, [picture(k) for k in range(6)], 112)
    for number in (0, 5):
        assert torch.allclose(look(explorer, [picture(number)], 112)[0].patches, together[number].patches, atol=2e-3)


def test_the_cache_is_bounded_and_forgets_what_was_not_used():
    cache = PatchCache(max_bytes=3 * 400)
    tensors = {name: torch.full((100,), float(k)) for k, name in enumerate("abcd")}
    for name in "abc":
        cache.put(name, tensors[name])
    assert cache.get("a") is tensors["a"] and cache.num_bytes == 1200
    cache.put("d", tensors["d"])
    assert cache.get("b") is None and cache.get("a") is not None and cache.num_bytes == 1200
    cache.put("large", torch.zeros(1000))
    assert cache.get("large") is None and cache.get("d") is not None
