"""The benchmark of the loader in miniature: the line of its documentation with less of everything, without rivals."""

import json
import runpy
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from image_sets import picture

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmarks" / "loader.py"


@pytest.fixture(scope="module")
def loader():
    return runpy.run_path(str(SCRIPT), run_name="loader")


@pytest.fixture(autouse=True)
def threads_as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_the_documented_line_in_miniature(loader, tmp_path, monkeypatch, capsys):
    (tmp_path / "pictures").mkdir()
    for number in range(5):
        picture(number, 90).save(tmp_path / "pictures" / f"{number}.png")
    less = ["--images", "4", "--rounds", "2", "--pictures", tmp_path / "pictures"]
    command = ["loader.py", *less, "--json", tmp_path / "new" / "loader.json"]
    monkeypatch.setattr(sys, "argv", [str(part) for part in command])
    loader["main"]()
    found = json.loads((tmp_path / "new" / "loader.json").read_text())
    assert json.loads(capsys.readouterr().out) == found
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
def test_too_few_rounds_or_odd_pictures(loader, options, told, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["loader.py", *options])
    with pytest.raises(SystemExit, match="2"):
        loader["main"]()
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_without_pictures(loader, tmp_path):
    with pytest.raises(SystemExit, match="0 pictures found; needed: 4"):
        loader["write_jpegs"](Namespace(pictures=tmp_path, count=8), tmp_path)
