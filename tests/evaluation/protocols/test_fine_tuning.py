import copy
import json
import math
import random

import numpy as np
import pytest
import torch
from tiny_evaluation import NAMES, coloured, tiny_context, tiny_encoder, tiny_model

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext, EvaluationData
from synclr_hf.evaluation.finetuning import run
from synclr_hf.evaluation.finetuning.settings import TrainingSettings
from synclr_hf.evaluation.finetuning.trainer import ClassifierTrainer
from synclr_hf.evaluation.labelled.labelled_images import labelled_pictures
from synclr_hf.evaluation.protocols.fine_tuning import Config, evaluate

QUICK = {"rand_augment": False, "epochs": 6, "batch_size": 20, "base_learning_rate": 4e-2, "warmup_epochs": 1}


def test_learns_and_leaves_everything_else_alone(monkeypatch):
    rates, step = [], ClassifierTrainer.training_step

    def watched(self, *args, **kwargs):
        rates.append(sorted({group["lr"] for group in self.optimizer.param_groups}))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(ClassifierTrainer, "training_step", watched)
    context = tiny_context()
    weights = copy.deepcopy(context.encoder.model.state_dict())
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    outcome = evaluate(context, Config(**QUICK, mixup=0, cutmix=0))
    assert outcome.primary == "accuracy" and outcome.metrics["accuracy"] > 0.8
    json.dumps([outcome.config, outcome.details])
    low, high = outcome.intervals["accuracy"]
    assert low <= outcome.metrics["accuracy"] <= high
    assert len(outcome.details["train_loss"]) == 6
    assert outcome.details["train_loss"][0] == pytest.approx(np.log(3), abs=0.05)  # the head starts near zero
    assert outcome.details["train_loss"][-1] < outcome.details["train_loss"][0] - 0.2
    assert outcome.details["evaluated_weights"] == "trained"  # 18 steps at 0.9999 say nothing
    assert outcome.metrics["accuracy_trained"] == outcome.metrics["accuracy"]
    assert outcome.details["ema_start_share"] == pytest.approx(0.9999**18)
    assert outcome.config["learning_rate"] == pytest.approx(4e-2 * 20 / 256)
    assert (outcome.config["steps_per_epoch"], outcome.config["warmup_steps"]) == (3, 3)
    assert outcome.config["drop_path_rate"] == 0.1
    highest, lowest = outcome.config["learning_rate"], 1e-6
    for number, found in enumerate(rates):  # the schedule of the reference (SynCLR/eval/util/lr_sched.py)
        epoch = number / 3
        cosine = lowest + (highest - lowest) * (1 + math.cos(math.pi * (epoch - 1) / 5)) / 2
        rate = highest * epoch if epoch < 1 else cosine
        assert found == pytest.approx([rate * 0.65**depth for depth in (3, 2, 1, 0)] if number else [0])
    assert all(torch.equal(value, weights[name]) for name, value in context.encoder.model.state_dict().items())
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[:2]
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.fixture
def ends(monkeypatch):
    """The weights and averages of each training that came to its scores."""
    found, outcome = [], run._outcome

    def kept(context, predictions, trainer, config):
        found.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
        return outcome(context, predictions, trainer, config)

    monkeypatch.setattr(run, "_outcome", kept)
    return found


def test_a_stopped_training_goes_on_where_it_was(tmp_path, monkeypatch, ends):
    config = Config(**{**QUICK, "epochs": 2}, ema_decay=0.2)
    whole = evaluate(tiny_context(), config)
    assert whole.details["evaluated_weights"] == "ema"  # 0.2 ** 6 of it are the first weights
    step, calls = ClassifierTrainer.training_step, []

    def stopped(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(ClassifierTrainer, "training_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            evaluate(tiny_context(work_dir=tmp_path), config)
        assert [path.name[:9] for path in tmp_path.iterdir()] == ["finetune-"]
        resumed = evaluate(tiny_context(work_dir=tmp_path), config)
    assert len(calls) == 5 + 2  # steps 5 and 6; the first four are those of the checkpoint
    assert len(ends) == 2 and all(torch.allclose(value, ends[1][name], atol=1e-6) for name, value in ends[0].items())
    assert resumed.metrics == whole.metrics and resumed.config == whole.config
    assert len(resumed.details["train_loss"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_training_stopped_before_its_scores_is_not_made_again(tmp_path, monkeypatch):
    config = Config(**{**QUICK, "epochs": 2})

    def broken(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("synclr_hf.evaluation.finetuning.run._outcome", broken)
        with pytest.raises(KeyboardInterrupt):
            evaluate(tiny_context(work_dir=tmp_path), config)
    with monkeypatch.context() as patched:
        patched.setattr(ClassifierTrainer, "training_step", broken)
        again = evaluate(tiny_context(work_dir=tmp_path), config)
    whole = evaluate(tiny_context(), config)
    assert again.metrics == whole.metrics and again.details == whole.details


def test_small_forward_passes_give_the_same_training():
    """The gradients of an optimizer step are those of its whole batch, however it is cut."""
    quiet = {"epochs": 2, "batch_size": 20, "base_learning_rate": 4e-2, "section": "finetune", "warmup_epochs": 0}
    curves = [
        run.train_and_score(tiny_context(), TrainingSettings(**quiet, device_batch_size=size)).details["train_loss"]
        for size in (20, 5)
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


def test_odd_labels_validation_and_broken_pictures():
    """A class with one picture, a named class without any, one beyond the names' train labels, files that are none."""
    train, test = coloured(24, 0), coloured(12, 1)
    names = (*NAMES, "violet", "grey")
    labels = train.labels.copy()
    labels[5] = 3
    train = labelled_pictures([b"broken", *train.pictures[1:]], labels, names)
    test_labels = test.labels.copy()
    test_labels[:2] = 4
    test = labelled_pictures([*test.pictures[:11], b"broken"], test_labels, names)
    data = EvaluationData("odd", train, test, validation=coloured(10, 2))
    config = Config(**{**QUICK, "epochs": 2, "batch_size": 500})
    outcome = evaluate(EvaluationContext(tiny_encoder(model=tiny_model()), data), config)
    assert outcome.config["batch_size"] == 24 and outcome.config["steps_per_epoch"] == 1
    assert outcome.details["unseen_labels"] == 2
    assert (outcome.details["unreadable_train"], outcome.details["unreadable_test"]) == (1, 1)
    assert len(outcome.details["validation_accuracy"]) == 2


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(UserInputError, match="finetune trains a model, and raw pixels have none; leave finetune out"):
        evaluate(tiny_context(tiny_encoder(model=None)), Config(**QUICK))
    with pytest.raises(UserInputError, match="drop_path_rate=1 cannot be used; .*type finetune.drop_path_rate=0.1"):
        evaluate(tiny_context(), Config(**QUICK, drop_path_rate=1))
    broken = labelled_pictures([b"broken"] * 4, [0, 1, 2, 0], NAMES)
    with pytest.raises(
        UserInputError, match="none of the 4 pictures can be read; needed: JPEG"
    ):  # before the training
        evaluate(tiny_context(test=broken), Config(**{**QUICK, "epochs": 10**6}))
    with pytest.raises(UserInputError, match="none of the 4 train pictures can be read"):
        evaluate(tiny_context(train=broken), Config(**QUICK))
    empty = labelled_pictures([], np.zeros(0), NAMES)
    data = EvaluationData("none", empty, coloured(4, 0))
    with pytest.raises(UserInputError, match="the train side of none has no pictures"):
        evaluate(EvaluationContext(tiny_encoder(), data), Config(**QUICK))


def test_numbers_that_are_not_finite_end_in_one_line(tmp_path):
    config = Config(**{**QUICK, "epochs": 500, "base_learning_rate": 1e30, "warmup_epochs": 0})  # stops after one
    with pytest.raises(UserInputError, match="left the finite numbers; type a smaller learning rate: finetune.base"):
        evaluate(tiny_context(work_dir=tmp_path), config)
    assert list(tmp_path.iterdir()) == []


def test_several_classes_a_picture(monkeypatch):
    """Multi-hot labels reach the loss as they are, without smoothing, and the scores as they are."""
    seen = {}

    def scored(scores, labels, *, metric, seed, groups):
        from synclr_hf.evaluation.scoring import Scored

        seen.update(scores=scores, labels=labels, metric=metric, groups=groups)
        return Scored("map_11point", {"map_11point": 0.5}, {"map_11point": (0.4, 0.6)}, {})

    monkeypatch.setattr("synclr_hf.evaluation.finetuning.scores.score_predictions", scored)
    sides = []
    for seed in (0, 1):
        one = coloured(20, seed)
        labels = np.eye(3, dtype=np.float64)[one.labels]
        labels[:, 1] = 1
        labels[::2, 0] = -1  # unknown
        sides.append(type(one)(one.pictures, labels, NAMES, one.groups, f"several-{seed}"))
    context = EvaluationContext(tiny_encoder(), EvaluationData("several", *sides, metric="map_11point"))
    outcome = evaluate(context, Config(**{**QUICK, "epochs": 2}))
    assert outcome.primary == "map_11point" and outcome.config["label_smoothing"] == 0
    assert outcome.details["train_loss"][0] == pytest.approx(np.log(2), abs=0.02)  # binary cross-entropies at zero
    assert seen["scores"].shape == (20, 3) and torch.equal(seen["labels"], torch.from_numpy(sides[1].labels))
