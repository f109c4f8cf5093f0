"""The benchmark of the loader in miniature: the line of its documentation with less of everything, without rivals."""

import json
import runpy
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from image_sets import picture

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmarks" / "loader.py"


def test_the_documented_line_in_miniature(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(5):
        picture(number, 90).save(tmp_path / "pictures" / f"{number}.png")
    less = ["--images", "4", "--rounds", "2", "--pictures", tmp_path / "pictures"]
    command = [sys.executable, SCRIPT, *less, "--json", tmp_path / "new" / "loader.json"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "new" / "loader.json").read_text())
    assert json.loads(done.stdout) == found
    speeds, ratio = found["images_per_second"], found["fast_times_as_fast_as"]["plain"]
    for values in (*speeds.values(), ratio):
        assert 0 < values["quartile_low"] <= values["median"] <= values["quartile_high"]
    assert set(speeds) == {"fast", "plain"} and found["jpeg_bytes"] > 1000
    parts = found["fast_ms_an_image"]
    assert list(parts) == ["decode", "crops", "parameters, masks, collate", "photometric"]
    assert parts["decode"]["median"] > 0 and parts["photometric"]["median"] > 0
    assert found["settings"]["images"] == 4 and found["machine"]["torch"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--rounds", "1"], "--rounds 1: quartiles need 2 rounds or more; type --rounds 2"),
        (["--images", "6"], "--images 6: allowed: multiples of 4; type --images 64"),
    ],
)
def test_too_few_rounds_or_odd_pictures(options, told, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["loader.py", *options])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_without_pictures(tmp_path):
    loader = runpy.run_path(str(SCRIPT), run_name="loader")
    with pytest.raises(SystemExit, match="0 pictures found; needed: 4"):
        loader["write_jpegs"](Namespace(pictures=tmp_path, count=8), tmp_path)
