"""What a stage tells the writer of shards: the plan of its run, what makes its rows, who hears of shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from synclr_hf.data.cards import CardFacts, CardSections
from synclr_hf.data.extension import Growth, RunSize
from synclr_hf.data.shards import Row, ShardNote, ShardTask
from synclr_hf.data.tally import Tally
from synclr_hf.data.workers import Report


class RowMaker(Protocol):
    """Makes the rows of a shard from (configuration, seed, shard) and nothing else; it can be pickled."""

    def load(self) -> None:
        """Build the back end; called once a process, before the first shard."""
        ...

    def make(self, task: ShardTask, tally: Tally, report: Report) -> Iterator[Row]:
        """Yield the shard's rows in order, tally rejected draws and cost, and report units as they get done.

        What an earlier version of the shard has (`kept_rows`) is neither tallied nor reported again. The rows of the
        task below `kept_num_rows` that it lacks were dropped and stay so.
        """
        ...


class ShardSink(Protocol):
    """Takes finished shards away while others are made, e.g. to the Hub; it never holds up whoever makes them."""

    def opened(self, folder: Path) -> None:
        """Hear that the run folder is there with its `run.json`; told before any shard."""
        ...

    def finished(self, index: int, note: ShardNote) -> None:
        """Hear that a shard lies in the folder, now or since an earlier run."""
        ...


Describe = Callable[[Sequence[Path], Tally], CardSections]


@dataclass(frozen=True)
class RunPlan:
    """A run of one stage, before it starts.

    Attributes:
        folder: where it goes.
        stage: name of the stage, which is also the subcommand of `synclr`.
        rows: number of rows to make.
        rows_per_shard: rows of every shard but the last.
        configuration: what decides the contents; another one is refused in the same folder.
        remarks: what else `run.json` tells, e.g. the command; free to differ when the run is taken up again.
        card: gives what the dataset card says beside the numbers; asked when the card is written, since what a model
            says of itself is known when it is there.
        describe: looks at the shards of the finished run, in order, and at what they told, for more of the card.
        unit: what the progress bar counts.
        units_per_row: how many of them a row has.
        growth: how the run may be extended; `None`: not at all.
    """

    folder: Path
    stage: str
    rows: int
    rows_per_shard: int
    configuration: dict[str, Any]
    remarks: dict[str, Any]
    card: Callable[[], CardFacts]
    describe: Describe | None = None
    unit: str = "row"
    units_per_row: int = 1
    growth: Growth | None = None

    @property
    def num_shards(self) -> int:
        """Number of shards of the whole run."""
        return RunSize(self.rows, self.rows_per_shard).num_shards
