"""`synclr ablate` as a user types it, on the one-minute recipe."""

import json
import re
import subprocess
import sys

import pytest
from commands import RECIPE
from test_bad_input import refused

from synclr_hf.training.ablation import FULL_ROW, ROWS

TINY = (
    "captions.num_captions=24",
    "images.rows_per_shard=24",
    "evaluation.held_out_captions=24",
    "pretraining.training_arguments.max_steps=4",
    "pretraining.training_arguments.save_steps=4",
)


@pytest.fixture(scope="module")
def ablation(synclr, tmp_path_factory):
    """All rows, one seed."""
    folder = tmp_path_factory.mktemp("ablation") / "rows"
    done = synclr("ablate", RECIPE, "--output-dir", folder, "--seeds", "0", *TINY)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done


def test_every_row_is_trained_and_compared(ablation):
    folder, done = ablation
    told = json.loads((folder / "ablation.json").read_text())
    assert [*told["scores"]] == ["untrained", *ROWS] and told["seeds"] == [0]
    for name, runs in told["scores"].items():
        assert set(runs) == {"0"}, name
        assert all(0 <= run[metric] <= 1 for run in runs.values() for metric in ("knn_top1", "linear_top1"))
    assert told["steps"][FULL_ROW] == 4 and told["steps"]["multi-positive"] > told["steps"]["+EMA +multi-crop"] >= 4
    assert done.stdout.startswith((folder / "ablation.md").read_text())
    assert re.search(r"\| \(\+EMA\) - \(multi-positive\) \| \+0\.9 \| [+-]\d", done.stdout)
    history = json.loads((folder / "runs" / "supervised" / "seed-0" / "history.json").read_text())
    assert any("cross_entropy" in entry for entry in history)


def test_started_again_it_trains_nothing_and_says_the_same(ablation, synclr_here):
    folder, done = ablation
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    again = synclr_here("ablate", RECIPE, "--output-dir", folder, "--seeds", "0", *TINY)
    assert again.returncode == 0 and again.stdout == done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} and before


def test_other_labelled_pictures_are_measured_anew(ablation, synclr_here, minute_run):
    """Scores belong to the pictures that they were measured on; the trainings are kept."""
    folder, _ = ablation
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    others = minute_run / "held_out" / "images"
    options = ("--output-dir", folder, "--seeds", "0", "--rows", "+EMA", "--eval-dataset", others)
    done = synclr_here("ablate", RECIPE, *options, *TINY)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads((folder / "ablation.json").read_text())
    assert told["test_pictures"] > 20, "a third of 240"
    for runs in told["scores"].values():
        right = runs["0"]["knn_top1"] * told["test_pictures"]
        assert right == pytest.approx(round(right), abs=1e-3)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


def test_mistakes_are_one_line(ablation, synclr_here):
    folder, _ = ablation
    options = ("ablate", RECIPE, "--output-dir", folder, *TINY)
    assert "type --seeds 0,1,2" in refused(synclr_here(*options, "--seeds", "a,b"))
    assert "unknown row '+IBOT'" in refused(synclr_here(*options, "--rows", "+IBOT"))
    new = ("ablate", RECIPE, "--output-dir", folder / "new", *TINY, "pretraining.training_arguments.max_steps=-1")
    assert "needs a number of steps" in refused(synclr_here(*new))
    assert not (folder / "new").exists(), "found out before anything is drawn"
    assert "--eval-dataset" in refused(synclr_here(*options, "--images", "org/images"))
    line = refused(synclr_here(*options, "pretraining.views.num_local_crops=0"))
    assert "starts from the whole loss" in line


@pytest.mark.slow
def test_two_processes_train_and_one_evaluates(environment, tmp_path):
    script = RECIPE.parents[2] / "scripts" / "ablate.py"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", script]
    cpu = "pretraining.training_arguments.use_cpu=true"
    halved = "pretraining.training_arguments.per_device_train_batch_size=4"
    rows = ["--seeds", "0", "--rows", f"{FULL_ROW},SimCLR"]
    options = [RECIPE, "--output-dir", tmp_path / "rows", *rows, *TINY, cpu, halved]
    done = subprocess.run(
        list(map(str, [*launch, *options])), env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("ablation: ") == 1
    told = json.loads((tmp_path / "rows" / "ablation.json").read_text())
    assert set(told["scores"]) == {"untrained", FULL_ROW, "SimCLR"}
