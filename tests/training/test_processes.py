"""Two processes on CPU (gloo): the numbers of one, the lines of the README, a death that ends the job, resume."""

import json
import re
import sys
import time
from pathlib import Path

import pytest
import torch
import transformers
from image_sets import write_images
from packaging import version
from real_runs import ROOT, WATCHED_RUN, python, run, write_recipe
from safetensors.torch import load_file
from tiny_pretraining import assert_equal_tensors

BIN = Path(sys.executable).parent
TORCHRUN = [BIN / "torchrun", "--standalone", "--nproc-per-node", "2"]
LAUNCH = [BIN / "accelerate", "launch"]
USE_CPU = "pretraining.training_arguments.use_cpu=true"
PARTS = ("contrastive_global", "contrastive_local", "ibot", "teacher_temperature")
KEPT_STEPS = (1, 3)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images") / "images", rows=24, rows_per_shard=12, images=4)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def train(tmp_path_factory, images, cache):
    """Train in a new folder (or in that of `again`), return it; its notes lie beside it."""

    def train(launcher, witness=None, again=None, fails=False, **arguments):
        folder = again or tmp_path_factory.mktemp("run") / "run"
        recipe = write_recipe(folder.parent / "recipe.yaml", arguments)
        told = json.dumps({"notes": str(folder.parent), **(witness or {})})
        options = ["--config", recipe, "--images", images, "--output-dir", folder]
        done = run([*launcher, WATCHED_RUN, told, *options], cache)
        assert (done.returncode != 0) == fails, done.stderr[-3000:]
        return folder

    return train


def history(folder):
    return [entry for entry in json.loads((folder / "history.json").read_text()) if "loss" in entry]


# Large steps and a fast teacher show differences; the epsilon is above rounding, since key biases get no gradient.
EQUAL_RUNS = {
    "max_steps": 3,
    "save_strategy": "no",
    "ema_decay": 0.5,
    "ema_decay_end": 0.5,
    "learning_rate": 1e-2,
    "adam_epsilon": 1e-4,
    "max_grad_norm": 0.0,
}


@pytest.fixture(scope="module")
def whole(train):
    """One process with all captions of a step."""
    return train(python(), {"keep": KEPT_STEPS}, **EQUAL_RUNS, per_device_train_batch_size=12)


@pytest.mark.parametrize(("batch_size", "accumulated"), [pytest.param(6, 1, marks=pytest.mark.slow), (3, 2)])
def test_two_processes_equal_one(train, whole, batch_size, accumulated):
    halves = train(
        TORCHRUN,
        {"keep": KEPT_STEPS},
        **EQUAL_RUNS,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulated,
    )
    for mine, theirs in zip(history(halves), history(whole), strict=True):
        for part in (*PARTS, "loss"):
            assert mine[part] == pytest.approx(theirs[part], rel=1e-5), part
    for step in KEPT_STEPS:
        mine, theirs = (torch.load(run.parent / f"kept-{step}.pt") for run in (halves, whole))
        assert mine["gradients"].keys() == theirs["gradients"].keys()
        for name, gradient in theirs["gradients"].items():
            difference = (mine["gradients"][name] - gradient).abs().max()
            assert difference <= 1e-5 * gradient.abs().max() + 1e-7, (step, name)
        for name, weight in theirs["weights"].items():
            assert (mine["weights"][name] - weight).abs().max() <= 1e-5, (step, name)


def test_the_documented_line_starts_two_processes_and_writes_once(images, cache, tmp_path):
    readme = (ROOT / "README.md").read_text()
    (line,) = re.findall(r"accelerate launch (.*) scripts/pretrain.py .*use_cpu=true", readme)
    recipe = write_recipe(tmp_path / "recipe.yaml", {"max_steps": 4, "save_steps": 2, "use_cpu": False})
    folder = tmp_path / "run"
    options = ["--config", recipe, "--images", images, "--output-dir", folder]
    launcher = [*LAUNCH, *line.split(), "--main_process_port", "0"]
    done = run([*launcher, ROOT / "scripts/pretrain.py", *options, USE_CPU], cache)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [entry["step"] for entry in history(folder)] == [1, 2, 3, 4]
    assert {path.name for path in (folder / "checkpoint-4").glob("rng_state*")} == {
        "rng_state_0.pth",
        "rng_state_1.pth",
    }
    model = {"config.json", "model.safetensors", "training_args.bin"}
    expected = {"checkpoint-2", "checkpoint-4", "history.json", "run.json", *model}
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == expected


def test_a_continuation_under_a_launcher(images, cache, whole, tmp_path):
    assert "`accelerate launch scripts/continue.py ...`" in (ROOT / "README.md").read_text()
    options = ["--from", whole, "--dataset", images, "--output-dir", tmp_path / "run"]
    script = [ROOT / "scripts/continue.py", *options, "pretraining.training_arguments.max_steps=1", USE_CPU]
    done = run([*LAUNCH, "--cpu", "--num_processes", "1", *script], cache)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"continuing {whole}: " in done.stdout
    assert json.loads((tmp_path / "run" / "run.json").read_text())["initial_weights"] == str(whole)
    start, end = (load_file(folder / "model.safetensors") for folder in (whole, tmp_path / "run"))
    moved = sum(not torch.equal(end[name], tensor) for name, tensor in start.items())
    assert start.keys() == end.keys() and moved > 10
    assert all((end[name] - tensor).abs().max() < 0.01 for name, tensor in start.items()), "not drawn anew"


SAVED_RUNS = {"max_steps": 7, "save_steps": 3, "per_device_train_batch_size": 4, "save_total_limit": 3}
"""An epoch has 3 steps."""


@pytest.fixture(scope="module")
def straight(train):
    """Two processes to the end, one of which takes its time to write the state of its random numbers."""
    return train(TORCHRUN, {"slow_rank": 1}, **SAVED_RUNS)


def test_the_trainer_s_state_waits_for_every_process(straight):
    """A checkpoint with that state counts as whole, so no process's random numbers may come after it."""
    before = json.loads((straight.parent / "written_before_the_state.json").read_text())
    assert {"rng_state_0.pth", "rng_state_1.pth", "optimizer.pt"} < set(before)


@pytest.fixture(scope="module")
def killed(train):
    """Two processes one of which was killed after step 5; with when the job ended."""
    return train(TORCHRUN, {"kill_at_step": 5, "rank": 1}, fails=True, **SAVED_RUNS), time.time()


def test_a_process_that_dies_ends_the_job(killed):
    folder, ended = killed
    assert ended - float((folder.parent / "died-1").read_text()) < 30
    assert not (folder / "history.json").exists()


@pytest.mark.skipif(
    version.parse(transformers.__version__) < version.parse("5.18"),
    reason="transformers 5.17 cannot load the optimizer of several CPU processes ('tagged with cpu:0')",
)
def test_after_a_death_the_next_job_goes_on_exactly(train, straight, killed):
    folder = train(TORCHRUN, again=killed[0], **SAVED_RUNS)
    assert (folder.parent / "starts.txt").read_text().split() == ["0", "3"]
    assert [entry["loss"] for entry in history(folder)] == [entry["loss"] for entry in history(straight)]
    assert_equal_tensors(*(load_file(run / "model.safetensors") for run in (folder, straight)))
