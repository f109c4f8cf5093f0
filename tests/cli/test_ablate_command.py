"""`synclr ablate` as a user types it, on the one-minute recipe."""

import json
import re
import subprocess
import sys

import pytest
from commands import RECIPE
from test_bad_input import refused

TINY = (
    "captions.num_captions=24",
    "images.rows_per_shard=24",
    "evaluation.held_out_captions=24",
    "pretraining.training_arguments.max_steps=4",
    "pretraining.training_arguments.save_steps=4",
)


@pytest.fixture(scope="module")
def ablation(synclr, tmp_path_factory):
    """All rows, two seeds."""
    folder = tmp_path_factory.mktemp("ablation") / "rows"
    done = synclr("ablate", RECIPE, "--output-dir", folder, "--seeds", "0,1", *TINY)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done


def test_every_row_is_trained_and_compared(ablation):
    folder, done = ablation
    told = json.loads((folder / "ablation.json").read_text())
    rows = ["untrained", "multi-positive", "+EMA", "+EMA +iBOT", "+EMA +multi-crop", "all", "supervised", "SimCLR"]
    assert [*told["scores"]] == [*rows, "supervised contrast"] and told["seeds"] == [0, 1]
    for name, runs in told["scores"].items():
        assert set(runs) == {"0", "1"}, name
        assert all(0 <= run[metric] <= 1 for run in runs.values() for metric in ("knn_top1", "linear_top1"))
    assert told["steps"]["all"] == 4 and told["steps"]["multi-positive"] > told["steps"]["+EMA +multi-crop"] >= 4
    assert done.stdout.startswith((folder / "ablation.md").read_text())
    assert re.search(r"\| all - \+EMA \+iBOT \| \+1\.2 \| [+-]\d", done.stdout)
    history = json.loads((folder / "runs" / "supervised" / "seed-1" / "history.json").read_text())
    assert any("cross_entropy" in entry for entry in history)


def test_started_again_it_trains_nothing_and_says_the_same(ablation, synclr_here):
    folder, done = ablation
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    again = synclr_here("ablate", RECIPE, "--output-dir", folder, "--seeds", "0,1", *TINY)
    assert again.returncode == 0 and again.stdout == done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} and before


def test_mistakes_are_one_line(ablation, synclr_here):
    folder, _ = ablation
    options = ("ablate", RECIPE, "--output-dir", folder, *TINY)
    assert "type --seeds 0,1,2" in refused(synclr_here(*options, "--seeds", "a,b"))
    assert "unknown row '+IBOT'" in refused(synclr_here(*options, "--rows", "+IBOT"))
    assert "--eval-dataset" in refused(synclr_here(*options, "--images", "org/images"))
    line = refused(synclr_here(*options, "pretraining.views.num_local_crops=0"))
    assert "starts from the whole loss" in line


@pytest.mark.slow
def test_two_processes_train_and_one_evaluates(environment, tmp_path):
    script = RECIPE.parents[2] / "scripts" / "ablate.py"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", script]
    cpu = "pretraining.training_arguments.use_cpu=true"
    halved = "pretraining.training_arguments.per_device_train_batch_size=4"
    options = [RECIPE, "--output-dir", tmp_path / "rows", "--seeds", "0", "--rows", "all,SimCLR", *TINY, cpu, halved]
    done = subprocess.run(
        list(map(str, [*launch, *options])), env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("ablation: ") == 1
    assert set(json.loads((tmp_path / "rows" / "ablation.json").read_text())["scores"]) == {
        "untrained",
        "all",
        "SimCLR",
    }
