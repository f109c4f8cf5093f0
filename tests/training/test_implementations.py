"""Fast and plain are one algorithm: the same losses, gradients and weights; and the fast one never waits."""

import contextlib
import time

import pytest
import torch
from pretend_device import OnDevice, Waits, moved
from tiny_pretraining import (
    OBJECTIVES,
    Gradients,
    arguments,
    batch_of,
    build_dataset,
    build_model,
    losses,
)
from torch import distributed, multiprocessing

from synclr_hf.errors import UserInputError
from synclr_hf.objectives.distributed import GatheredRows
from synclr_hf.training import SynCLRForPreTraining, SynCLRTrainer, SynCLRTrainingArguments, stage
from synclr_hf.training.checks import check_plan
from synclr_hf.views import masked_positions_of


@pytest.fixture(scope="module")
def dataset():
    return build_dataset()


@pytest.mark.parametrize(
    "objectives",
    [
        OBJECTIVES,
        [{"name": "multi_positive", "teacher": False, "head_hidden_size": 32, "head_output_size": 16}],
        OBJECTIVES[1:],
    ],
    ids=["SynCLR", "StableRep", "iBOT"],
)
def test_losses_and_gradients_are_the_same(dataset, objectives):
    model, batch, found = build_model(objectives).train(), batch_of(dataset), {}
    for implementation in ("plain", "fast"):
        model.set_implementation(implementation)
        model.zero_grad()
        outputs = model(**batch)
        outputs.loss.backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found[implementation] = outputs, gradients
    (plain, by_plain), (fast, by_fast) = found["plain"], found["fast"]
    assert by_plain.keys() == by_fast.keys() and plain.parts.keys() == fast.parts.keys()
    torch.testing.assert_close(fast.loss, plain.loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fast.parts, plain.parts, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fast.teacher_cls, plain.teacher_cls, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fast.assignments, plain.assignments, atol=1e-5, rtol=1e-5)
    largest = max(gradient.abs().max().item() for gradient in by_plain.values())
    for name, gradient in by_plain.items():
        torch.testing.assert_close(by_fast[name], gradient, atol=1e-5 * largest, rtol=1e-4, msg=name)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_trainings_are_the_same(dataset, tmp_path, accumulated):
    found = {}
    for implementation in ("plain", "fast"):
        changes = {"max_steps": 3, "gradient_accumulation_steps": accumulated, "save_strategy": "no"}
        changes |= {"per_device_train_batch_size": 4 // accumulated, "implementation": implementation}
        gradients = Gradients()
        trainer = SynCLRTrainer(
            model=build_model(),
            args=arguments(tmp_path / implementation, **changes),
            train_dataset=dataset,
            callbacks=[gradients],
        )
        trainer.train()
        assert trainer.model.implementation == implementation
        found[implementation] = losses(trainer), trainer.model.state_dict(), gradients.steps
    (losses_plain, plain, first), (losses_fast, fast, second) = found["plain"], found["fast"]
    assert losses_fast == pytest.approx(losses_plain, abs=1e-4)
    assert len(first) == len(second) == 3
    for name, weights in plain.items():
        # Adam moves a weight whose gradient is only rounding by up to the learning rate, 1e-3 at most, in each step
        torch.testing.assert_close(fast[name], weights, atol=1e-5 if "k_proj.bias" not in name else 3e-3, rtol=1e-4)


def test_a_model_is_fast_unless_it_is_told_and_the_choice_is_not_saved(tmp_path):
    model = build_model()
    assert model.implementation == "fast"
    assert {objective.implementation for objective in model.objectives.values()} == {"fast"}
    model.set_implementation("plain")
    assert {objective.implementation for objective in model.objectives.values()} == {"plain"}
    model.save_pretrained(tmp_path)
    assert SynCLRForPreTraining.from_pretrained(tmp_path).implementation == "fast"


def test_an_unknown_implementation_is_refused(tmp_path):
    message = r"unknown implementation 'quick'; allowed: plain, fast; type implementation: fast"
    with pytest.raises(UserInputError, match=message):
        build_model().set_implementation("quick")
    with pytest.raises(UserInputError, match=message):
        arguments(tmp_path, implementation="quick")


def test_a_step_waits_for_nothing(dataset, monkeypatch):
    """Student, teacher and losses, forward, on tensors that say they lie on a device."""
    model, batch = build_model(student_drop_path_rate=0.3).train(), batch_of(dataset)
    expected = model(**batch).loss
    moved(model)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # it knows real devices only
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    there = {name: OnDevice(value) for name, value in batch.items()}
    with torch.no_grad(), Waits() as watch:
        found = model(**there)
    assert watch.seen == []
    assert isinstance(found.loss, OnDevice) and expected.isfinite() and found.loss.held.isfinite()
    with Waits() as watch:
        masked_positions_of(there["bool_masked_pos"])
    assert watch.seen == ["nonzero"], "what the collator's positions are for"


def test_assignments_leave_the_model_only_in_steps_that_are_logged(dataset, tmp_path):
    model, asked = build_model(), []
    trainer = SynCLRTrainer(
        model=model,
        args=arguments(tmp_path, max_steps=4, logging_steps=2, save_strategy="no"),
        train_dataset=dataset,
    )
    inner = model.forward

    def watched(**batch):
        outputs = inner(**batch)
        asked.append(outputs.assignments is not None)
        return outputs

    model.forward = watched
    trainer.train()
    assert asked == [False, True, False, True]


def test_crops_are_cut_by_the_implementation_of_the_run(tmp_path, monkeypatch):
    class AskedError(Exception):
        """Carries what the data set was asked for."""

    def asked(*_, implementation, **__):
        raise AskedError(implementation)

    monkeypatch.setattr(stage, "ViewsDataset", asked)
    monkeypatch.setattr(stage, "read_rows", lambda config: (config, []))
    for chosen in ("plain", "fast"):
        settings = {"use_cpu": True, "implementation": chosen}
        with pytest.raises(AskedError, match=chosen):
            stage.pretrain(stage.PretrainingConfig(str(tmp_path), "images", training_arguments=settings))


def test_the_next_batch_is_copied_while_this_one_is_computed_where_there_is_a_gpu(tmp_path, monkeypatch):
    assert not arguments(tmp_path).accelerator_config.non_blocking
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(SynCLRTrainingArguments, "_setup_devices", torch.device("cuda"))
    assert arguments(tmp_path, use_cpu=False).accelerator_config.non_blocking
    assert not arguments(tmp_path, use_cpu=False, implementation="plain").accelerator_config.non_blocking


def test_what_cannot_be_cut_over_processes_is_refused(tmp_path):
    fsdp = {"fsdp": "full_shard", "fsdp_config": {"version": 2}}
    with pytest.raises(UserInputError, match=r"gradient_accumulation_steps: 2 with fsdp: .*type eval_strategy: 'no'"):
        check_plan(build_model(), arguments(tmp_path, gradient_accumulation_steps=2, **fsdp))
    with pytest.raises(UserInputError, match=r"eval_strategy: steps with fsdp"):
        check_plan(build_model(), arguments(tmp_path, eval_strategy="steps", **fsdp))
    check_plan(build_model(), arguments(tmp_path, **fsdp))


# Two processes


def overlapped(rank, port, results):
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    rows = torch.full((3, 2), float(rank))
    distributed.barrier()
    if rank == 1:
        time.sleep(1.0)  # the slower process
    start = time.perf_counter()
    gathered = GatheredRows(rows)
    started = time.perf_counter() - start
    result = gathered.result()
    waited = time.perf_counter() - start
    again = gathered.result()
    if rank == 0:
        results.put((started, waited, result.tolist(), torch.equal(result, again)))
    distributed.barrier()
    distributed.destroy_process_group()


def test_a_process_goes_on_while_its_rows_are_on_their_way(free_port):
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    processes = [context.Process(target=overlapped, args=(rank, free_port, results)) for rank in range(2)]
    for process in processes:
        process.start()
    started, waited, result, same = results.get()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert started < 0.5 < waited, "the other process was a second late"
    assert result == [[0.0, 0.0]] * 3 + [[1.0, 1.0]] * 3 and same
