"""A small finished run, made once by the commands that a user types."""

import pytest
from small_run import RECIPE, SMALLER, synclr


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A run of 24 captions and 6 steps."""
    folder = tmp_path_factory.mktemp("published") / "run"
    done = synclr("run", RECIPE, "--output-dir", folder, *SMALLER)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder
