"""Accumulated batches give the gradients of one large batch, with the contrast and the assignments over all of it."""

import pytest
from test_trainer import arguments
from tiny_pretraining import build_model
from transformers import TrainerCallback

from synclr_hf.training import SynCLRTrainer


class Gradients(TrainerCallback):
    """Keeps the gradients of every optimizer step."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        named = model.named_parameters()
        self.steps.append({name: p.grad.clone() for name, p in named if p.requires_grad})


def gradients(dataset, folder, **changes):
    kept = Gradients()
    settings = {"max_steps": 1, "save_strategy": "no", "max_grad_norm": 0.0, **changes}
    trainer = SynCLRTrainer(
        model=build_model(), args=arguments(folder, **settings), train_dataset=dataset, callbacks=[kept]
    )
    trainer.train()
    return kept.steps[0], next(entry for entry in trainer.state.log_history if "loss" in entry)


@pytest.mark.parametrize(("batch_size", "steps"), [(3, 4), (6, 2), (1, 12)])
def test_gradients_and_parts_equal_those_of_the_full_batch(dataset, tmp_path, batch_size, steps):
    whole, told = gradients(dataset, tmp_path / "whole", per_device_train_batch_size=12)
    accumulated, told_in_parts = gradients(
        dataset, tmp_path / "parts", per_device_train_batch_size=batch_size, gradient_accumulation_steps=steps
    )
    largest = max(gradient.abs().max() for gradient in whole.values())
    for name, gradient in whole.items():
        assert (accumulated[name] - gradient).abs().max() <= 1e-5 * largest, name
    for part in ("loss", "contrastive_global", "contrastive_local", "ibot", "teacher_temperature"):
        assert told_in_parts[part] == pytest.approx(told[part], rel=1e-5), part


def test_plain_accumulation_would_not(dataset, tmp_path, monkeypatch):
    """The test above can fail: without the targets of the window the gradients are others."""
    whole, _ = gradients(dataset, tmp_path / "whole", per_device_train_batch_size=12)
    monkeypatch.setattr(SynCLRTrainer, "get_batch_samples", SynCLRTrainer.__mro__[1].get_batch_samples)
    plain, _ = gradients(dataset, tmp_path / "parts", per_device_train_batch_size=3, gradient_accumulation_steps=4)
    largest = max(gradient.abs().max() for gradient in whole.values())
    assert max((plain[name] - gradient).abs().max() for name, gradient in whole.items()) > 0.01 * largest


def test_the_teacher_moves_once_an_optimizer_step(dataset, tmp_path):
    settings = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "max_steps": 2}
    trainer = SynCLRTrainer(
        model=build_model(),
        args=arguments(tmp_path, **settings, ema_decay=0.5, ema_decay_end=0.5, save_strategy="no"),
        train_dataset=dataset,
    )
    moves = []
    move = trainer.model.update_teacher
    trainer.model.update_teacher = lambda decay: (moves.append(decay), move(decay))
    trainer.train()
    assert moves == [0.5, 0.5]
