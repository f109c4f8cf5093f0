import os
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from pretend_device import Waits, moved
from tiny_evaluation import coloured, tiny_encoder, tiny_model

from synclr_hf.data.pictures import IMAGENET_MEAN, IMAGENET_STD
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding import features as features_module
from synclr_hf.evaluation.encoding.encoders import patch_features, plain_encoder
from synclr_hf.evaluation.encoding.feature_store import FeatureStore
from synclr_hf.evaluation.encoding.features import encoder_features, standardised_pixels
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages, labelled_pictures
from synclr_hf.evaluation.labelled.pictures import picture_array


def pictures(count=7, seed=0):
    generator = np.random.default_rng(seed)
    return [Image.fromarray(generator.integers(0, 256, (40, 32, 3), dtype=np.uint8)) for _ in range(count)]


def data(seed=0):
    return labelled_pictures(pictures(seed=seed), [0, 1, 0, 1, 0, 1, 0], ["a", "b"])


def counting(encoder):
    """Return a list that grows by the number of pictures of each forward pass."""
    passes = []
    encoder.model.register_forward_hook(lambda _, inputs, output: passes.append(len(output.last_hidden_state)))
    return passes


def in_pieces_of(monkeypatch, count):
    monkeypatch.setattr(features_module, "PICTURES_A_PIECE", count)


def test_features_are_the_class_tokens_whatever_the_batch():
    encoder = tiny_encoder(batch_size=3)
    table = encoder_features(encoder, data())
    assert table.features.shape == (7, 16) and table.features.dtype == torch.float32
    assert table.labels.tolist() == [0, 1, 0, 1, 0, 1, 0] and table.rows.tolist() == list(range(7))
    pixels = torch.from_numpy(picture_array(pictures()[4], 32) / 255).float()
    pixels = ((pixels - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = encoder.model(pixels).pooler_output[0]
    torch.testing.assert_close(table.features[4], expected, rtol=1e-4, atol=1e-5)


def test_pieces_and_cache_change_nothing(monkeypatch, tmp_path):
    whole = encoder_features(tiny_encoder(batch_size=2), data())
    in_pieces_of(monkeypatch, 3)
    for cache_dir in (None, tmp_path):
        table = encoder_features(tiny_encoder(batch_size=2), data(), cache_dir=cache_dir)
        torch.testing.assert_close(table.features, whole.features, rtol=1e-5, atol=1e-6)
        assert torch.equal(table.rows, whole.rows) and torch.equal(table.groups, whole.groups)


def test_the_model_is_put_back_into_its_mode_also_behind_an_error():
    encoder = tiny_encoder()
    encoder.model.train()
    encoder_features(encoder, data())
    assert encoder.model.training and torch.is_grad_enabled()
    assert all(parameter.requires_grad for parameter in encoder.model.parameters())
    with pytest.raises(UserInputError, match="none of the 1 pictures can be read"):
        encoder_features(encoder, labelled_pictures([b"broken"], [0], ["a"]))
    assert encoder.model.training and torch.is_grad_enabled()


def test_a_head_can_be_trained_on_features():
    table = encoder_features(tiny_encoder(), data())
    head = torch.nn.Linear(16, 2)
    torch.nn.functional.cross_entropy(head(table.features), table.labels).backward()
    assert head.weight.grad.abs().sum() > 0


def test_cache_is_hit_and_missed_rightly(tmp_path):
    encoder = tiny_encoder()
    passes = counting(encoder)
    first = encoder_features(encoder, data(), cache_dir=tmp_path)
    assert sum(passes) == 7
    stored = list(tmp_path.iterdir())
    assert len(stored) == 1 and stored[0].suffix == ".safetensors"  # neither pieces nor temporary files are left
    again = encoder_features(replace(encoder, batch_size=2), data(), cache_dir=tmp_path)
    assert sum(passes) == 7
    assert torch.equal(first.features, again.features) and torch.equal(first.labels, again.labels)
    assert again.label_names == ("a", "b")
    others = [
        (encoder, data(seed=1)),  # other pictures
        (replace(encoder, image_size=40), data()),
        (replace(encoder, image_mean=(0.5, 0.5, 0.5)), data()),
        (replace(encoder, pooling="mean_patch"), data()),
        (replace(encoder, num_layers=2), data()),
    ]
    for place, (other, others_data) in enumerate(others):
        encoder_features(other, others_data, cache_dir=tmp_path)
        assert sum(passes) == 7 * (place + 2)
    changed = tiny_encoder()
    with torch.no_grad():
        next(changed.model.parameters()).add_(0.5)  # other weights
    assert not torch.equal(first.features, encoder_features(changed, data(), cache_dir=tmp_path).features)
    assert len(list(tmp_path.iterdir())) == 7


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[:100], lambda whole: whole[:-4], lambda whole: b"", os.urandom]
)
def test_damaged_cache_is_made_again(damage, tmp_path):
    first = encoder_features(
        tiny_encoder(), data(), cache_dir=tmp_path
    ).features.clone()  # a map must not be cut short
    file = next(tmp_path.iterdir())
    whole = file.read_bytes()
    file.write_bytes(damage(len(whole)) if damage is os.urandom else damage(whole))
    assert torch.equal(encoder_features(tiny_encoder(), data(), cache_dir=tmp_path).features, first)
    assert file.read_bytes() == whole


def test_what_is_interrupted_goes_on(monkeypatch, tmp_path):
    whole = encoder_features(tiny_encoder(), coloured(20, 0))
    in_pieces_of(monkeypatch, 4)
    encoder = tiny_encoder(batch_size=2)
    stop = encoder.model.register_forward_hook(
        lambda *_: None if len(passes) < 7 else (_ for _ in ()).throw(KeyboardInterrupt)
    )
    passes = counting(encoder)
    with pytest.raises(KeyboardInterrupt):
        encoder_features(encoder, coloured(20, 0), cache_dir=tmp_path)
    stop.remove()
    pieces = sorted(next(tmp_path.iterdir()).iterdir())
    assert [piece.name for piece in pieces] == ["000000.safetensors", "000001.safetensors", "000002.safetensors"]
    pieces[1].write_bytes(pieces[1].read_bytes()[:-1])  # half written by something that does not rename
    passes.clear()
    table = encoder_features(encoder, coloured(20, 0), cache_dir=tmp_path)
    assert passes == [2] * 6  # the damaged piece and the two that were missing
    torch.testing.assert_close(table.features, whole.features, rtol=1e-5, atol=1e-6)
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_the_device_is_waited_for_once_a_piece(monkeypatch):
    expected = encoder_features(tiny_encoder(), coloured(12, 0)).features
    in_pieces_of(monkeypatch, 6)
    encoder = tiny_encoder(model=moved(tiny_model()), batch_size=2)
    with Waits() as waits:
        table = encoder_features(encoder, coloured(12, 0))
    torch.testing.assert_close(table.features, expected, rtol=1e-5, atol=1e-6)
    assert waits.seen.count("copy from the device") == 2  # two pieces
    assert (
        waits.seen.count("copy to the device") == 2 + 6
    )  # mean and deviation; six batches, on CUDA from pinned memory
    assert len(waits.seen) == 10


def test_two_processes_may_make_one_table(tmp_path):
    first, second = (FeatureStore(tmp_path / "features-a.safetensors") for _ in range(2))
    parts = torch.randn(5, 3).split([2, 3])
    for store in (first, second):
        store.write_piece(0, np.arange(2), parts[0])
    first.write_piece(1, np.arange(2, 5), parts[1])
    rows, features = first.finish(2)
    assert rows.tolist() == list(range(5)) and torch.equal(features, torch.cat(parts))
    assert not second.has_piece(0)
    second.write_piece(1, np.arange(2, 5), parts[1])  # slower than the first, which has removed the pieces
    assert torch.equal(second.finish(2)[1], features)
    assert [path.name for path in tmp_path.iterdir()] == ["features-a.safetensors"]
    with pytest.raises(UserInputError, match="features have vanished from .*type the same command again"):
        FeatureStore(tmp_path / "features-b.safetensors").finish(1)


def test_a_cached_table_is_a_memory_map_and_may_be_float16(tmp_path):
    plain = encoder_features(tiny_encoder(), data(), cache_dir=tmp_path)
    halves = encoder_features(tiny_encoder(), data(), cache_dir=tmp_path, store_dtype=torch.float16)
    assert halves.features.dtype == torch.float16 and len(list(tmp_path.iterdir())) == 2
    torch.testing.assert_close(halves.features.float(), plain.features, rtol=1e-3, atol=1e-3)
    with open("/proc/self/maps") as maps:
        assert sum(str(tmp_path) in line for line in maps) >= 2
    plain.features.zero_()  # in memory alone: nobody else's table changes
    assert encoder_features(tiny_encoder(), data(), cache_dir=tmp_path).features.abs().sum() > 0


def test_labels_may_be_several_a_picture(tmp_path):
    labels = np.random.default_rng(0).integers(0, 2, (7, 3)).astype(np.float32)
    several = LabelledImages(pictures(), labels, ("a", "b", "c"), np.arange(7), "several")
    for cache_dir in (None, tmp_path, tmp_path):
        table = encoder_features(tiny_encoder(), several, cache_dir=cache_dir)
        assert table.labels.shape == (7, 3) and table.labels.dtype == torch.float32 and len(table) == 7
        assert np.array_equal(table.labels.numpy(), labels)


def png(picture):
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def test_unreadable_pictures_are_counted_and_limited(tmp_path):
    files = [png(picture) for picture in pictures(20)]
    files[13] = b"broken"
    mixed = labelled_pictures(files, [0, 1] * 10, ["a", "b"])
    for cache_dir in (None, tmp_path, tmp_path):
        table = encoder_features(tiny_encoder(batch_size=4), mixed, cache_dir=cache_dir)
        assert table.unreadable == 1 and table.rows.tolist() == [*range(13), *range(14, 20)]
        assert table.labels.tolist() == [row % 2 for row in table.rows.tolist()]
    assert encoder_features(tiny_encoder(model=None), mixed).unreadable == 1
    files[3] = {"bytes": None, "path": str(tmp_path / "lost.jpg")}
    worse = LabelledImages(files, mixed.labels, mixed.label_names, mixed.groups, "worse")
    with pytest.raises(
        UserInputError, match=r"2 of the 20 pictures cannot be read, 5% are allowed; the first is row 3 "
    ):
        encoder_features(tiny_encoder(), worse, cache_dir=tmp_path)
    with pytest.raises(UserInputError, match="lost.jpg"):
        encoder_features(tiny_encoder(model=None), worse)
    assert encoder_features(tiny_encoder(), worse, most_unreadable=0.1).unreadable == 2


def test_no_pictures_and_no_readable_ones_are_refused(tmp_path):
    with pytest.raises(UserInputError, match=r"there are no pictures to describe \(test side\)"):
        encoder_features(tiny_encoder(), data().rows([]), description="test side")
    broken = labelled_pictures([b"broken", b"too"], [0, 1], ["a", "b"])
    for cache_dir in (None, tmp_path):
        with pytest.raises(UserInputError, match="none of the 2 pictures can be read"):
            encoder_features(tiny_encoder(), broken, cache_dir=cache_dir, most_unreadable=1)


def test_features_that_are_no_numbers_are_refused(tmp_path):
    encoder = tiny_encoder()
    with torch.no_grad():
        encoder.model.layernorm.weight[3] = torch.nan
    with pytest.raises(
        UserInputError, match="'tiny' gives NaN or infinite features for 7 of 7 pictures.*weights hold"
    ):
        encoder_features(encoder, data(), cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())
    overflowing = tiny_encoder(model=tiny_model().to(torch.float16))
    with torch.no_grad():
        overflowing.model.layernorm.weight[:] = 6e4
        overflowing.model.layernorm.bias[:] = 6e4
    with pytest.raises(UserInputError, match="overflow in float16; type --dtype float32"):
        encoder_features(overflowing, data())
    large = tiny_encoder()
    with torch.no_grad():
        large.model.layernorm.bias[3] = 1e6
    with pytest.raises(UserInputError, match="do not fit into float16; keep them in float32"):
        encoder_features(large, data(), store_dtype=torch.float16)


def test_half_precision_is_near_the_whole():
    whole = encoder_features(tiny_encoder(), data()).features
    half = encoder_features(tiny_encoder(model=tiny_model().to(torch.bfloat16)), data()).features
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, whole, rtol=0.05, atol=0.05)


def test_a_cache_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserInputError, match="features cannot be kept in .*give another folder"):
        encoder_features(tiny_encoder(), data(), cache_dir=tmp_path / "file")


def test_patch_maps_are_in_reading_order():
    model = tiny_model()
    maps = patch_features(model, pictures(2), 48)
    assert maps.shape == (2, 6, 6, 16)
    changed = np.asarray(pictures(2)[0].crop((0, 4, 32, 36))).copy()
    base = patch_features(model, [Image.fromarray(changed)], 32)
    changed[8:16, 24:32] = 0  # row 1, column 3 of a 4 x 4 grid
    difference = (patch_features(model, [Image.fromarray(changed)], 32) - base).norm(dim=-1)[0]
    assert difference.flatten().argmax().item() == 1 * 4 + 3


def test_pixels_go_the_same_way(tmp_path):
    table = encoder_features(tiny_encoder(model=None), data(), cache_dir=tmp_path)
    small = np.stack([picture_array(picture, 8) for picture in pictures()])
    assert np.array_equal(table.features.numpy(), standardised_pixels(small))
    assert plain_encoder(tiny_model()).image_size == 32


def test_pixel_features_do_not_know_brightness_and_contrast():
    image = pictures(1)[0].point(lambda value: 60 + value // 4)
    lighter = image.point(lambda value: 2 * value - 40)
    features = standardised_pixels(np.stack([picture_array(picture, 16) for picture in (image, lighter)]))
    assert features.shape == (2, 16 * 16 * 3)
    assert np.corrcoef(features)[0, 1] > 0.99
    np.testing.assert_allclose(features.mean(axis=1), 0, atol=1e-5)
    assert np.isfinite(standardised_pixels(np.full((1, 9, 9, 3), 128, dtype=np.uint8))).all()
