"""`--executor` as a user types it; the parts themselves are tested with the writer and the executors."""

import os
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from synclr_hf.captions.stage import CaptionsConfig, write_captions

STAND_IN = Path(__file__).parents[1] / "sbatch_stand_in"


@pytest.fixture
def slurm(environment, tmp_path, monkeypatch):
    """Let the commands of this test find a Slurm."""
    (tmp_path / "jobs").mkdir()
    monkeypatch.setitem(environment, "SLURM_STAND_IN", str(tmp_path / "jobs"))
    monkeypatch.setitem(environment, "PATH", f"{STAND_IN}{os.pathsep}{os.environ['PATH']}")


def wait_for_jobs(folder):
    end = time.monotonic() + 60
    while (folder / ".cluster/jobs.json").exists():
        assert time.monotonic() < end, [path.read_text() for path in folder.glob(".cluster/*/*/slurm_logs/*")]
        time.sleep(0.05)


def test_captions_on_slurm(synclr, slurm, tmp_path):
    """Relative paths are those of the folder where the command was typed."""
    (tmp_path / "unsafe.txt").write_text("knife\n")
    settings = {"num_captions": 50, "rows_per_shard": 20, "unsafe_words": tmp_path / "unsafe.txt"}
    write_captions(CaptionsConfig(output_dir=tmp_path / "here", **settings), workers=1)
    typed = ["--num-captions", 50, "--rows-per-shard", 20, "--unsafe-words", "unsafe.txt", "--output-dir", "there"]
    cluster = [
        "--executor",
        "slurm",
        "--tasks",
        2,
        "--partition",
        "cpu",
        "--sbatch-args",
        "account=vision",
        "exclusive",
    ]
    done = synclr("captions", *typed, *cluster, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"captions: '{tmp_path}/there' is made by the Slurm jobs 1 (2 parts of 1 CPU, 0 GPU) and 2" in done.stdout
    assert len(done.stdout.splitlines()) == 1 and not done.stderr.strip()
    wait_for_jobs(tmp_path / "there")
    here, there = (sorted((tmp_path / name / "data").iterdir()) for name in ("here", "there"))
    assert [path.read_bytes() for path in here] == [path.read_bytes() for path in there]
    assert sum(len(pq.read_table(path)) for path in there) == 50
    assert "50 rows, " in (tmp_path / "there/README.md").read_text()

    pictures = ["--captions", "there", "--images-per-caption", 2, "--size", 32, "--output-dir", "pictures"]
    done = synclr("images", *pictures, "--executor", "slurm", "--tasks", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    wait_for_jobs(tmp_path / "pictures")
    assert sum(len(pq.read_table(path)) for path in (tmp_path / "pictures/data").iterdir()) == 50


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            ["--tasks", 4],
            "--tasks is a setting of --executor slurm or ray, and this run has --executor local",
        ),
        (
            ["--executor", "slurm"],
            "--executor slurm does not say in how many parts; allowed: 1 or more; type --tasks",
        ),
        (["--executor", "slurm", "--tasks", 2, "--partition", "nowhere"], "invalid partition specified: nowhere"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_one_line(synclr, slurm, tmp_path, typed, said):
    done = synclr("captions", "--num-captions", 20, "--output-dir", tmp_path / "captions", *typed)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and said in done.stderr
