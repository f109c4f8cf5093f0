"""bf16, checkpointing, compilation, stochastic depth, clipping: against the plain run, and each resumes exactly."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_pretraining import arguments, assert_equal_weights, build_dataset, build_model, first_gradients, losses
from torch._dynamo.utils import counters
from transformers import TrainerCallback

from synclr_hf.objectives import ibot, multi_positive
from synclr_hf.training import SynCLRTrainer, SynCLRTrainingArguments

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch.compile
COMPILED = {"torch_compile": True, "torch_compile_backend": "aot_eager"}
CHECKPOINTING = {
    name: True
    for name in ("activation_checkpointing", "gradient_checkpointing")  # the new name of transformers 5.2x first
    if name in SynCLRTrainingArguments.__dataclass_fields__
}
CHECKPOINTING = dict([next(iter(CHECKPOINTING.items()))])


def trained(dataset, folder, resume=None, drop=0.0, **changes):
    settings = {"max_steps": 4, "save_steps": 2, **changes}
    trainer = SynCLRTrainer(
        model=build_model(student_drop_path_rate=drop), args=arguments(folder, **settings), train_dataset=dataset
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return trained(build_dataset(), tmp_path_factory.mktemp("plain"))


def test_bf16_is_close_to_float32(dataset, tmp_path, plain):
    half = trained(dataset, tmp_path / "bf16", bf16=True)
    assert losses(half) != losses(plain)
    assert losses(half) == pytest.approx(losses(plain), rel=0.03)
    assert all(parameter.dtype == torch.float32 for parameter in half.model.parameters())


def test_checkpointing_is_the_plain_run(dataset, tmp_path, plain):
    checkpointed = trained(dataset, tmp_path / "checkpointing", **CHECKPOINTING)
    assert all(layer.gradient_checkpointing for layer in checkpointed.model.student.layers)
    assert losses(checkpointed) == losses(plain)
    assert_equal_weights(checkpointed, plain)


def test_checkpointing_repeats_what_stochastic_depth_dropped(dataset, tmp_path):
    runs = [
        trained(dataset, tmp_path / name, drop=0.5, **changes)
        for name, changes in {"plain": {}, "checkpointing": CHECKPOINTING}.items()
    ]
    assert losses(runs[0]) == losses(runs[1])
    assert_equal_weights(*runs)


def test_a_compiled_model_is_close_and_saved_under_its_own_names(dataset, tmp_path, plain):
    """It stays compiled: the step, an integer that grows, makes torch compile once more and not in every step."""
    torch._dynamo.reset()
    counters.clear()
    compiled = trained(dataset, tmp_path / "compiled", **COMPILED)
    assert 0 < counters["frames"]["ok"] < 40
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-4)
    folders = [Path(trainer.args.output_dir) / "checkpoint-4" for trainer in (plain, compiled)]
    saved = [set(load_file(folder / "model.safetensors")) for folder in folders]
    assert saved[0] == saved[1] and not any("_orig_mod" in name for name in saved[1])


@pytest.mark.parametrize(
    "changes",
    [{"bf16": True}, COMPILED, {"drop": 0.5}, {**CHECKPOINTING, "drop": 0.5}],
    ids=["bf16", "compiled", "stochastic depth", "checkpointing"],
)
def test_each_resumes_exactly(dataset, tmp_path, changes):
    whole = trained(dataset, tmp_path / "whole", **changes)
    checkpoint = str(tmp_path / "whole" / "checkpoint-2")
    resumed = trained(dataset, tmp_path / "resumed", resume=checkpoint, **changes)
    assert losses(resumed) == losses(whole)
    assert_equal_weights(resumed, whole)


def test_stochastic_depth_changes_the_student_only(dataset, tmp_path, plain):
    dropped = trained(dataset, tmp_path / "dropped", drop=0.5)
    assert losses(dropped)[0] != losses(plain)[0]
    assert not dropped.model.synclr.training


@pytest.mark.parametrize("steps", [1, 2])
def test_logits_of_the_losses_are_float32_under_bf16(dataset, tmp_path, monkeypatch, steps):
    """Seen where they leave the matrix product: the cosine similarities and, plain, the scores of the assignments."""
    seen = []

    def watched(function):
        def call(tensor, *args, **kwargs):
            seen.append(tensor.dtype)
            return function(tensor, *args, **kwargs)

        return call

    for name in ("log_softmax", "logsumexp"):
        monkeypatch.setattr(torch.Tensor, name, watched(getattr(torch.Tensor, name)))
    changes = {"max_steps": 1, "gradient_accumulation_steps": steps, "save_strategy": "no", "implementation": "plain"}
    trained(dataset, tmp_path, bf16=True, **changes)
    assert set(seen) == {torch.float32} and len(seen) == 6 + 3 * steps
    assert ibot.sinkhorn_knopp(torch.ones(2, 3, dtype=torch.bfloat16), temperature=0.1).dtype == torch.float32
    ids = torch.arange(2)
    half = torch.ones(2, 3, dtype=torch.bfloat16)
    found, _ = multi_positive.multi_positive_losses(half, half, ids, ids, temperature=0.1)
    assert found.dtype == torch.float32


def test_accumulated_batches_run_the_teacher_in_bf16_as_well(dataset, tmp_path, monkeypatch):
    """The targets of the window come from outside of `forward`, which alone accelerate puts under autocast."""
    seen = []
    features = build_model().__class__.teacher_features

    def watched(self, pixel_values, masked_positions):
        found = features(self, pixel_values, masked_positions)
        seen.append(torch.is_autocast_enabled("cpu"))
        return found

    monkeypatch.setattr(build_model().__class__, "teacher_features", watched)
    settings = {"bf16": True, "per_device_train_batch_size": 12}
    whole, told = first_gradients(dataset, tmp_path / "whole", **settings)
    settings |= {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 4}
    parts, told_in_parts = first_gradients(dataset, tmp_path / "parts", **settings)
    assert seen == [True] * 5
    assert told_in_parts["loss"] == pytest.approx(told["loss"], rel=2e-3)
    largest = max(gradient.abs().max() for gradient in whole.values())
    for name, gradient in whole.items():
        assert (parts[name] - gradient).abs().max() <= 0.02 * largest, name


class Norms(TrainerCallback):
    """Keeps the norm of the gradient that the optimizer gets."""

    def __init__(self):
        self.norms = []

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        self.norms.append(torch.nn.utils.get_total_norm(gradients).item())


@pytest.mark.parametrize("limit", [0.05, 1e6])
def test_gradients_are_clipped_to_the_limit_and_logged_as_they_were(dataset, tmp_path, limit):
    kept = Norms()
    trainer = SynCLRTrainer(
        model=build_model(),
        args=arguments(tmp_path, max_steps=2, max_grad_norm=limit, save_strategy="no"),
        train_dataset=dataset,
        callbacks=[kept],
    )
    trainer.train()
    logged = [entry["grad_norm"] for entry in trainer.state.log_history if "loss" in entry]
    assert min(logged) > 0.05
    assert kept.norms == pytest.approx([min(limit, norm) for norm in logged], rel=1e-4)
