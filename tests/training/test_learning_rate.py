"""The learning rate follows from the global crops of a step unless it is given, and one line says so."""

import json

import pytest
import torch
from tiny_pretraining import arguments, assert_equal_weights, build_model

from synclr_hf.errors import UserInputError
from synclr_hf.training import SynCLRTrainer, SynCLRTrainingArguments
from synclr_hf.training.schedules import GLOBAL_CROPS_OF_THE_PAPER, scaled_learning_rate


def trainer_of(dataset, folder, **changes):
    return SynCLRTrainer(
        model=build_model(),
        args=arguments(folder, **{"learning_rate": None, "save_strategy": "no", "max_steps": 2, **changes}),
        train_dataset=dataset,
    )


def test_the_rule_is_linear_and_the_papers():
    assert GLOBAL_CROPS_OF_THE_PAPER == 8192 * 4
    assert scaled_learning_rate(2e-3, 32768) == 2e-3
    assert scaled_learning_rate(1.5e-3, 8192) == pytest.approx(1.5e-3 / 4)


def test_the_rate_of_a_run_follows_from_captions_pictures_and_accumulation(dataset, tmp_path, capsys):
    trainer = trainer_of(dataset, tmp_path, per_device_train_batch_size=3, gradient_accumulation_steps=2)
    expected = 2e-3 * (3 * 4 * 2) / 32768
    assert trainer.args.learning_rate == pytest.approx(expected)
    trainer.train()
    assert trainer.optimizer.param_groups[0]["initial_lr"] == pytest.approx(expected)
    assert trainer.state.log_history[0]["learning_rate"] == pytest.approx(expected)
    lines = [line for line in capsys.readouterr().err.splitlines() if "learning rate" in line]
    assert lines == ["learning rate 1.46e-06: base 0.002 x 24 global crops / 32,768 (set learning_rate to override)"]


def test_a_given_rate_is_taken_and_told(dataset, tmp_path, capsys):
    trainer = trainer_of(dataset, tmp_path, learning_rate="1e-3", base_learning_rate=5.0)
    trainer.train()
    assert trainer.state.log_history[0]["learning_rate"] == 1e-3
    assert "learning rate 0.001: as given\n" in capsys.readouterr().err


def test_the_arguments_stay_open_for_another_batch(dataset, tmp_path):
    shared = arguments(tmp_path, learning_rate=None)
    first = SynCLRTrainer(model=build_model(), args=shared, train_dataset=dataset)
    shared.gradient_accumulation_steps = 2
    second = SynCLRTrainer(model=build_model(), args=shared, train_dataset=dataset)
    assert shared.learning_rate is None
    assert second.args.learning_rate == pytest.approx(2 * first.args.learning_rate)


def test_arguments_without_a_rate_can_be_written_and_copied(tmp_path):
    open_rate = arguments(tmp_path, learning_rate=None)
    assert json.loads(open_rate.to_json_string())["learning_rate"] is None
    assert open_rate.to_dict()["learning_rate"] is None and str(open_rate)
    torch.save(open_rate, tmp_path / "arguments.bin")
    assert torch.load(tmp_path / "arguments.bin", weights_only=False).learning_rate is None


def test_a_resumed_run_keeps_the_rate_of_the_rule(dataset, tmp_path):
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    whole = trainer_of(dataset, tmp_path / "whole", **settings)
    whole.train()
    resumed = trainer_of(dataset, tmp_path / "resumed", **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    rates = [[e["learning_rate"] for e in t.state.log_history if "loss" in e] for t in (whole, resumed)]
    assert rates[0] == rates[1] and len(rates[0]) == 4
    assert_equal_weights(resumed, whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": "fast"}, "learning_rate: fast cannot be used; .* type learning_rate: 0.001"),
        ({"learning_rate": 0}, "learning_rate: 0 cannot be used; allowed: a number, greater than 0"),
        ({"base_learning_rate": -1}, "base_learning_rate: -1 cannot be used"),
    ],
)
def test_unusable_rates_are_one_line(tmp_path, changes, message):
    with pytest.raises(UserInputError, match=message):
        SynCLRTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **changes)


def test_data_that_do_not_tell_their_crops_need_a_rate(dataset, tmp_path):
    rows = torch.utils.data.Subset(dataset, range(8))
    with pytest.raises(UserInputError, match="does not say its crops_per_caption; type learning_rate: 1e-3"):
        trainer_of(rows, tmp_path)
    assert trainer_of(rows, tmp_path, learning_rate=1e-3).args.learning_rate == 1e-3
