import json
import os
import re
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from counting_rows import run, tree

from synclr_hf.data.executors import EXECUTORS, ExecutorConfig, execute
from synclr_hf.data.runs import FINISHING, OPENING, Part
from synclr_hf.errors import UserInputError

HERE = Path(__file__).parent
STAND_IN = HERE.parent / "sbatch_stand_in"


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """What a run on this machine gives."""
    folder = tmp_path_factory.mktemp("local") / "numbers"
    execute(partial(run, folder), ExecutorConfig(), folder)
    return tree(folder)


class Cluster:
    """The stand-in for Slurm; `hold` keeps jobs pending until it is released."""

    def __init__(self, folder):
        self.jobs, self.held = folder / "jobs", folder / "hold"
        self.jobs.mkdir()

    def hold(self):
        self.held.touch()

    def states(self):
        numbers = sorted(int(job.name) for job in self.jobs.iterdir())
        return [(self.jobs / str(number) / "state").read_text() for number in numbers]

    def wait(self):
        """Let all jobs run to their end and return their states."""
        self.held.unlink(missing_ok=True)
        end = time.monotonic() + 60
        while {"PENDING", "RUNNING"} & set(states := self.states()):
            assert time.monotonic() < end, states
            time.sleep(0.02)
        return states

    def options(self, number):
        return (self.jobs / str(number) / "options").read_text().splitlines()


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    cluster = Cluster(tmp_path)
    monkeypatch.setenv("SLURM_STAND_IN", str(cluster.jobs))
    monkeypatch.setenv("PATH", f"{STAND_IN}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parents[1]), str(HERE)]))
    yield cluster
    subprocess.run(["scancel", *(job.name for job in cluster.jobs.iterdir())], check=True)


def on_slurm(folder, tasks=2, settings=(), **stage):
    config = ExecutorConfig(executor="slurm", tasks=tasks, **dict(settings))
    return execute(partial(run, folder, **stage), config, folder)


def logs_of(message):
    return Path(re.search("logs in '(.*?)'", message)[1])


def test_slurm_makes_what_this_machine_makes(tmp_path, slurm, local, capfd):
    folder = tmp_path / "numbers"
    slurm.hold()
    told = on_slurm(folder)
    assert told.startswith(f"'{folder}' is made by the Slurm jobs 1 (2 parts of 1 CPU, 0 GPU) and 2 (the card); ")
    for executor in (ExecutorConfig(), ExecutorConfig(executor="slurm", tasks=3)):
        with pytest.raises(UserInputError) as refused:
            execute(partial(run, folder), executor, folder)
        assert f"the Slurm jobs 1 2 fill '{folder}' and 1 2 still wait or run" in str(refused.value)
        assert "type scancel 1 2; if the cluster has lost them, delete '" in str(refused.value)
    assert "UNFINISHED" in (folder / "README.md").read_text()
    assert slurm.wait() == ["COMPLETED", "COMPLETED"]
    assert tree(folder) == local
    assert len(list(logs_of(told).glob("parts/logs/task_*.log"))) == 2
    assert on_slurm(folder) == str(folder), "a complete run is not submitted again"
    assert len(slurm.states()) == 2
    assert capfd.readouterr().err.count("\n") == 0, "datatrove speaks in the log files only"


def test_a_part_that_was_killed_is_made_by_the_next_submission(tmp_path, slurm, local):
    folder = tmp_path / "numbers"
    on_slurm(folder, die_at=45)
    assert slurm.wait() == ["FAILED", "CANCELLED"], "the finishing job goes when a part fails"
    kept = {path: path.stat().st_ino for path in folder.glob("data/*.parquet")}
    assert len(kept) == 5 and "UNFINISHED" in (folder / "README.md").read_text()
    told = on_slurm(folder)
    assert "(1 part of " in told and "array=0-0" in slurm.options(3), "the other parts are left out"
    assert slurm.wait()[2:] == ["COMPLETED", "COMPLETED"]
    assert tree(folder) == local
    assert all(path.stat().st_ino == inode for path, inode in kept.items())


def test_more_tasks_than_shards(tmp_path, slurm):
    slurm.hold()
    told = on_slurm(tmp_path / "numbers", tasks=500, rows=15)
    assert "(2 parts of " in told and "array=0-1" in slurm.options(1)


def test_what_slurm_is_asked_for(tmp_path, slurm):
    slurm.hold()
    settings = {
        "partition": "gpu",
        "time": "2-12",
        "cpus_per_task": 4,
        "gpus_per_task": 1,
        "mem_per_cpu_gb": 8,
        "sbatch_args": ["account=vision", "--qos=high", "exclusive"],
        "env_command": "module load cuda",
    }
    on_slurm(tmp_path / "numbers", settings=settings)
    shared = {
        "partition=gpu",
        "time=2-12",
        "cpus-per-task=4",
        "gpus=1",
        "mem-per-cpu=8G",
        "account=vision",
        "qos=high",
    }
    for number, own in ((1, "array=0-1"), (2, "dependency=afterok:1")):
        assert {*shared, "exclusive=", "job-name=synclr-numbers", own} <= set(slurm.options(number))
        script = (slurm.jobs / str(number) / "script").read_text()
        assert f'export PATH="{Path(sys.executable).parent}:$PATH"; module load cuda\n' in script
    on_slurm(tmp_path / "plain")
    assert not {"partition", "time", "mem-per-cpu", "gpus", "qos"} & {line.split("=")[0] for line in slurm.options(3)}


def test_slurm_refuses_the_partition(tmp_path, slurm):
    with pytest.raises(
        UserInputError, match="sbatch refuses the job .invalid partition specified: nowhere; Batch job"
    ):
        on_slurm(tmp_path / "numbers", settings={"partition": "nowhere"})
    assert slurm.states() == []


def test_parts_do_not_run_when_slurm_refuses_the_job_behind_them(tmp_path, slurm, monkeypatch):
    slurm.hold()
    monkeypatch.setenv("SLURM_STAND_IN_REFUSES", "synclr-numbers")
    with pytest.raises(UserInputError, match="sbatch refuses the job .Batch job submission failed: Job violates"):
        on_slurm(tmp_path / "numbers")
    assert slurm.states() == ["CANCELLED"]


def test_parts_do_not_run_when_nobody_knows_the_job_behind_them(tmp_path, slurm, monkeypatch):
    slurm.hold()
    monkeypatch.setenv("SLURM_STAND_IN_MUMBLES", "synclr-numbers")
    with pytest.raises(UserInputError, match="sbatch names no job in its answer"):
        on_slurm(tmp_path / "numbers")
    assert slurm.states()[0] == "CANCELLED"


def test_a_folder_of_another_run_is_refused_before_anything_is_submitted(tmp_path, slurm):
    folder = run(tmp_path / "numbers", rows=30)
    with pytest.raises(UserInputError, match="another configuration: rows 30 there, 60 now"):
        on_slurm(folder)
    assert slurm.states() == []


def test_jobs_that_nobody_can_ask_about(tmp_path, slurm, monkeypatch):
    folder = tmp_path / "numbers"
    slurm.hold()
    on_slurm(folder)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("PATH", "")  # a machine without squeue
        with pytest.raises(UserInputError, match="squeue does not say .*or delete '(.*)' if they are gone") as refused:
            execute(partial(run, folder), ExecutorConfig(), folder)
    Path(re.search("delete '(.*?)'", str(refused.value))[1]).unlink()
    assert execute(partial(run, folder), ExecutorConfig(), folder) == str(folder)


def test_jobs_that_slurm_has_forgotten_are_over(tmp_path, slurm):
    folder = tmp_path / "numbers"
    slurm.hold()
    on_slurm(folder)
    subprocess.run(["scancel", "1", "2"], check=True)
    for number in "12":
        shutil.rmtree(slurm.jobs / number)
    assert on_slurm(folder).startswith(f"'{folder}' is made by the Slurm jobs 1 ")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ids": 3}'])
def test_a_damaged_note_of_jobs(tmp_path, text):
    folder = run(tmp_path / "numbers")
    (folder / ".cluster").mkdir()
    (folder / ".cluster/jobs.json").write_text(text)
    with pytest.raises(UserInputError, match="jobs.json' is damaged; delete it if no Slurm job fills"):
        execute(partial(run, folder), ExecutorConfig(), folder)


def test_no_slurm_here(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        UserInputError, match="needs the program sbatch, and it is not there.*or type --executor local"
    ):
        on_slurm(tmp_path / "numbers")


@pytest.mark.parametrize("executor", ["slurm", "ray"])
def test_a_package_that_is_missing(tmp_path, monkeypatch, executor):
    monkeypatch.setitem(EXECUTORS, executor, ("no_such_package",))
    with pytest.raises(UserInputError, match=r'no_such_package; type pip install "synclr-hf\[cluster\]"'):
        execute(partial(run, tmp_path / "numbers"), ExecutorConfig(executor=executor, tasks=2), tmp_path / "numbers")
    assert not (tmp_path / "numbers").exists()


@pytest.mark.parametrize("again", [on_slurm, lambda folder: execute(partial(run, folder), ExecutorConfig(), folder)])
def test_a_run_whose_finishing_was_lost_is_finished_at_once(tmp_path, slurm, local, again):
    folder = tmp_path / "numbers"
    slurm.hold()
    on_slurm(folder)
    subprocess.run(["scancel", "1", "2"], check=True)
    run(folder, part=Part(0, 1))
    assert again(folder) == str(folder)
    assert tree(folder) == local and len(slurm.states()) == 2
    assert not (folder / ".cluster/jobs.json").exists(), "nobody need ask Slurm about them again"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"executor": "slrum"},
            r"unknown executor 'slrum' \(did you mean 'slurm'\?\); allowed: local, slurm, ray",
        ),
        ({"tasks": 4}, "--tasks is a setting of --executor slurm or ray, and this run has --executor local; leave it"),
        ({"executor": "ray", "tasks": 4, "time": "1:00"}, "--time is a setting of --executor slurm, and this run has"),
        ({"executor": "ray"}, "--executor ray does not say in how many parts; allowed: 1 or more; type --tasks 8"),
        ({"executor": "slurm", "tasks": 0}, "--tasks 0 cannot be used"),
        ({"executor": "slurm", "tasks": 1, "cpus_per_task": 0}, "--cpus-per-task 0 cannot be used"),
        ({"executor": "slurm", "tasks": 1, "gpus_per_task": -1}, "--gpus-per-task -1 cannot be used"),
        ({"executor": "slurm", "tasks": 1, "time": "a day"}, "--time a day cannot be used; .*type --time 20:00:00"),
        ({"executor": "slurm", "tasks": 1, "sbatch_args": ["=x"]}, "--sbatch-args =x cannot be used; allowed: NAME=V"),
        ({"executor": "slurm", "tasks": 1, "sbatch_args": ["array=1-9"]}, "'array' is set by this program; leave"),
        ({"executor": "slurm", "tasks": 1, "sbatch_args": ["gpus=2"]}, "option of its own; type --gpus-per-task 2"),
        ({"executor": "slurm", "tasks": 1, "sbatch_args": ["time=9"]}, "option of its own; type --time 9"),
    ],
)
def test_settings_that_cannot_be_used(settings, said):
    with pytest.raises(UserInputError, match=said):
        ExecutorConfig(**settings)


def told_by_ray(folder, which):
    """Run the program that makes runs on a Ray of two CPUs; return what they said, and its standard error."""
    paths = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    settings = {"RAY_AUTH_MODE": "disabled", "RAY_TASK_MAX_RETRIES": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    program = [sys.executable, "-W", "error", HERE / "ray_runs.py", folder, which]
    environment = {**os.environ, **settings, "PYTHONPATH": paths}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "told.json").read_text()), done.stderr


def test_ray_makes_what_this_machine_makes(tmp_path, local):
    told, _ = told_by_ray(tmp_path, "first")
    assert told["refused"].startswith(
        "1 of 2 parts failed on Ray, part 0 because: row 45 cannot be made; 5 of 6 shards"
    )
    assert told["again"] == str(tmp_path / "numbers")
    assert tree(tmp_path / "numbers") == local


@pytest.mark.slow
def test_what_goes_wrong_on_ray(tmp_path, local):
    told, errors = told_by_ray(tmp_path, "more")
    assert tree(Path(told["own"])) == local, "on a Ray that it starts and ends itself"
    assert told["killed"].startswith("1 of 2 parts failed on Ray, part 0 because: its process was killed, perhaps for")
    assert "part 0 because: of a bug, see its traceback above (RuntimeError); 5 of 6 shards" in told["bug"]
    assert "counting_rows.py" in errors and "RuntimeError: row 45 cannot be made" in errors
    assert "no node of the Ray cluster has 1 CPU, 3 GPU and the memory of a task now; waiting" in errors
    kept = f"stopped; 0 of 6 shards are safe in '{tmp_path / 'large'}'; run the same command again to go on"
    assert told["large"] == kept, "it waits, as a cluster may grow, until the user stops it"


def test_no_ray_cluster_answers(tmp_path, monkeypatch, free_port):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port}")
    config = ExecutorConfig(executor="ray", tasks=2)
    with pytest.raises(UserInputError, match=f"no Ray cluster answers at RAY_ADDRESS=127.0.0.1:{free_port} .*refused"):
        execute(partial(run, tmp_path / "numbers"), config, tmp_path / "numbers")


def test_the_finishing_part_is_its_own(tmp_path):
    assert len({OPENING, FINISHING, Part(0, 1)}) == 3 and list(FINISHING.shards(9)) == list(OPENING.shards(9)) == []
