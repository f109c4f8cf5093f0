"""The benchmark of a whole training in miniature, in this process: torch and the Trainer are imported only once."""

import copy
import json
import os
import subprocess
import sys
from importlib import import_module

import pytest
import torch
from PIL import Image
from real_runs import ROOT

from synclr_hf.views import ViewsDataset, augment

LESS = ["--model", "tiny", "--captions", "2", "--images-per-caption", "2", "--prototypes", "64", "--steps", "2"]
LESS += ["--device", "cpu", "--warm-up", "1"]


SCRIPTS = ROOT / "scripts" / "benchmarks"


def imported(name):
    sys.path.insert(0, str(SCRIPTS))
    try:
        return import_module(name)
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def end_to_end():
    return imported("end_to_end")


@pytest.mark.parametrize(("implementation", "workers"), [("plain", 1), ("fast", 0)])
def test_whole_training_is_timed_from_encoded_pictures_on(end_to_end, tmp_path, capsys, implementation, workers):
    own = ["--implementation", implementation, "--workers", str(workers), "--json", str(tmp_path / "found.json")]
    end_to_end.main([*LESS, *own])
    found = json.loads((tmp_path / "found.json").read_text())
    parts = found["parts_milliseconds"]
    assert found["images_per_second"] == pytest.approx(4 / found["seconds_a_step"])
    assert set(parts) == {"waiting for data", "taking it", "augmentation", "step"}
    # On a CPU nothing overlaps: the parts are what the time is made of.
    assert 0.5 < sum(parts.values()) / (1000 * found["seconds_a_step"]) < 1.05
    assert found["tflop_per_second"] == pytest.approx(found["model_tflop"] / found["seconds_a_step"])
    assert 5 < found["kilobytes_a_picture"] < 50
    assert found["settings"]["workers"] == workers
    held = found["memory"]
    assert held["peak_gib"] == pytest.approx(held["before_model_gib"] + held["added_gib"]) and held["added_gib"] > 0
    assert f"{workers} workers, 2 steps after 1" in capsys.readouterr().out


def test_plain_data_set_augments_in_the_workers(end_to_end):
    options = end_to_end.argparse.Namespace(model="tiny", implementation="plain")
    rows = end_to_end.Rows(end_to_end.encoded_pictures(None, 3), 4, 2)
    plain = end_to_end.views_dataset(options, rows)[0, 1]
    cropped = ViewsDataset.__getitem__(end_to_end.views_dataset(options, rows), (0, 1))
    augmented = augment(cropped["local_pixel_values"], cropped["local_aug_params"], "plain")
    assert plain["local_pixel_values"].equal(augmented) and "aug_params" not in plain
    options.implementation = "fast"
    fast = end_to_end.views_dataset(options, rows)[0, 1]
    assert fast["pixel_values"].dtype == torch.uint8 and fast["aug_params"].equal(cropped["aug_params"])
    assert rows[1]["images"][0]["bytes"] == rows.pictures[2] and rows[1]["images"][1]["bytes"] == rows.pictures[0]


def test_pictures_of_a_folder_are_taken_and_none_is_refused(end_to_end, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        end_to_end.main([*LESS, "--pictures", str(tmp_path)])
    assert f"--pictures {tmp_path}: no pictures there; needed: .jpeg, .jpg" in capsys.readouterr().err
    (tmp_path / "below").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "below" / "one.PNG")
    found = end_to_end.encoded_pictures(tmp_path, 5)
    assert found == [(tmp_path / "below" / "one.PNG").read_bytes()]


def test_speed_of_two_implementations_is_compared_by_pairs(end_to_end):
    pairs = {"plain": [{"x": 1.0}, {"x": 2.0}, {"x": 4.0}], "fast": [{"x": 2.0}, {"x": 6.0}, {"x": 4.0}]}
    assert end_to_end.median_of_pairs(pairs, lambda run: run["x"]) == 2.0


@pytest.mark.parametrize("small", ["", "1"])
def test_every_part_of_the_script_for_a_gpu_is_a_line_that_the_benchmarks_take(tmp_path, small):
    environment = {**os.environ, "OUT": str(tmp_path / "out"), "PYTHON": "echo", "DEVICE": "cpu", "SMALL": small}
    script = str(SCRIPTS / "speed_on_gpu.sh")
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("scripts/benchmarks/")]
    taken = [imported(path.split("/")[-1].removesuffix(".py")).options_of(arguments) for path, *arguments in lines]
    assert [options.compare for options in taken] == ["plain", "plain", None, None, None]
    assert len({options.json for options in taken}) == 5 and taken[4].ablate
    assert [options.drop_path for options in taken[2:4]] == [0, 0.4]
    assert {options.model for options in taken} == ({"tiny"} if small else {"vit-b16", "vit-l14"})


def test_a_part_that_fails_leaves_the_others_of_the_script_for_a_gpu(tmp_path):
    environment = {**os.environ, "OUT": str(tmp_path), "PYTHON": "false", "DEVICE": "cpu", "SECONDS_IN_ALL": "200"}
    script = str(SCRIPTS / "speed_on_gpu.sh")
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.count("ended with exit status 1") == 5


def test_ablations_compute_the_same_by_other_ways(end_to_end):
    ablations = imported("step_ablations").ABLATIONS
    train_step = imported("train_step")
    options = train_step.options_of([*LESS, "--dtype", "float32"])
    batch, losses, passes = train_step.random_batch(options), {}, {}
    untouched = end_to_end.build_model(options)
    for name in ("whole", "packing off", "last block whole", "prototype loss plain"):
        model, passes[name] = copy.deepcopy(untouched), 0
        if name != "whole":
            ablations[name](model)

        def count(*arguments, name=name):
            passes[name] += 1

        model.student.layers[0].register_forward_pre_hook(count)
        with torch.no_grad():
            losses[name] = model(**batch).loss.item()
    assert passes == {"whole": 1, "packing off": 2, "last block whole": 1, "prototype loss plain": 1}
    assert all(loss == pytest.approx(losses["whole"], rel=1e-4) for loss in losses.values())
