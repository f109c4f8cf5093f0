"""A number that is not finite ends the training with its name and step, and never reaches a checkpoint."""

import math

import pytest
import torch
from safetensors.torch import load_file
from tiny_pretraining import Spoil, arguments, build_model
from transformers import TrainerCallback

from synclr_hf.errors import UserInputError
from synclr_hf.training import SynCLRTrainer, last_complete_checkpoint
from synclr_hf.training.finite import FiniteGuard
from synclr_hf.training.sharding import all_finite


@torch.no_grad()
def spoil_head(model):
    model.objectives["ibot"].head.weight_g.fill_(math.nan)


@torch.no_grad()
def spoil_encoder(model):
    model.student.norm.bias.fill_(math.inf)


def spoil_gradient(model):
    model.student.norm.bias.register_hook(lambda gradient: gradient * math.inf)


def failed(dataset, folder, action, step=6, **changes):
    settings = {"max_steps": 12, "save_steps": 2, "logging_steps": 12, **changes}
    trainer = SynCLRTrainer(
        model=build_model(),
        args=arguments(folder, **settings),
        train_dataset=dataset,
        callbacks=[Spoil(step, action)],
    )
    with pytest.raises(UserInputError) as caught:
        trainer.train()
    return trainer, str(caught.value)


@pytest.mark.parametrize(
    ("action", "name"),
    [(spoil_head, "ibot"), (spoil_encoder, "contrastive_global"), (spoil_gradient, "gradient norm")],
)
@pytest.mark.parametrize("changes", [{}, {"save_steps": 5, "logging_steps": 2}, {"gradient_accumulation_steps": 2}])
def test_the_part_and_the_step_are_named_and_the_last_checkpoint_stays_good(dataset, tmp_path, action, name, changes):
    _, message = failed(dataset, tmp_path, action, **changes)
    last = last_complete_checkpoint(tmp_path)
    assert message.startswith(f"{name}: not finite at optimizer step 6; training stopped")
    assert f"the last good checkpoint is {last}" in message
    assert f"synclr continue --from {last} --dataset ... --output-dir ... with learning_rate: 0.0005" in message
    assert last.name == ("checkpoint-5" if "save_steps" in changes else "checkpoint-4")
    for file in tmp_path.rglob("model.safetensors"):
        assert all_finite(load_file(file).values()), file


def test_without_checkpoints_it_stops_at_the_end_of_training_and_saves_nothing(dataset, tmp_path):
    trainer, message = failed(dataset, tmp_path, spoil_head, step=3, max_steps=4, save_strategy="no")
    assert "ibot: not finite at optimizer step 3" in message
    assert "no checkpoint was written before; type start again" in message
    with pytest.raises(UserInputError, match="weights: not finite"):
        trainer.save_model(str(tmp_path / "final"))
    assert not (tmp_path / "final").exists()


def test_weights_are_looked_at_themselves(dataset, tmp_path):
    """Finite losses and gradients, but an optimizer that spoils the teacher: only the weights tell."""

    class Late(TrainerCallback):
        def on_step_end(self, args, state, control, model, **kwargs):
            with torch.no_grad():
                model.synclr.norm.weight[0] = math.nan

    trainer = SynCLRTrainer(
        model=build_model(),
        args=arguments(tmp_path, max_steps=1, save_steps=1),
        train_dataset=dataset,
        callbacks=[Late()],
    )
    with pytest.raises(UserInputError, match="weights: not finite at optimizer step 1"):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint-*"))


def test_the_guard_keeps_the_first_step_of_each_number():
    guard = FiniteGuard()
    assert guard.found() is None
    for step, (a, b) in enumerate([(1.0, 1.0), (1.0, math.nan), (math.inf, 1.0)], start=1):
        guard.see({"a": torch.tensor(a), "b": torch.tensor(b)}, step)
    assert guard.found() == ("b", 2)


def test_all_finite():
    weights = [torch.ones(3), torch.full((2, 2), 3e38)]
    assert all_finite(weights)
    for value in (math.nan, math.inf, -math.inf):
        assert not all_finite([*weights, torch.tensor([[1.0, value]])])
