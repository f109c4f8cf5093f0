"""The live kNN probe: numbers of the evaluation, nothing changed in the training, a checkpoint chosen by it."""

import re

import numpy as np
import pytest
import torch
from tiny_pretraining import arguments, assert_equal_tensors, assert_equal_weights, build_model, probe_pictures

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.encoders import plain_encoder
from synclr_hf.evaluation.encoding.features import encoder_features
from synclr_hf.evaluation.protocols.knn import knn
from synclr_hf.training import KNNProbe, SynCLRTrainer
from synclr_hf.training.probe import ProbeConfig, build_probe, knn_top1


@pytest.fixture
def probe():
    return build_probe(ProbeConfig(train_pictures=30, test_pictures=15), probe_pictures(unreadable=(4, 9)), seed=0)


def trainer_of(dataset, folder, probe, model=None, **changes):
    settings = {"eval_strategy": "steps" if probe else "no", "eval_steps": 2, "save_steps": 2, "max_steps": 6}
    return SynCLRTrainer(
        model=model or build_model(student_drop_path_rate=0.5),
        args=arguments(folder, **{**settings, **changes}),
        train_dataset=dataset,
        eval_dataset=probe,
    )


def test_the_accuracies_are_those_of_the_evaluation(probe):
    model = build_model()
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    encoders = {"teacher": model.synclr, "student": model.student}
    found = knn_top1(encoders, probe)
    for name, encoder in encoders.items():
        plain = plain_encoder(encoder)
        train, test = (encoder_features(plain, side, most_unreadable=1) for side in (probe.train, probe.test))
        assert found[name] == knn(train.features, train.labels, test.features, test.labels)[10], name
    assert len(train) + len(test) < len(probe.train) + len(probe.test)  # some could not be read


def test_the_sides_keep_captions_whole_and_classes_even(probe):
    assert len(probe.train) == 30 and len(probe.test) == 15
    assert not set(probe.train.groups) & set(probe.test.groups)
    assert set(np.bincount(probe.test.labels)) == {5}


def test_logged_and_told_to_callbacks_on_time(dataset, tmp_path, probe, capsys):
    trainer = trainer_of(dataset, tmp_path, probe)
    trainer.train()
    told = [entry for entry in trainer.state.log_history if "eval_knn_top1" in entry]
    assert [entry["step"] for entry in told] == [2, 4, 6]
    assert all(0 <= entry[name] <= 1 for entry in told for name in ("eval_knn_top1", "eval_knn_top1_student"))
    again = trainer.evaluate(metric_key_prefix="test")
    for name in ("knn_top1", "knn_top1_student"):
        assert again[f"test_{name}"] == told[-1][f"eval_{name}"]
    steps = re.findall(r"kNN top-1 at step (\d+): teacher [\d.]+%, student [\d.]+%", capsys.readouterr().err)
    assert steps == ["2", "4", "6", "6"], "the last one was asked for"


def test_the_probe_changes_nothing_in_the_training(dataset, tmp_path, probe):
    """Stochastic depth draws random numbers in every step: a probe that drew one would shift all later ones."""
    with_probe = trainer_of(dataset, tmp_path / "with", probe)
    with_probe.train()
    without = trainer_of(dataset, tmp_path / "without", None)
    without.train()
    assert_equal_weights(with_probe, without)
    model = with_probe.model.train()
    with_probe.evaluate()
    assert model.student.training and model.student.layers[1].training and not model.synclr.training


def test_the_best_checkpoint_is_kept_and_loaded(dataset, tmp_path, probe, monkeypatch):
    accuracies = iter([0.2, 0.9, 0.5])

    def measured(encoders, probe):
        return {**knn_top1(encoders, probe), "knn_top1": next(accuracies)}

    monkeypatch.setattr("synclr_hf.training.trainer.knn_top1", measured)
    trainer = trainer_of(dataset, tmp_path, probe, load_best_model_at_end=True, save_total_limit=1)
    assert trainer.args.metric_for_best_model == "knn_top1" and trainer.args.greater_is_better
    trainer.train()
    assert trainer.state.best_metric == 0.9 and trainer.state.best_model_checkpoint.endswith("checkpoint-4")
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]
    best = type(trainer.model).from_pretrained(tmp_path / "checkpoint-4")
    assert_equal_tensors(trainer.model.state_dict(), best.state_dict())


def test_only_the_best_are_saved(dataset, tmp_path, probe):
    trainer = trainer_of(dataset, tmp_path, probe, save_strategy="best", metric_for_best_model="knn_top1_student")
    trainer.train()
    seen = [entry["eval_knn_top1_student"] for entry in trainer.state.log_history if "eval_knn_top1" in entry]
    assert trainer.state.best_metric == max(seen)
    assert (tmp_path / "checkpoint-2").is_dir()


def test_what_is_no_probe_is_refused_before_training(dataset, tmp_path):
    with pytest.raises(UserInputError, match="eval_dataset is of the type ViewsDataset.*type eval_dataset=KNNProbe"):
        trainer_of(dataset, tmp_path, dataset)
    with pytest.raises(UserInputError, match="eval_dataset is of the type NoneType"):
        trainer_of(dataset, tmp_path, None).evaluate()
    with pytest.raises(UserInputError, match="metric_for_best_model loss; allowed: knn_top1, knn_top1_student"):
        arguments(tmp_path, metric_for_best_model="loss")


def test_pictures_that_leave_nothing_to_classify_are_refused():
    alone = probe_pictures(3)
    with pytest.raises(UserInputError, match="probe: the 3 pictures have one of each class"):
        build_probe(ProbeConfig(), alone, seed=0)
    with pytest.raises(UserInputError, match="probe: none of the 3 pictures can be read"):
        knn_top1({"a": build_model().synclr}, KNNProbe(probe_pictures(3, unreadable=range(3)), alone))
    with pytest.raises(UserInputError, match="probe.test_pictures: 0 cannot be used"):
        ProbeConfig(test_pictures=0)
