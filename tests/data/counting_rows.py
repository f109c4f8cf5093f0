"""A tiny real stage for the tests of the writer: rows that are a function of (seed, row number)."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pyarrow as pa

from synclr_hf.data.cards import CardFacts
from synclr_hf.data.plans import RunPlan
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.writing import write_run

SCHEMA = pa.schema([("number", pa.int64()), ("text", pa.string()), ("payload", pa.binary())])


@dataclass
class CountingRows:
    """Makes rows; may sleep in each, raise at one, end its process at one, or make the rows of one shard huge."""

    seed: int = 0
    seconds_per_row: float = 0.0
    raise_at: int | None = None
    die_at: int | None = None
    error: type = RuntimeError
    huge_shard: int | None = None

    def load(self):
        self.loaded_in = os.getpid()

    def make(self, task, tally, report):
        for number in range(task.first_row, task.first_row + task.num_rows):
            if number == self.raise_at:
                raise self.error(f"row {number} cannot be made")
            if number == self.die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.seconds_per_row:
                time.sleep(self.seconds_per_row)
            tally.counts["odd"] += number % 2
            report(1)
            text = task.inputs[number - task.first_row]["text"] if task.inputs else f"row {number}"
            size = 5000 if task.index == self.huge_shard else 200
            noise = Random(seed_for(self.seed, number)).randbytes(size)
            yield {"number": number, "text": text, "payload": noise}


def plan_for(folder, rows=60, rows_per_shard=10, **configuration):
    card = CardFacts("Numbers", "Numbers.", {"number": "a number"}, {"All": "free"}, "mit", {}, "synclr numbers")
    return RunPlan(
        Path(folder),
        "numbers",
        rows,
        rows_per_shard,
        {"seed": 0, **configuration},
        {"command": "synclr numbers"},
        lambda: card,
    )


def run(folder, workers=1, rows=60, rows_per_shard=10, configuration=(), inputs=None, part=None, **maker):
    plan = plan_for(folder, rows, rows_per_shard, **dict(configuration))
    return write_run(plan, SCHEMA, CountingRows(**maker), workers=workers, inputs=inputs, part=part)


def tree(folder, hidden=False):
    """Return relative path -> bytes of every file; hidden ones are those with a dot in front, or in such a folder."""
    paths = {path.relative_to(folder): path for path in Path(folder).rglob("*") if path.is_file()}
    shown = {name: path for name, path in paths.items() if hidden or not any(part[0] == "." for part in name.parts)}
    return {str(name): path.read_bytes() for name, path in shown.items()}


if __name__ == "__main__":
    run(sys.argv[1], workers=int(sys.argv[2]), seconds_per_row=float(sys.argv[3]))
