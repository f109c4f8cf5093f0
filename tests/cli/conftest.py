"""Commands as a user types them, in processes of their own."""

import os
import subprocess

import pytest
from commands import RECIPE, command

from synclr_hf.cli.main import main


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """An environment with caches of its own and warnings as errors nowhere: users do not set that."""
    cache = tmp_path_factory.mktemp("cache")
    return {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def synclr(environment):
    """Run `synclr ...` and return the finished process with its output as text."""

    def run(*arguments, timeout=300, **options):
        return subprocess.run(
            command(*arguments), env=environment, capture_output=True, text=True, timeout=timeout, **options
        )

    return run


@pytest.fixture(scope="session")
def minute_run(synclr, tmp_path_factory):
    """The folder of the one-minute recipe, run once from end to end."""
    folder = tmp_path_factory.mktemp("minute") / "run"
    done = synclr("run", RECIPE, "--output-dir", folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == f"report: {folder}/report.html"
    return folder


@pytest.fixture
def synclr_here(capfd, monkeypatch, tmp_path_factory):
    """Run `synclr ...` in this process, which has torch loaded already; the same result as `synclr`."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))

    def run(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        output, errors = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, ended.value.code, output, errors)

    return run
