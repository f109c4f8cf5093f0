"""A data set that grows: more rows, or more in each row, beside what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from synclr_hf.data.progress import Progress
from synclr_hf.data.shards import ROWS_PER_GROUP, Row, ShardNote, damage, read_note
from synclr_hf.errors import UserInputError

EXTEND = "--extend"
_PICTURES = "images_per_caption"
"""Entry of the configuration that says what a row has, in records of earlier versions of this package."""

Inputs = Callable[[range], tuple[Row, ...]]


@dataclass(frozen=True)
class RunSize:
    """How much a run makes, as its record says.

    Attributes:
        rows: rows of the whole run, dropped ones included.
        rows_per_shard: rows of every shard but the last.
        units_per_row: what each row has of the unit that the stage counts, e.g. pictures.
        first_units_per_row: what it had before the run was first extended; notes that do not say it have this.
        extended: whether the run was extended: then a smaller shard is one that is still to grow.
    """

    rows: int
    rows_per_shard: int
    units_per_row: int = 1
    first_units_per_row: int = 1
    extended: bool = False

    @classmethod
    def of(cls, record: dict[str, Any]) -> RunSize:
        """Return the size of a run by its `run.json`."""
        units = _units_per_row(record)
        earlier = record.get("extended") or [{"units_per_row": units}]
        first = earlier[0]["units_per_row"]
        return cls(record["rows"], record["rows_per_shard"], units, first, "extended" in record)

    @property
    def num_shards(self) -> int:
        """Number of shards of the whole run."""
        return -(-self.rows // self.rows_per_shard)

    def rows_of(self, index: int) -> int:
        """Return the number of rows of shard `index`."""
        return min(self.rows_per_shard, self.rows - index * self.rows_per_shard)

    def units_of(self, note: ShardNote) -> int:
        """Return what each row of a shard has."""
        return self.first_units_per_row if note.units_per_row is None else note.units_per_row

    def is_to_grow(self, index: int, note: ShardNote) -> bool:
        """Tell whether a shard was finished before the run was extended, and has less than it shall have now."""
        rows = self.rows_of(index)
        smaller = note.rows_of_task < rows or self.units_of(note) < self.units_per_row
        return self.extended and smaller and note.rows_of_task <= rows


@dataclass(frozen=True)
class Growth:
    """How the runs of a stage may grow; the number of rows always may.

    Attributes:
        wanted: whether the user asks for it.
        numbers: entries of the configuration that may become larger.
        inputs: entry of the configuration with the fingerprint of the rows that the run is made from, which may
            change if those that were used are the same; `None` if it is made from no rows.
        columns: what has to be the same of such a row; the run's own rows have these columns too.
    """

    wanted: bool
    numbers: tuple[str, ...] = ()
    inputs: str | None = None
    columns: tuple[str, ...] = ()


def differences(before: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return name -> (there, now) of the entries of two records that must agree and do not."""
    old, new = _fixed(before), _fixed(now)
    return {name: (old.get(name), new.get(name)) for name in {**old, **new} if old.get(name) != new.get(name)}


def refusal(folder: Path, before: dict[str, Any], now: dict[str, Any], growth: Growth | None) -> UserInputError:
    """Return the error for a folder that was made with another configuration."""
    old, new = _fixed(before), _fixed(now)
    changes = ", ".join(
        f"{name} {_shown(old, name)} there, {_shown(new, name)} now" for name in sorted(differences(before, now))
    )
    told = f"--output-dir {folder} was made with another configuration: {changes}; "
    if growth is not None and is_growth(before, now, growth):
        return UserInputError(f"{told}type {EXTEND} to add to what is there, or another --output-dir")
    only = f"{EXTEND} adds to a set and changes nothing else; " if growth is not None and growth.wanted else ""
    return UserInputError(f"{told}{only}type another --output-dir, or delete that folder")


def is_growth(before: dict[str, Any], now: dict[str, Any], growth: Growth) -> bool:
    """Tell whether nothing but growth stands between two records."""
    changes = differences(before, now)
    changes.pop(growth.inputs or "", None)
    numbers = all(name in ("rows", *growth.numbers) for name in changes)
    return bool(changes) and numbers and all(_is_larger(*change) for change in changes.values())


def extended_record(
    folder: Path, before: dict[str, Any], now: dict[str, Any], growth: Growth, inputs: Inputs | None
) -> dict[str, Any]:
    """Return what `run.json` shall say of a run that grows; its entry `extended` lists what it was before.

    Args:
        folder: the run folder; nobody else is in it.
        before: what its `run.json` says.
        now: what it would say of a new run.
        growth: how the run may grow.
        inputs: gives rows of the set that the run is made from now.

    Raises:
        UserInputError: there is more between the two than growth, or the set that the run is made from has changed.
    """
    if not is_growth(before, now, growth):
        raise refusal(folder, before, now, growth)
    if growth.inputs in differences(before, now) and inputs is not None:
        _check_inputs(folder, RunSize.of(before), growth.columns, inputs)
    names = [name for name in (*growth.numbers, growth.inputs) if name in before["configuration"]]
    state = {
        "rows": before["rows"],
        "units_per_row": _units_per_row(before),
        "configuration": {name: before["configuration"][name] for name in names},
    }
    return {**now, "extended": [*before.get("extended", ()), state]}


def first_state(record: dict[str, Any]) -> dict[str, Any]:
    """Return stage, rows and configuration of a run before it was first extended: they name it for ever."""
    first = (record.get("extended") or [{"rows": record["rows"], "configuration": {}}])[0]
    configuration = {**record["configuration"], **first["configuration"]}
    return {"stage": record["stage"], "rows": first["rows"], "configuration": configuration}


def _units_per_row(record: dict[str, Any]) -> int:
    return int(record.get("units_per_row") or record["configuration"].get(_PICTURES, 1))


def _fixed(record: dict[str, Any]) -> dict[str, Any]:
    """Return the entries that must agree."""
    fixed = {name: record.get(name) for name in ("stage", "rows", "rows_per_shard")}
    return {**fixed, **record["configuration"]}


def _shown(entries: dict[str, Any], name: str) -> str:
    return str(entries[name]) if name in entries else "(not set)"


def _is_larger(there: Any, now: Any) -> bool:
    return isinstance(there, int) and isinstance(now, int) and there < now


def _check_inputs(folder: Path, size: RunSize, columns: Sequence[str], inputs: Inputs) -> None:
    """Refuse inputs that are not those which the rows in the folder were made from, followed by others."""
    with Progress("comparing with what is there", total=size.rows, unit="row") as bar:
        for index in range(size.num_shards):
            note = read_note(folder, index)
            if note is not None:
                first = index * size.rows_per_shard
                place = range(first, first + note.rows_of_task)
                try:
                    row = _first_stranger(_rows(folder / note.file, columns), _input_rows(place, columns, inputs))
                except (OSError, ValueError, KeyError):  # a file that cannot be read is made from scratch
                    row = None
                if row is not None and damage(folder, note, note.rows_of_task) is None:
                    told = ", ".join(f"{name} {value!r}" for name, value in zip(columns, row, strict=True))
                    raise UserInputError(
                        f"--output-dir {folder} cannot be extended: it was made from other rows ({told} is not in its "
                        "place there now); type the set that it was made from, or that set extended, or another "
                        "--output-dir"
                    )
            bar.update(size.rows_of(index))


def _first_stranger(rows: Iterable[tuple[Any, ...]], inputs: Iterator[tuple[Any, ...]]) -> tuple[Any, ...] | None:
    """Return the first row that is not among the inputs in the same order; inputs without a row were dropped."""
    return next((row for row in rows if row not in inputs), None)  # `in` reads on behind the last one found


def _rows(file: Path, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(ROWS_PER_GROUP, columns=list(columns)):
            yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)


def _input_rows(place: range, columns: Sequence[str], inputs: Inputs) -> Iterator[tuple[Any, ...]]:
    parts = (place[start : start + ROWS_PER_GROUP] for start in range(0, len(place), ROWS_PER_GROUP))
    for row in chain.from_iterable(inputs(part) for part in parts):
        yield tuple(row[name] for name in columns)
