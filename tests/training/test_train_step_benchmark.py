"""The benchmark of a step in miniature: the line of its documentation with less of everything."""

import json
import os
import subprocess
import sys

import pytest
from real_runs import ROOT

SCRIPT = ROOT / "scripts" / "benchmarks" / "train_step.py"
PARTS = {"teacher", "student", "prototypes: Sinkhorn", "prototypes: cross-entropy", "contrast", "backward"}
PARTS |= {"optimizer", "ema", "other"}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Both implementations once, where datasets, diffusers and gradio cannot be imported: a GPU machine lacks them."""
    folder = tmp_path_factory.mktemp("step")
    (folder / "sitecustomize.py").write_text(
        "import sys\nfor n in ('datasets', 'diffusers', 'gradio'): sys.modules[n] = None\n"
    )
    less = ["--captions", "2", "--images-per-caption", "2", "--prototypes", "64", "--steps", "2", "--device", "cpu"]
    less += ["--warm-up", "0", "--rounds", "1"]
    command = [
        sys.executable,
        SCRIPT,
        "--model",
        "tiny",
        *less,
        "--compare",
        "plain",
        "--json",
        folder / "new" / "f.json",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "new" / "f.json").read_text()), done.stdout


@pytest.mark.parametrize("name", ["plain", "fast"])
def test_parts_steps_and_rates_add_up(compared, name):
    found = compared[0][name]
    step, parts, memory = found["step_seconds"], found["parts_milliseconds"], found["memory"]
    streams = {"student global", "student local"} if name == "plain" else set()
    assert len(found["all_step_seconds"]) == 2 and set(parts) == PARTS | streams
    assert 0 < step["quartile_low"] <= step["median"] <= step["quartile_high"]
    whole = sum(parts[part] for part in PARTS)  # of two steps the median is the mean
    assert whole == pytest.approx(1000 * step["median"])
    assert all(parts[part] > 0 for part in PARTS | streams) and parts["other"] < whole / 2
    assert found["images_per_second"] == pytest.approx(4 / step["median"])
    assert found["tflop_per_second"] == pytest.approx(found["model_tflop"] / step["median"])
    assert 0 < found["share_of_matrix_rate"] < 1
    assert 0.1 < memory["before_model_gib"] < memory["peak_gib"] < 8
    assert memory["added_gib"] == pytest.approx(memory["peak_gib"] - memory["before_model_gib"])


def test_ratios_are_fast_through_plain(compared):
    found, printed = compared
    plain, fast = found["plain"], found["fast"]
    assert found["time_ratio"] == pytest.approx(fast["step_seconds"]["median"] / plain["step_seconds"]["median"])
    assert found["memory_ratio"] == pytest.approx(fast["memory"]["peak_gib"] / plain["memory"]["peak_gib"])
    assert plain["model_tflop"] == fast["model_tflop"]
    assert plain["matrix_tflop_per_second"] == fast["matrix_tflop_per_second"]
    assert found["settings"]["dtype"] == "float32" and found["machine"]["threads"] >= 1
    assert f"time ratio {found['time_ratio']:.3f}" in printed and "student global, ms" in printed


def test_one_step_has_no_quartiles():
    done = subprocess.run([sys.executable, str(SCRIPT), "--steps", "1"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "--steps 1: quartiles need 2 steps or more; type --steps 2" in done.stderr.splitlines()[-1]
