"""The clock of a run: kept over interruptions, forgotten when another run takes the folder."""

import time

import pytest

from synclr_hf.cli.clock import RunClock


def test_attempts_of_one_run_add_up_and_those_of_another_do_not(tmp_path):
    file = tmp_path / "measurements.json"
    for _ in range(2):
        clock = RunClock(file, "one")
        with clock.stage("images"):
            time.sleep(0.1)
    assert 0.2 <= clock.seconds["images"] < 2
    assert RunClock(file, "one").seconds == clock.seconds
    assert RunClock(file, "two").seconds == {} and RunClock(file, "two").peak_memory_gib == 0


def test_a_stage_that_fails_is_measured_too(tmp_path):
    clock = RunClock(tmp_path / "measurements.json", "one")
    with pytest.raises(RuntimeError), clock.stage("images"):
        raise RuntimeError
    assert "images" in RunClock(clock.file, "one").seconds


def test_a_damaged_file_is_taken_for_none(tmp_path):
    (tmp_path / "measurements.json").write_text("{")
    assert RunClock(tmp_path / "measurements.json", "one").seconds == {}
