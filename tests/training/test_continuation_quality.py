"""Heads, teacher and prototypes are worth keeping: what continuing costs with and without them; three seeds."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from synclr_hf.captions.stage import CaptionsConfig, write_captions

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmarks" / "continuation.py"


def measured(folder):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--output-dir", folder],
        env={**os.environ, "HF_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    return json.loads((folder / "continuation.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_continuing_keeps_what_the_encoder_knows_and_losing_the_heads_costs_more(tmp_path):
    rows = measured(tmp_path)["seeds"]
    assert [row["seed"] for row in rows] == [0, 1, 2] and {row["pictures"] for row in rows} == {4000}
    for row in rows:
        assert row["knn_top1"]["trained"] - row["knn_top1"]["untrained"] >= 8, "the encoder did not learn"
    drop, without_heads = (statistics.mean(row[name] for row in rows) for name in ("drop", "drop_without_heads"))
    assert drop < 1
    assert without_heads > drop


def test_other_options_in_a_used_folder_are_one_line(tmp_path):
    write_captions(CaptionsConfig(output_dir=str(tmp_path / "0" / "captions"), num_captions=3), workers=1)
    done = subprocess.run([sys.executable, SCRIPT, "--output-dir", tmp_path], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("synclr: error:") and "another configuration" in line and "rows 3 there" in line
