"""Runs on a small Ray of this machine; writes what they said."""

import json
import signal
import sys
from functools import partial
from pathlib import Path

import ray
from counting_rows import run

from synclr_hf.data.executors import ExecutorConfig, execute
from synclr_hf.errors import UserInputError


def on_ray(folder, gpus=0, **stage):
    config = ExecutorConfig(executor="ray", tasks=2, gpus_per_task=gpus)
    try:
        return execute(partial(run, folder, **stage), config, folder)
    except (UserInputError, KeyboardInterrupt, RuntimeError) as error:
        return str(error)


def first(place):
    refused = on_ray(place / "numbers", raise_at=45, error=UserInputError)
    return {"refused": refused, "again": on_ray(place / "numbers")}


def more(place):
    told = {"killed": on_ray(place / "killed", die_at=5), "bug": on_ray(place / "bug", raise_at=45)}
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(1)  # as the user's Ctrl-C
    return told | {"large": on_ray(place / "large", gpus=3)}


if __name__ == "__main__":
    place, which = Path(sys.argv[1]), sys.argv[2]
    own = {"own": on_ray(place / "own")} if which == "more" else {}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    told = first(place) if which == "first" else more(place)
    (place / "told.json").write_text(json.dumps(own | told))
