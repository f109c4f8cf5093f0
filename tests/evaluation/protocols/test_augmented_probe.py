from dataclasses import replace

import pytest
import torch
from tiny_evaluation import coloured, tiny_context, tiny_encoder

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext, EvaluationData
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.evaluation.protocols.augmented_probe import augmented_probe
from synclr_hf.evaluation.protocols.linear_probe import Config, _cached_probe, evaluate

STILL = Config(
    base_learning_rates=(1.0,), epochs=2, batch_size=24, augmented=True, crop_scale=(1.0, 1.0), flip_probability=0.0
)
MOVING = Config(base_learning_rates=(0.1, 1.0), epochs=3, batch_size=24, augmented=True, crop_scale=(0.3, 1.0))


@pytest.fixture(scope="module")
def encoder():
    return tiny_encoder(batch_size=14)


@pytest.mark.parametrize("raw_pixels", [False, True])
def test_without_crops_and_flips_it_equals_the_probe_on_cached_features(encoder, raw_pixels):
    context = tiny_context(tiny_encoder(model=None) if raw_pixels else encoder)
    test = context.table("test").features
    if raw_pixels:  # its pictures are made smaller, which a random crop rounds otherwise
        context = EvaluationContext(replace(context.encoder, image_size=32), context.data)
        test = context.table("test").features
    cached = _cached_probe(context, STILL, test, "cpu")
    augmented, facts = augmented_probe(context, STILL, test)
    torch.testing.assert_close(augmented.scores, cached.scores, rtol=1e-4, atol=1e-5)
    assert augmented.train_loss == pytest.approx(cached.train_loss, rel=1e-4)
    assert (augmented.steps, augmented.batch_size) == (cached.steps, cached.batch_size) == (4, 24)
    assert augmented.num_validation == cached.num_validation
    assert facts == {"num_unreadable_train": 0, "resumed_at_epoch": 0}


def test_crops_change_what_is_learned_and_repeat_with_the_seed(encoder):
    first, again = evaluate(tiny_context(encoder), MOVING), evaluate(tiny_context(encoder), MOVING)
    still = evaluate(tiny_context(encoder), replace(MOVING, crop_scale=(1.0, 1.0), flip_probability=0.0))
    assert first == again
    assert first.details["train_loss"] != still.details["train_loss"]
    assert first.metrics["accuracy"] > 0.9
    assert first.config["crop_scale"] == [0.3, 1.0]


class Breaking(list):
    """Pictures that cannot be read any more after a while, as if the machine went down."""

    left = 10**9

    def __getitem__(self, place):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().__getitem__(place)


def test_an_interrupted_run_goes_on_from_its_checkpoint(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("synclr_hf.evaluation.protocols.augmented_probe.CHECKPOINT_EPOCHS", 1)
    whole = evaluate(tiny_context(encoder), MOVING)
    data = coloured(60, 0)
    pictures = Breaking(data.pictures)
    broken = LabelledImages(pictures, data.labels, data.label_names, data.groups, data.fingerprint)
    context = tiny_context(encoder, train=broken, work_dir=tmp_path)
    pictures.left = 48 + 30  # one epoch of two batches of 24 and a part of the next
    with pytest.raises(KeyboardInterrupt):
        evaluate(context, MOVING)
    assert [file.name for file in tmp_path.iterdir()] == ["linear_probe.pt"]
    pictures.left = 10**9
    resumed = evaluate(context, MOVING)
    assert resumed.details.pop("resumed_at_epoch") == 1 and whole.details.pop("resumed_at_epoch") == 0
    assert resumed == whole
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damaged", [True, False])
def test_a_checkpoint_that_is_damaged_or_of_another_run_is_not_used(encoder, tmp_path, damaged):
    file = tmp_path / "linear_probe.pt"
    if damaged:
        file.write_bytes(b"no checkpoint")
    else:
        torch.save({"key": "another"}, file)
    outcome = evaluate(tiny_context(encoder, work_dir=tmp_path), replace(MOVING, epochs=1))
    assert outcome.details["resumed_at_epoch"] == 0


def test_a_validation_split_is_chosen_on_and_learned_from(encoder):
    data = EvaluationData("coloured", coloured(36, 0), coloured(12, 1), coloured(12, 2))
    outcome = evaluate(EvaluationContext(encoder, data), replace(MOVING, epochs=2))
    assert outcome.config["num_validation"] == 12
    assert outcome.config["steps"] == 4  # 48 pictures, batches of 24


def test_unreadable_pictures_are_left_out_and_counted(encoder):
    data = coloured(60, 0)
    pictures = [b"broken" if place % 20 == 0 else picture for place, picture in enumerate(data.pictures)]
    some = LabelledImages(pictures, data.labels, data.label_names, data.groups, "some")
    outcome = evaluate(tiny_context(encoder, train=some), replace(MOVING, batch_size=60, epochs=2))
    assert outcome.details["num_unreadable_train"] == 3 and outcome.metrics["accuracy"] > 0.4
    none = LabelledImages([b"broken"] * 60, data.labels, data.label_names, data.groups, "none")
    with pytest.raises(UserInputError, match="none of 60 train pictures can be read"):
        evaluate(tiny_context(encoder, train=none), replace(MOVING, batch_size=60, epochs=1))
