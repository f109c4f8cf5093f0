"""The sharded, resumable writer that every generating stage uses."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synclr_hf.data.back_ends import BackEnd
from synclr_hf.data.cards import UNFINISHED, dataset_card
from synclr_hf.data.extension import RunSize
from synclr_hf.data.plans import RowMaker, RunPlan, ShardSink
from synclr_hf.data.progress import Progress
from synclr_hf.data.runs import (
    FINISHING,
    OPENING,
    Part,
    finished_shards,
    noted_shards,
    open_run_folder,
    read_record,
    remove_part_leftovers,
)
from synclr_hf.data.shards import (
    DATA_FOLDER,
    DISK_FULL,
    NOTES_FOLDER,
    Row,
    ShardNote,
    ShardTask,
    remove_temporary_files,
    shard_file,
    write_shard,
    write_text,
)
from synclr_hf.data.tally import Tally
from synclr_hf.data.workers import Report, WorkerDied, do_tasks
from synclr_hf.errors import UserInputError

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

MAX_SHARDS = 100_000
"""File names have five digits, so that their order is that of the rows."""


@dataclass
class _ShardWork:
    """What a process does: make the rows of a shard and write them."""

    folder: Path
    schema: pa.Schema
    maker: RowMaker
    units_per_row: int

    def load(self) -> None:
        with _not_the_folder():
            self.maker.load()

    def do(self, task: ShardTask, report: Report) -> tuple[int, ShardNote]:
        tally = Tally()
        rows = _guarded(self.maker.make(task, tally, report))
        return task.index, write_shard(self.folder, task, rows, self.schema, tally, self.units_per_row)


@dataclass
class _Finished:
    """What is finished of the shards that a call is about.

    Attributes:
        shards: numbers of these shards.
        size: what the run shall be.
        notes: those of the shards that are all there.
        kept: number of a shard that is to grow -> the number of rows that it was made for.
        kept_units: what such shards have of the unit that the stage counts.
        tally: what the shards of `notes` told, added up.
        hear: is told of every shard that is all there.
    """

    shards: range
    size: RunSize
    notes: dict[int, ShardNote] = field(default_factory=dict)
    kept: dict[int, int] = field(default_factory=dict)
    kept_units: int = 0
    tally: Tally = field(default_factory=Tally)
    hear: Callable[[int, ShardNote], None] | None = None

    def add(self, index: int, note: ShardNote) -> None:
        """Add up the counts and keep the rest: a run may have very many shards."""
        if self.size.is_to_grow(index, note):
            self.kept[index] = note.rows_of_task
            self.kept_units += note.rows_of_task * self.size.units_of(note)
            return
        if self.hear is not None:
            self.hear(index, note)
        self.tally.add(note.tally())
        self.notes[index] = replace(note, counts={}, concepts={}, cost={})

    @property
    def missing(self) -> list[int]:
        return [index for index in self.shards if index not in self.notes]


def write_run(
    plan: RunPlan,
    schema: pa.Schema,
    maker: RowMaker,
    *,
    inputs: Callable[[range], tuple[Row, ...]] | None = None,
    workers: int | None = None,
    back_end: BackEnd | None = None,
    part: Part | None = None,
    sink: ShardSink | None = None,
) -> Path:
    """Make every shard that is not finished yet, and the card; a run that is complete is only checked.

    Several machines make a run together in a folder that they share: one call with `OPENING`, then one a member, each
    with its `Part`, on any machine and in any order, then one with `FINISHING`. Each may be repeated.

    Args:
        plan: what to write, and where.
        schema: columns of the rows, with the metadata of `datasets`.
        maker: makes the rows.
        inputs: gives the rows of the stage before for a range of rows; read when a process is free for them.
        workers: number of processes; `None`: as many as suit the back end.
        back_end: what the maker loads, which knows how many processes suit it and which devices they share out.
        part: what of the run to make; `None`: all of it.
        sink: hears of every shard that is finished.

    Returns:
        The run folder.

    Raises:
        UserInputError: the folder cannot be used, the disk is full, or a process died; finished shards are kept. Or
            another run, or the same part, is at work there; or `FINISHING` finds that shards are missing.
        KeyboardInterrupt: with a message that says what is kept.
    """
    suited = back_end.default_workers if back_end else 1
    count = _worker_count(suited if workers is None else workers, part)
    devices = back_end.devices if back_end else ()
    _check_shard_count(plan)
    shards = part.shards(plan.num_shards) if part and part.tasks else range(plan.num_shards)
    finished = _Finished(shards, RunSize(plan.rows, plan.rows_per_shard))
    try:
        with open_run_folder(plan.folder, _record(plan), part, plan.growth, inputs):
            finished.size = RunSize.of(read_record(plan.folder))
            for name in (DATA_FOLDER, NOTES_FOLDER):
                (plan.folder / name).mkdir(exist_ok=True)
            if sink is not None:
                if part in (None, OPENING) and not (plan.folder / "README.md").exists():
                    _write_card(plan, finished, complete=False)  # whoever hears of the run sees what it is
                sink.opened(plan.folder)
                finished.hear = sink.finished
            for index, note in _shards_there(plan.folder, finished, part):
                finished.add(index, note)
            missing = finished.missing
            if missing and part == FINISHING:
                raise _unfinished(plan, missing)
            if missing and part in (None, OPENING):
                _write_card(plan, finished, complete=False)
            if missing and part != OPENING:
                work = _ShardWork(plan.folder, schema, maker, plan.units_per_row)
                try:
                    _make_shards(plan, work, missing, finished, inputs, min(count, len(missing)), devices)
                finally:
                    remove_part_leftovers(plan.folder, part) if part else remove_temporary_files(plan.folder)
            if part in (None, FINISHING) and (missing or card_is_open(plan.folder)):
                _write_card(plan, finished, complete=True)
    except OSError as error:
        raise _explained(error, plan, finished) from error
    except WorkerDied as error:
        raise UserInputError(
            f"{error} while {plan.stage} were made (out of memory, or a script without `if __name__ == '__main__':`); "
            f"{_kept(plan, finished)}; run the same command again with --workers 1"
        ) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {_kept(plan, finished)}; run the same command again to go on") from None
    return plan.folder


def card_is_open(folder: Path) -> bool:
    """Tell a card that is missing, or that a killed run left, from one that its owner may have edited."""
    card = folder / "README.md"
    return not card.exists() or UNFINISHED in card.read_text(encoding="utf-8")


@contextmanager
def _not_the_folder() -> Iterator[None]:
    """Keep a back end's own OSError apart from those of the folder that is written."""
    try:
        yield
    except OSError as error:
        raise RuntimeError(f"the back end failed: {error}") from error


def _guarded(rows: Iterator[Row]) -> Iterator[Row]:
    with _not_the_folder():
        yield from rows


def command_line(stage: str, config: Any) -> str:
    """Return the command that runs a stage with these settings (a dataclass), those at their default left out."""
    words = [f"synclr {stage}"]
    for setting in fields(config):
        value = getattr(config, setting.name)
        default = setting.default if setting.default_factory is MISSING else setting.default_factory()
        if value != default:
            values = value if isinstance(value, list) else [value]
            words.append(f"--{setting.name.replace('_', '-')} {shlex.join(map(str, values))}")
    return " ".join(words)


def _record(plan: RunPlan) -> dict[str, Any]:
    return {
        "stage": plan.stage,
        "rows": plan.rows,
        "rows_per_shard": plan.rows_per_shard,
        "units_per_row": plan.units_per_row,
        "configuration": plan.configuration,
        **plan.remarks,
    }


def _worker_count(workers: int, part: Part | None) -> int:
    if workers < 1:
        raise UserInputError(f"--workers {workers} cannot be used; allowed: 1 or more; type --workers 1")
    return min(workers, part.processes) if part and part.processes else workers


def _check_shard_count(plan: RunPlan) -> None:
    if plan.num_shards > MAX_SHARDS:
        fit = -(-plan.rows // MAX_SHARDS)
        raise UserInputError(
            f"--rows-per-shard {plan.rows_per_shard} makes {plan.num_shards:,} shards of {plan.rows:,} rows; "
            f"allowed: up to {MAX_SHARDS:,} shards; type --rows-per-shard {fit} or more"
        )


def _shards_there(folder: Path, finished: _Finished, part: Part | None) -> Iterator[tuple[int, ShardNote]]:
    """Yield what is finished; it is checked by who would make it again."""
    if part in (OPENING, FINISHING):
        return noted_shards(folder, finished.size)
    return finished_shards(folder, finished.size, finished.shards)


def _make_shards(
    plan: RunPlan,
    work: _ShardWork,
    missing: list[int],
    finished: _Finished,
    inputs: Callable[[range], tuple[Row, ...]] | None,
    workers: int,
    devices: Sequence[str],
) -> None:
    size = finished.size

    def tasks() -> Iterator[ShardTask]:
        for index in missing:
            first, count = index * size.rows_per_shard, size.rows_of(index)
            kept = plan.folder / shard_file(index) if index in finished.kept else None
            rows = inputs(range(first, first + count)) if inputs else ()
            yield ShardTask(index, first, count, rows, kept, finished.kept.get(index, 0))

    done = sum(size.rows_of(index) for index in finished.notes) * size.units_per_row + finished.kept_units
    total = sum(size.rows_of(index) for index in finished.shards) * size.units_per_row
    with Progress(plan.stage, total=total, unit=plan.unit, initial=done) as bar:
        with closing(do_tasks(work, tasks(), bar.update, workers, devices)) as results:
            for index, note in results:
                finished.add(index, note)


def _write_card(plan: RunPlan, finished: _Finished, *, complete: bool) -> None:
    files = [plan.folder / finished.notes[index].file for index in sorted(finished.notes)]
    contents = None
    if complete and plan.describe is not None:
        with Progress(f"looking at the {plan.stage}"):
            contents = plan.describe(files, finished.tally)
        contents.write_pictures(plan.folder)
        for notice in contents.notices:
            logger.warning("%s", notice)
    text = dataset_card(
        plan.card(),
        rows=plan.rows - finished.tally.dropped,
        num_bytes=sum(file.stat().st_size for file in files),
        counts=finished.tally.counts,
        complete=complete,
        contents=contents,
    )
    write_text(plan.folder / "README.md", text)


def _explained(error: OSError, plan: RunPlan, finished: _Finished) -> UserInputError:
    if error.errno in DISK_FULL:
        return UserInputError(
            f"the disk is full while '{plan.folder}' is written; {_kept(plan, finished)}; "
            "make room and run the same command again"
        )
    reason = error.strerror or error
    return UserInputError(
        f"--output-dir {plan.folder} cannot be written ({reason}); {_kept(plan, finished)}; "
        "type a folder that you may write in"
    )


def _unfinished(plan: RunPlan, missing: list[int]) -> UserInputError:
    return UserInputError(
        f"{len(missing)} of {plan.num_shards} shards are missing in '{plan.folder}' (the first: number {missing[0]}); "
        "run the same command again to make them"
    )


def _kept(plan: RunPlan, finished: _Finished) -> str:
    return f"{len(finished.notes)} of {len(finished.shards)} shards are safe in '{plan.folder}'"
