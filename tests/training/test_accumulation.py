"""Accumulated batches give the gradients of one large batch, with the contrast and the assignments over all of it."""

import pytest
from tiny_pretraining import arguments, build_dataset, build_model, first_gradients

from synclr_hf.training import SynCLRTrainer


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Gradients and log of one batch with all captions."""
    return first_gradients(build_dataset(), tmp_path_factory.mktemp("whole"), per_device_train_batch_size=12)


@pytest.mark.parametrize(("batch_size", "steps"), [(3, 4), (6, 2), (1, 12)])
def test_gradients_and_parts_equal_those_of_the_full_batch(dataset, tmp_path, whole, batch_size, steps):
    gradients, told = whole
    accumulated, told_in_parts = first_gradients(
        dataset, tmp_path, per_device_train_batch_size=batch_size, gradient_accumulation_steps=steps
    )
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for name, gradient in gradients.items():
        assert (accumulated[name] - gradient).abs().max() <= 1e-5 * largest, name
    for part in ("loss", "contrastive_global", "contrastive_local", "ibot", "teacher_temperature"):
        assert told_in_parts[part] == pytest.approx(told[part], rel=1e-5), part


def test_plain_accumulation_would_not(dataset, tmp_path, whole, monkeypatch):
    """The test above can fail: without the targets of the window the gradients are others."""
    gradients, _ = whole
    monkeypatch.setattr(SynCLRTrainer, "get_batch_samples", SynCLRTrainer.__mro__[1].get_batch_samples)
    plain, _ = first_gradients(dataset, tmp_path, per_device_train_batch_size=3, gradient_accumulation_steps=4)
    largest = max(gradient.abs().max() for gradient in gradients.values())
    assert max((plain[name] - gradient).abs().max() for name, gradient in gradients.items()) > 0.01 * largest


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
