"""Pre-training runs in processes of their own: the recipe and how a test types the command."""

import os
import subprocess
import sys
from pathlib import Path

import yaml
from tiny_pretraining import ENCODER, OBJECTIVES, VIEWS

ROOT = Path(__file__).parents[2]
WATCHED_RUN = Path(__file__).with_name("watched_run.py")


def write_recipe(path, training_arguments, **pretraining):
    """Write a recipe of a tiny run on CPU; `pretraining` changes entries of its section."""
    fixed = {"per_device_train_batch_size": 3, "learning_rate": 1e-3, "logging_steps": 1, "use_cpu": True}
    section = {
        "encoder": {**ENCODER, "initializer_range": 0.2},
        "objectives": OBJECTIVES,
        "views": VIEWS,
        "training_arguments": {**fixed, **training_arguments},
        **pretraining,
    }
    path.write_text(yaml.safe_dump({"seed": 0, "pretraining": section}))
    return path


def environment(cache):
    """Return the environment of a run: no network, a cache of its own, one thread a process."""
    own = {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return {**os.environ, **own}


def run(command, cache, timeout=180):
    """Run a command in a session of its own (so that it may kill its process group) and return what came of it."""
    return subprocess.run(
        [str(part) for part in command],
        env=environment(cache),
        capture_output=True,
        text=True,
        timeout=timeout,
        start_new_session=True,
    )


def python(*arguments):
    return [sys.executable, *arguments]
