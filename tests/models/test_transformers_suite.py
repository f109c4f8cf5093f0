"""Fetches the model tests of the installed transformers (they come with its source distribution) and runs them here.

Run by hand: `pytest -m "slow and network" tests/models/test_transformers_suite.py`; needs `pip install parameterized`.
"""

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

SUITE = Path(__file__).with_name("transformers_suite.py")
NOT_IN_THE_DISTRIBUTION = {
    "exporters/test_export.py": "ExportTesterMixin",
    "generation/test_utils.py": "GenerationTesterMixin",
}
"""Files that the tests import and the distribution lacks, and the class that each is asked for."""


@pytest.mark.slow
@pytest.mark.network
def test_the_model_tests_of_transformers_pass(tmp_path):
    pytest.importorskip("parameterized")
    name = f"transformers-{version('transformers')}"
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*fetch, "--no-build-isolation", "-d", tmp_path, name.replace("-", "==")], check=True)
    with tarfile.open(tmp_path / f"{name}.tar.gz") as source:
        tests = [member for member in source.getmembers() if member.name.startswith(f"{name}/tests/")]
        source.extractall(tmp_path, members=tests, filter="data")
    root = tmp_path / name
    for path, class_name in NOT_IN_THE_DISTRIBUTION.items():
        if not (root / "tests" / path).exists():
            (root / "tests" / path).parent.mkdir(exist_ok=True)
            (root / "tests" / path).write_text(f"class {class_name}:\n    pass\n")
    suite = root / "test_synclr.py"
    suite.write_text(SUITE.read_text())
    path = os.pathsep.join([str(SUITE.parents[2]), str(root)])
    options = ["-q", "-c", os.devnull, "--rootdir", str(root), "--import-mode=importlib", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(suite)],
        env={**os.environ, "PYTHONPATH": path},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 150
