from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel, Dinov2Config, Dinov2Model

from synclr_hf.data.pictures import IMAGENET_MEAN, IMAGENET_STD
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoders import patch_features
from synclr_hf.evaluation.features import extract_features, pixel_features, pixel_table
from synclr_hf.evaluation.labelled_images import labelled_pictures
from synclr_hf.evaluation.pictures import picture_array

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Dinov2Model(Dinov2Config(**TINY))


def pictures(count=7, seed=0):
    generator = np.random.default_rng(seed)
    return [Image.fromarray(generator.integers(0, 256, (40, 32, 3), dtype=np.uint8)) for _ in range(count)]


def data(seed=0):
    return labelled_pictures(pictures(seed=seed), [0, 1, 0, 1, 0, 1, 0], ["a", "b"])


def test_features_are_the_class_tokens_whatever_the_batch(model):
    table = extract_features(model, data(), batch_size=3)
    assert table.features.shape == (7, 16) and table.features.dtype == torch.float32
    assert table.labels.tolist() == [0, 1, 0, 1, 0, 1, 0] and table.rows.tolist() == list(range(7))
    pixels = torch.from_numpy(picture_array(pictures()[4], 32) / 255).float()
    pixels = ((pixels - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = model.eval()(pixels).pooler_output[0]
    torch.testing.assert_close(table.features[4], expected, rtol=1e-4, atol=1e-5)


def test_the_model_is_put_back_into_its_mode(model):
    model.train()
    extract_features(model, data())
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_cache_is_hit_and_missed_rightly(model, tmp_path):
    first = extract_features(model, data(), cache_dir=tmp_path)
    stored = list(tmp_path.iterdir())
    assert len(stored) == 1 and stored[0].suffix == ".safetensors"  # no temporary file left
    written = stored[0].stat().st_mtime_ns
    again = extract_features(model, data(), cache_dir=tmp_path)
    assert torch.equal(first.features, again.features) and again.label_names == ("a", "b")
    assert stored[0].stat().st_mtime_ns == written
    extract_features(model, data(seed=1), cache_dir=tmp_path)  # other pictures
    extract_features(model, data(), cache_dir=tmp_path, image_size=40)  # other transform
    with torch.no_grad():
        next(model.parameters()).add_(0.5)
    changed = extract_features(model, data(), cache_dir=tmp_path)  # other parameters
    assert len(list(tmp_path.iterdir())) == 4
    assert not torch.equal(first.features, changed.features)


def test_damaged_cache_is_made_again(model, tmp_path):
    first = extract_features(model, data(), cache_dir=tmp_path)
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(extract_features(model, data(), cache_dir=tmp_path).features, first.features)
    assert file.stat().st_size > 100


def test_unreadable_pictures_are_counted(model):
    good = BytesIO()
    pictures(1)[0].save(good, "PNG")
    mixed = labelled_pictures([b"broken", good.getvalue()], [0, 1], ["a", "b"])
    table = extract_features(model, mixed)
    assert table.unreadable == 1 and table.labels.tolist() == [1] and table.rows.tolist() == [1]
    assert pixel_table(mixed).unreadable == 1
    with pytest.raises(UserInputError, match="none of the 1 pictures can be read"):
        extract_features(model, mixed.rows([0]))


def test_patch_maps_are_in_reading_order(model):
    maps = patch_features(model, pictures(2), 48)
    assert maps.shape == (2, 6, 6, 16)
    changed = np.asarray(pictures(2)[0].crop((0, 4, 32, 36))).copy()
    base = patch_features(model, [Image.fromarray(changed)], 32)
    changed[8:16, 24:32] = 0  # row 1, column 3 of a 4 x 4 grid
    difference = (patch_features(model, [Image.fromarray(changed)], 32) - base).norm(dim=-1)[0]
    assert difference.flatten().argmax().item() == 1 * 4 + 3


def test_clip_features_come_from_behind_the_last_norm():
    torch.manual_seed(0)
    clip = CLIPVisionModel(CLIPVisionConfig(**TINY, intermediate_size=32))
    assert extract_features(clip, data(), image_size=64).features.shape == (7, 16)
    normed = extract_features(clip, data()).features
    torch.testing.assert_close(normed.mean(dim=1), torch.zeros(7), atol=1e-5, rtol=0)  # LayerNorm at its start


def test_pixel_features_do_not_know_brightness_and_contrast():
    image = pictures(1)[0].point(lambda value: 60 + value // 4)
    lighter = image.point(lambda value: 2 * value - 40)
    features = pixel_features([image, lighter])
    assert features.shape == (2, 16 * 16 * 3)
    assert np.corrcoef(features)[0, 1] > 0.99
    np.testing.assert_allclose(features.mean(axis=1), 0, atol=1e-5)
    assert np.isfinite(pixel_features([Image.new("RGB", (9, 9), "grey")])).all()
