"""The benchmark of a step in miniature: the line of its documentation with less of everything."""

import json
import subprocess
import sys

import pytest
from real_runs import ROOT

SCRIPT = ROOT / "scripts" / "benchmarks" / "train_step.py"


def test_the_documented_line_in_miniature(tmp_path):
    less = ["--captions", "2", "--images-per-caption", "2", "--prototypes", "64", "--steps", "2", "--device", "cpu"]
    less += ["--warm-up", "0"]
    command = [sys.executable, SCRIPT, "--model", "vit-s16", *less, "--json", tmp_path / "new" / "step.json"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "new" / "step.json").read_text())
    assert json.loads(done.stdout) == found
    steps, parts = found["all_step_seconds"], found["parts_seconds"]
    assert len(steps) == 2 and set(parts) == {"forward", "backward", "optimizer_and_teacher", "augmentation"}
    step = found["step_seconds"]
    assert 0 < step["quartile_low"] <= step["median"] <= step["quartile_high"]
    without_augmentation = sum(parts[name]["median"] for name in parts if name != "augmentation")
    assert step["median"] == pytest.approx(without_augmentation)  # of two steps the median is the mean
    assert found["images_per_second"] == pytest.approx(4 / step["median"])
    assert 0.5 < found["peak_memory_gib"] < 8
    assert found["settings"]["dtype"] == "float32" and found["machine"]["threads"] >= 1


def test_one_step_has_no_quartiles():
    done = subprocess.run([sys.executable, str(SCRIPT), "--steps", "1"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "--steps 1: quartiles need 2 steps or more; type --steps 2" in done.stderr.splitlines()[-1]
