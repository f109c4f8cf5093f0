"""A tiny real stage whose shards go to the Hub while it runs; also a script, to be killed."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pyarrow as pa
from huggingface_hub import HfApi

from synclr_hf.data.cards import CardFacts
from synclr_hf.data.plans import RunPlan
from synclr_hf.data.runs import FINISHING
from synclr_hf.data.writing import write_run
from synclr_hf.hub import shipping
from synclr_hf.hub.shipping import DatasetTarget

NAME = "ada/numbers"
ROWS_PER_SHARD = 5
SCHEMA = pa.schema([("number", pa.int64()), ("payload", pa.binary())])


@dataclass
class Numbers:
    """Makes rows; something may happen before each shard."""

    before: Callable[[int], None]
    seed: int

    def load(self):
        pass

    def make(self, task, tally, report):
        self.before(task.index)
        for number in range(task.first_row, task.first_row + task.num_rows):
            report(1)
            yield {"number": number, "payload": Random(f"{self.seed} {number}").randbytes(2000)}


def ship(folder, *, before=lambda index: None, shards=4, seed=0, part=None, api=None, **settings) -> str | None:
    """Make the shards and put them on the Hub, as `synclr ... --push-to-hub` does; return the address at the end."""
    card = CardFacts("Numbers", "Numbers.", {"number": "a number"}, {"All": "free"}, "mit", {}, "synclr numbers")
    rows = shards * ROWS_PER_SHARD
    plan = RunPlan(Path(folder), "numbers", rows, ROWS_PER_SHARD, {"seed": seed}, {"command": "-"}, lambda: card)
    target = DatasetTarget(NAME, **settings)
    target.check(api=api)
    with target.shipping(part, api=api) as sink:
        write_run(plan, SCHEMA, Numbers(before, seed), workers=1, part=part, sink=sink)
    return target.push(folder, "numbers", api=api) if part in (None, FINISHING) else None


def die_when_there(shard: int, before: int) -> Callable[[int], None]:
    """Return what kills this process before one shard, as soon as another one is on the Hub."""

    def wait_and_die(index: int) -> None:
        while index == before:
            if HfApi().file_exists(NAME, f"data/train-{shard:05d}.parquet", repo_type="dataset"):
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.02)

    return wait_and_die


if __name__ == "__main__":  # FOLDER THERE BEFORE [THERE BEFORE ...]: a process for each pair, killed one after another
    shipping.SECONDS_BETWEEN_COMMITS = 0.1
    numbers = iter(map(int, sys.argv[2:]))
    for there, before in zip(numbers, numbers, strict=False):
        child = os.fork()  # before anything is asked of the Hub: no threads yet
        if child == 0:
            ship(sys.argv[1], before=die_when_there(there, before))
        print(os.waitpid(child, 0)[1])
