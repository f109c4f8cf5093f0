import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_evaluation import masked, tiny_context, tiny_encoder, tiny_model

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.masked_images import IGNORED, MaskedImages
from synclr_hf.evaluation.protocols import foreground, protocol, segment_knn, segment_linear, upernet
from synclr_hf.evaluation.segmentation.crops import SegmentationCrops
from synclr_hf.evaluation.segmentation.training import SegmentationTrainer

KNN = segment_knn.Config(short_side=32)
LINEAR = segment_linear.Config(short_side=32, steps=40, max_pixels=1000, batch_size=256)
UPERNET = upernet.Config(
    steps=14, batch_size=4, crops_at_once=4, crop_size=30, short_side=30, learning_rate=1e-2, layer_decay=0.9
)


def context(*, train=None, test=None, **changes):
    encoder = tiny_encoder(model=tiny_model(num_hidden_layers=4))
    return tiny_context(encoder, metric="mean_iou", train=train or masked(16, 0), test=test or masked(8, 1), **changes)


def checked(outcome):
    assert outcome.primary == "mean_iou"
    low, high = outcome.intervals["mean_iou"]
    assert low <= outcome.metrics["mean_iou"] <= high
    json.dumps([outcome.config, outcome.details], allow_nan=False)
    return outcome


def with_a_class_more(data):
    """A class that only the last picture has, a picture that counts nowhere, and one that cannot be read."""
    masks = [mask.copy() for mask in data.masks]
    masks[-1][:] = 2
    masks[0][:] = IGNORED
    pictures = [*data.pictures[:1], b"broken", *data.pictures[2:]]
    return MaskedImages(pictures, masks, ("red", "blue", "never"), "more")


@pytest.mark.parametrize(("name", "config"), [("segment_knn", KNN), ("segment_linear", LINEAR)])
def test_frozen_patches_find_what_colour_tells(name, config):
    outcome = checked(protocol(name).evaluate(context(), config))
    assert outcome.metrics["mean_iou"] > 0.85
    assert set(outcome.details["per_class_iou"]) == {"red", "blue"}
    again = protocol(name).evaluate(context(), config)
    assert again.metrics == outcome.metrics


@pytest.mark.parametrize(("name", "config"), [("segment_knn", KNN), ("segment_linear", LINEAR)])
def test_a_class_that_training_lacks_scores_nothing(name, config):
    train = masked(16, 0)
    train = MaskedImages(train.pictures, train.masks, ("red", "blue", "never"), "train")
    outcome = checked(protocol(name).evaluate(context(train=train, test=with_a_class_more(masked(8, 1))), config))
    assert outcome.details["per_class_iou"]["never"] == 0.0
    assert outcome.details["per_class_iou"]["blue"] > 0.6
    assert outcome.details["unreadable_test_pictures"] == 1


def test_patches_are_drawn_balanced():
    outcome = segment_knn.evaluate(context(), segment_knn.Config(short_side=32, balanced=True, max_patches=100))
    assert outcome.details["train_patches"] == {"red": 50, "blue": 50}


def test_patches_without_a_class_are_told():
    with pytest.raises(UserInputError, match="no train patch is filled by one class"):
        segment_knn.evaluate(context(), segment_knn.Config(short_side=8, min_share=1.0))


def test_the_learning_rate_is_chosen_on_the_validation_split():
    here = context()
    outcome = segment_linear.evaluate(replace(here, data=replace(here.data, validation=masked(4, 2))), LINEAR)
    assert outcome.details["chosen_on"] == "validation split"
    assert outcome.details["learning_rate"] in LINEAR.learning_rates
    assert outcome.metrics["mean_iou"] > 0.85


def test_masks_that_count_nowhere_are_refused():
    data = masked(4, 0)
    empty = MaskedImages(data.pictures, [np.full_like(mask, IGNORED) for mask in data.masks], data.label_names, "none")
    with pytest.raises(UserInputError, match="none of the 4 train pictures can be read and has a mask with a pixel"):
        segment_linear.evaluate(context(train=empty), LINEAR)
    with pytest.raises(UserInputError, match="none of the 4 test pictures can be read and has a mask with a pixel"):
        upernet.evaluate(context(test=empty), UPERNET)
    with pytest.raises(UserInputError, match="none of the 4 validation pictures"):
        here = context()
        segment_linear.evaluate(replace(here, data=replace(here.data, validation=empty)), LINEAR)
    with pytest.raises(UserInputError, match="train has the classes red, blue, test a, b"):
        segment_knn.evaluate(context(test=MaskedImages(data.pictures, data.masks, ("a", "b"), "names")), KNN)


def things(count, seed):
    """A blue thing somewhere inside a red picture."""
    generator = np.random.default_rng(seed)
    pictures, masks = [], []
    for _ in range(count):
        pixels = generator.integers(0, 120, (32, 48, 3))
        mask = np.zeros((32, 48), dtype=np.uint8)
        top, left = generator.integers(6, 12), generator.integers(6, 22)
        mask[top : top + 14, left : left + 18] = 1
        pixels[..., 0] += 100 * (mask == 0)
        pixels[..., 2] += 100 * (mask == 1)
        pictures.append(Image.fromarray(pixels.astype(np.uint8)))
        masks.append(mask)
    return MaskedImages(pictures, masks, ("background", "thing"), f"things-{count}-{seed}")


def test_the_first_component_finds_things():
    config = foreground.Config(short_side=64)
    outcome = checked(foreground.evaluate(context(train=things(12, 0), test=things(6, 1)), config))
    details = outcome.details
    assert outcome.metrics["mean_iou"] > 0.7
    assert outcome.metrics["foreground_iou"] == details["per_class_iou"]["foreground"]
    assert outcome.metrics["mean_iou"] == details["by_component_and_sign"]["component_1+"]["mean_iou"]
    assert details["baselines"]["all_foreground"]["foreground_iou"] == pytest.approx(14 * 18 / (32 * 48))
    assert details["baselines"]["centre_box"]["mean_iou"] < outcome.metrics["mean_iou"]
    assert outcome.config["background"] == ["background"]


def test_the_foreground_is_the_end_that_the_border_has_less_of():
    directions = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.6, 0.8]])
    turned = foreground.turned_from_border(directions, torch.tensor([0.5, -0.1]))
    assert turned.tolist() == [[-1.0, 0.0], [-1.0, 0.0], (-directions[2]).tolist()]


def test_what_is_background_must_be_known():
    names = ("sky", "road", "car")
    assert foreground.background_names(names, ("sky", "road")) == {"sky", "road"}
    assert foreground.background_names(("Background", "a", "b"), ()) == {"Background"}
    assert foreground.background_names(("red", "blue"), ()) == {"red"}
    with pytest.raises(UserInputError, match="foreground.background is not given; allowed: some, not all, of sky"):
        foreground.background_names(names, ())
    with pytest.raises(UserInputError, match="foreground.background has 'tree'"):
        foreground.background_names(names, ("tree",))
    with pytest.raises(UserInputError, match="type foreground.background=sky"):
        foreground.background_names(names, names)


def test_upernet_learns_and_leaves_the_encoder_alone(tmp_path):
    here = context(work_dir=tmp_path)
    before = {name: tensor.clone() for name, tensor in here.encoder.model.state_dict().items()}
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    outcome = checked(upernet.evaluate(here, UPERNET))
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states
    assert outcome.metrics["mean_iou"] > 0.6
    assert outcome.config["crop_size"] == outcome.config["short_side"] == 32
    assert outcome.config["stride"] == 21
    assert outcome.config["warmup_steps"] == 1
    assert outcome.config["blocks"] == [1, 2, 3, 4]
    assert list(tmp_path.iterdir()) == []  # checkpoints are removed
    assert all(torch.equal(tensor, before[name]) for name, tensor in here.encoder.model.state_dict().items())


def test_upernet_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("synclr_hf.evaluation.segmentation.training.SAVED_AFTER", 2)
    here = context()
    settings = upernet.effective_settings(here.encoder, upernet.Config(**{**UPERNET.__dict__, "steps": 4}))

    def trained(folder):
        model = upernet.trained_upernet(here.encoder, here.data.train, settings, seed=0, folder=folder, told="upernet")
        return model.state_dict()

    whole = trained(tmp_path / "whole")
    item = SegmentationCrops.__getitem__
    with monkeypatch.context() as broken:
        broken.setattr(
            SegmentationCrops, "__getitem__", lambda self, number: item(self, number if number < 12 else None)
        )
        with pytest.raises(TypeError):
            trained(tmp_path / "broken")
    assert (tmp_path / "broken" / "checkpoint-2" / "trainer_state.json").exists()
    (tmp_path / "broken" / "checkpoint-3").mkdir()  # was being written
    resumed = trained(tmp_path / "broken")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_upernet_stopped_at_the_test_pictures_does_not_train_again(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise KeyboardInterrupt

    config = upernet.Config(**{**UPERNET.__dict__, "steps": 2})
    whole = upernet.evaluate(context(), config)
    with monkeypatch.context() as patched:
        patched.setattr(upernet, "predicted_mask", broken)
        with pytest.raises(KeyboardInterrupt):
            upernet.evaluate(context(work_dir=tmp_path), config)
    with monkeypatch.context() as patched:
        patched.setattr(SegmentationTrainer, "training_step", broken)
        again = upernet.evaluate(context(work_dir=tmp_path), config)
    assert again == whole
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_leaves_nothing_behind(tmp_path):
    config = upernet.Config(**{**UPERNET.__dict__, "learning_rate": 1e30, "steps": 6})
    with pytest.raises(UserInputError, match="the loss of UperNet is .* type a smaller upernet.learning_rate"):
        upernet.evaluate(context(work_dir=tmp_path), config)
    assert list(tmp_path.iterdir()) == []


def test_settings_of_upernet_that_do_not_fit_are_refused():
    encoder = context().encoder
    with pytest.raises(UserInputError, match="crops_at_once 3 does not divide upernet.batch_size 32"):
        upernet.effective_settings(encoder, upernet.Config(crops_at_once=3))
    with pytest.raises(UserInputError, match="BatchNorm needs two crops; allowed: 2 or more, .*crops_at_once=2"):
        upernet.effective_settings(encoder, upernet.Config(crops_at_once=1))
    with pytest.raises(UserInputError, match="upernet.steps is 0; allowed: 1 or more; type upernet.steps=60000"):
        upernet.effective_settings(encoder, upernet.Config(steps=0))


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("segment_knn", {"temperature": 0.0}, "segment_knn.temperature is 0.0; allowed: above 0; type .*=0.07"),
        ("segment_knn", {"min_share": 2}, "segment_knn.min_share is 2; allowed: above 0, at most 1"),
        ("segment_linear", {"learning_rates": ()}, r"learning_rates is \(\); allowed: above 0; type .*=0.001,0.003,"),
        ("foreground", {"short_side": 0}, "foreground.short_side is 0; allowed: 1 or more; type .*=448"),
    ],
)
def test_settings_outside_their_range_are_refused(name, changes, told):
    with pytest.raises(UserInputError, match=told):
        protocol(name).evaluate(context(), protocol(name).config_class()(**changes))
