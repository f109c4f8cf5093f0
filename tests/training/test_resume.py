"""Kill -9 and go on, in real processes: the resumed run is the uninterrupted one, bit for bit."""

import json
import shutil
import signal

import pytest
import torch
from image_sets import write_images
from real_runs import WATCHED_RUN, python, run, write_recipe
from safetensors.torch import load_file
from tiny_pretraining import assert_equal_tensors

from synclr_hf.training import last_complete_checkpoint

ROWS = 24
STEPS, SAVED_EVERY = 20, 4  # an epoch has 8 steps
CASES = {
    "map-style": {},
    "map-style, two workers": {"training_arguments": {"dataloader_num_workers": 2}},
    "streaming, two workers": {"training_arguments": {"dataloader_num_workers": 2}, "streaming": True},
}
"""Name -> entries of the section `pretraining` that differ from case to case."""


class Run:
    """One output folder that several processes write, one after the other."""

    def __init__(self, folder, recipe, images, cache):
        self.folder, self.recipe, self.images, self.cache = folder, recipe, images, cache
        (folder / "notes").mkdir(parents=True)

    def start(self, **witness):
        told = json.dumps({"notes": str(self.folder / "notes"), **witness})
        options = ["--config", self.recipe, "--images", self.images, "--output-dir", self.folder / "run"]
        return run(python(WATCHED_RUN, told, *options), self.cache)

    def die(self, **witness):
        assert self.start(**witness).returncode == -signal.SIGKILL
        assert not (self.folder / "run" / "history.json").exists()

    def finish(self):
        done = self.start()
        assert done.returncode == 0, done.stderr[-3000:]

    @property
    def starts(self):
        """The steps at which the processes began to train."""
        return [int(line) for line in (self.folder / "notes" / "starts.txt").read_text().split()]

    @property
    def losses(self):
        history = json.loads((self.folder / "run" / "history.json").read_text())
        parts = ("step", "loss", "contrastive_global", "contrastive_local", "ibot", "grad_norm", "learning_rate")
        return [[entry[part] for part in parts] for entry in history if "loss" in entry]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images") / "images", rows=ROWS, rows_per_shard=12, images=4)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(
    scope="module",
    params=[
        "map-style",
        pytest.param("map-style, two workers", marks=pytest.mark.slow),
        "streaming, two workers",
    ],
)
def case(request, tmp_path_factory, images, cache):
    """A maker of runs of one case, and the uninterrupted one."""
    folder = tmp_path_factory.mktemp("runs")
    entries = dict(CASES[request.param])
    arguments = {"max_steps": STEPS, "save_steps": SAVED_EVERY, "save_total_limit": 2}
    arguments |= entries.pop("training_arguments", {})
    recipe = write_recipe(folder / "recipe.yaml", arguments, student_drop_path_rate=0.2, **entries)
    straight = Run(folder / "straight", recipe, images, cache)
    straight.finish()
    return lambda name: Run(folder / name, recipe, images, cache), straight


def cut(path):
    """Cut the second half off a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def assert_same(mine, theirs, where=""):
    """Compare nested states bit for bit."""
    assert type(mine) is type(theirs), where
    if isinstance(mine, torch.Tensor):
        assert torch.equal(mine, theirs), where
    elif isinstance(mine, dict):
        assert mine.keys() == theirs.keys(), where
        for key in mine:
            assert_same(mine[key], theirs[key], f"{where}.{key}")
    elif isinstance(mine, (list, tuple)):
        assert len(mine) == len(theirs), where
        for number, pair in enumerate(zip(mine, theirs, strict=True)):
            assert_same(*pair, f"{where}[{number}]")
    elif hasattr(mine, "tobytes"):
        assert mine.tobytes() == theirs.tobytes(), where
    else:
        assert mine == theirs, where


def assert_same_runs(mine, theirs):
    """Compare weights, optimizer, scheduler, random numbers and the log of two finished runs."""
    folders = [one.folder / "run" for one in (mine, theirs)]
    weights = [load_file(folder / "model.safetensors") for folder in folders]
    parts = {name.split(".")[0] for name in weights[0]}
    assert parts == {"synclr", "student", "objectives"}
    assert_equal_tensors(*weights)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        states = [torch.load(folder / f"checkpoint-{STEPS}" / name, weights_only=False) for folder in folders]
        assert_same(*states, name)
    assert mine.losses == theirs.losses and [entry[0] for entry in mine.losses] == list(range(1, STEPS + 1))


def test_killed_twice_equals_the_uninterrupted_run(case):
    """Between two checkpoints, and while one is written: then the one before counts."""
    new_run, straight = case
    killed = new_run("killed")
    killed.die(kill_at_step=10)
    killed.die(kill_in_checkpoint=16)
    half = killed.folder / "run" / "checkpoint-16"
    assert (half / "optimizer.pt").exists() and not (half / "trainer_state.json").exists()
    cut(half / "optimizer.pt")
    assert last_complete_checkpoint(killed.folder / "run").name == "checkpoint-12"
    killed.finish()
    assert straight.starts == [0] and killed.starts == [0, 8, 12]
    assert_same_runs(killed, straight)


@pytest.mark.parametrize("case", ["map-style"], indirect=True)
def test_the_trainer_s_state_is_the_last_file_of_a_checkpoint(case):
    straight = case[1]
    folder = straight.folder / "run" / f"checkpoint-{STEPS}"
    before = json.loads((straight.folder / "notes" / "written_before_the_state.json").read_text())
    assert {*before, "trainer_state.json"} == {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"} < set(before)


@pytest.mark.parametrize("case", ["map-style"], indirect=True)
@pytest.mark.parametrize("name", ["optimizer.pt", "model.safetensors", "rng_state.pth"])
def test_a_checkpoint_with_a_file_cut_short_is_passed_over(case, name, tmp_path, caplog):
    """As a machine leaves it that lost its power: the last file is there, another one is not on the disk."""
    for step in (STEPS - SAVED_EVERY, STEPS):
        shutil.copytree(case[1].folder / "run" / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    assert last_complete_checkpoint(tmp_path).name == f"checkpoint-{STEPS}" and not caplog.messages
    cut(tmp_path / f"checkpoint-{STEPS}" / name)
    assert last_complete_checkpoint(tmp_path).name == f"checkpoint-{STEPS - SAVED_EVERY}"
    assert f"{name} cannot be read to the end" in caplog.text
