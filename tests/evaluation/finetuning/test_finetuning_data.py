import io

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_evaluation import NAMES, coloured, tiny_encoder

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.encoders import normalised
from synclr_hf.evaluation.finetuning.data import TrainPictures, WholeBatches, collate, prepared_test_batches
from synclr_hf.evaluation.finetuning.settings import TrainingSettings, schedule
from synclr_hf.evaluation.labelled.labelled_images import labelled_pictures

PAPER = {
    "section": "finetune",
    "epochs": 100,
    "batch_size": 1024,
    "device_batch_size": 128,
    "base_learning_rate": 5e-5,
}


def pictures(data, seed=0, **changes):
    return TrainPictures(data, TrainingSettings(**{**PAPER, **changes}), size=16, fill=(0, 0, 0), seed=seed)


def test_schedule_of_the_paper_on_imagenet():
    plan = schedule(TrainingSettings(**PAPER), 1_281_167)
    assert plan.learning_rate == pytest.approx(2e-4)  # 5e-5 x 1,024 / 256
    assert (plan.batch_size, plan.device_batch_size, plan.accumulation) == (1024, 128, 8)
    assert (plan.steps_per_epoch, plan.total_steps, plan.warmup_steps) == (1251, 125_100, 25_020)


def test_schedule_of_few_pictures_and_odd_sizes():
    plan = schedule(TrainingSettings(**PAPER), 300)
    assert (plan.batch_size, plan.device_batch_size, plan.accumulation, plan.steps_per_epoch) == (300, 100, 3, 1)
    plan = schedule(TrainingSettings(**{**PAPER, "batch_size": 10, "device_batch_size": 4, "warmup_epochs": 2}), 25)
    assert (plan.batch_size, plan.device_batch_size, plan.accumulation, plan.steps_per_epoch) == (9, 3, 3, 2)
    assert (plan.warmup_steps, plan.total_steps) == (4, 200)
    assert schedule(TrainingSettings(**PAPER), 1).batch_size == 1


def test_items_are_a_function_of_seed_epoch_and_index():
    data = coloured(6, 0)
    first, again = pictures(data)[(2, 3)], pictures(data)[(2, 3)]
    assert np.array_equal(first["pixels"], again["pixels"]) and first["pixels"].shape == (3, 16, 16)
    for other in (pictures(data)[(1, 3)], pictures(data, seed=1)[(2, 3)]):
        assert not np.array_equal(first["pixels"], other["pixels"]) and other["label"] == data.labels[3]
    whole = [pictures(data, crop_scale=1.0)[(epoch, 0)]["pixels"] for epoch in range(12)]
    distinct = {pixels.tobytes() for pixels in whole}
    assert 2 <= len(distinct) < 12  # whole pictures of one shape are flipped or not


def test_what_cannot_be_read_is_replaced_and_told():
    data = coloured(3, 0)
    broken = labelled_pictures([b"no picture", *data.pictures[1:]], [0, 1, 2], NAMES)
    batch = collate([pictures(broken)[(0, index)] for index in range(3)])
    assert batch["targets"].tolist() == [1, 1, 2] and batch["unreadable"] == [0] and batch["place"] == (0, 0)
    assert batch["pixels"].dtype == torch.uint8 and "labels" not in batch
    with pytest.raises(UserInputError, match="none of the 2 train pictures can be read; needed: JPEG"):
        pictures(labelled_pictures([b"a", b"b"], [0, 1], NAMES))[(0, 0)]


def test_order_fills_whole_batches_and_changes_by_epoch():
    sampler = WholeBatches(11, seed=0, batch_size=4)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert len(sampler) == len(first) == len({index for _, index in first}) == 8
    assert {epoch for epoch, _ in second} == {1} and [index for _, index in second] != [index for _, index in first]


def test_test_pictures_are_those_of_resize_and_centre_crop():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (50, 40, 3), dtype=np.uint8))
    stored = io.BytesIO()
    image.save(stored, "PNG")
    data = labelled_pictures([stored.getvalue(), b"broken"], [0, 1], NAMES)
    encoder = tiny_encoder()
    ((rows, pixels),) = prepared_test_batches(data, encoder, test_crop=0.8, batch_size=8)
    resized = image.resize((40, 50), Image.Resampling.BICUBIC)  # 32 / 0.8 = 40 is its short side
    plain = np.array(resized.crop((4, 9, 36, 41)))[None]
    assert rows.tolist() == [0]
    assert torch.equal(pixels, normalised(plain, encoder.image_mean, encoder.image_std))


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("epochs", 0, "finetune.epochs=0 cannot be used; allowed: a whole number from 1; type finetune.epochs=100"),
        ("batch_size", 0, "type finetune.batch_size=1024"),
        ("device_batch_size", 2.5, "type finetune.device_batch_size=128"),
        ("base_learning_rate", -1.0, "a number above 0; type finetune.base_learning_rate=5e-05"),
        ("base_learning_rate", float("nan"), "type finetune.base_learning_rate=5e-05"),
        ("layer_decay", 0, "a number above 0, up to 1; type finetune.layer_decay=0.65"),
        ("label_smoothing", 1.0, "below 1; type finetune.label_smoothing=0.1"),
        ("ema_decay", 1, "below 1; type finetune.ema_decay=0.9999"),
        ("rand_augment_magnitude", 30, "0 to 10; type finetune.rand_augment_magnitude=9"),
        ("mixup", -0.1, "type finetune.mixup=0.8"),
        ("warmup_epochs", 100, "below the 100 epochs; type finetune.warmup_epochs=20"),
    ],
)
def test_settings_that_mean_nothing(setting, value, told):
    with pytest.raises(UserInputError) as caught:
        TrainingSettings(**{**PAPER, setting: value})
    assert told in str(caught.value)
