"""Runs that grow, on a stage whose rows hold a list: more rows, and more in each row."""

import json
import os
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from counting_rows import CountingRows, plan_for, tree

from synclr_hf.data import shards
from synclr_hf.data.extension import Growth, RunSize, first_state
from synclr_hf.data.reading import check_complete
from synclr_hf.data.runs import FINISHING, OPENING, Part, content_fingerprint, read_record
from synclr_hf.data.shards import kept_rows
from synclr_hf.data.writing import write_run
from synclr_hf.errors import UserInputError

SCHEMA = pa.schema([("number", pa.int64()), ("text", pa.string()), ("parts", pa.list_(pa.string()))])


class ListRows:
    """Makes rows of `size` parts; every seventh row is dropped; what is made is noted in `made`."""

    def __init__(self, size, keep_rejects=False):
        self.size, self.keep_rejects, self.made = size, keep_rejects, []

    def load(self):
        pass

    def make(self, task, tally, report):
        kept = {row["number"]: row for row in kept_rows(task)}
        for place, row in enumerate(task.inputs):
            number = row["number"]
            before = kept.get(number)
            if number % 7 == 3:
                if place >= task.kept_num_rows:
                    tally.dropped += 1
                    tally.counts["seventh"] += 1
                    report(self.size)
                continue
            parts = list(before["parts"]) if before else []
            for part in range(len(parts), self.size):
                parts.append(f"{number} {part}")
                self.made.append((number, part))
                tally.cost["parts"] += 1
                report(1)
            if self.keep_rejects:
                tally.rejects.append({"number": number, "size": self.size})
            yield {**row, "parts": parts}


def texts(rows, changed=()):
    return tuple({"number": number, "text": "another" if number in changed else f"row {number}"} for number in rows)


def grow(folder, rows, size=2, extend=True, part=None, changed=(), fingerprint=None, maker=None, **configuration):
    """Write, or extend, a run whose inputs are `rows` texts."""
    plan = replace(
        plan_for(folder, rows, 10, size=size, inputs=fingerprint or f"{rows} texts {changed}", **configuration),
        units_per_row=size,
        growth=Growth(extend, ("size",), "inputs", ("number", "text")),
    )
    maker = maker or ListRows(size)
    write_run(plan, SCHEMA, maker, inputs=lambda numbers: texts(numbers, changed), workers=1, part=part)
    return maker


@pytest.fixture
def folder(tmp_path):
    """A finished run of 24 rows with 2 parts, the last shard with 4 of them."""
    grow(tmp_path / "numbers", 24, extend=False)
    return tmp_path / "numbers"


def contents(folder):
    return [row for path in sorted(folder.glob("data/*.parquet")) for row in pq.read_table(path).to_pylist()]


def told(folder):
    """Return what the notes say, without the checksums."""
    names = sorted(path.name for path in folder.glob("shards/*.json"))
    return [json.loads((folder / "shards" / name).read_text()) for name in names]


@pytest.mark.parametrize(("rows", "size"), [(57, 2), (24, 5), (57, 5), (30, 3)])
def test_an_extended_run_is_what_a_fresh_one_would_be(tmp_path, folder, rows, size):
    grow(tmp_path / "fresh", rows, size, extend=False)
    maker = grow(folder, rows, size)
    assert contents(folder) == contents(tmp_path / "fresh") and told(folder) == told(tmp_path / "fresh")
    assert content_fingerprint(folder) == content_fingerprint(tmp_path / "fresh")
    had = {(number, part) for number in range(24) for part in range(2)}
    assert maker.made and not had & set(maker.made), "what was there is not made again"
    dropped = sum(number % 7 == 3 for number in range(rows))
    assert f"{rows - dropped} rows, " in (folder / "README.md").read_text()
    grow(folder, rows, size, extend=False, maker=ListRows(None))  # goes on as the run that it is now


def test_full_shards_are_not_touched(folder):
    full = [folder / name for name in ("data/train-00000.parquet", "data/train-00001.parquet", "shards/00001.json")]
    before = [(path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes()) for path in full]
    grow(folder, 57)
    assert [(path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes()) for path in full] == before


def test_the_record_lists_what_the_run_was(folder):
    first = read_record(folder)
    grow(folder, 30)
    grow(folder, 30, size=3)
    record = read_record(folder)
    assert (record["rows"], record["units_per_row"], record["configuration"]["size"]) == (30, 3, 3)
    assert record["extended"] == [
        {"rows": 24, "units_per_row": 2, "configuration": {"size": 2, "inputs": "24 texts ()"}},
        {"rows": 30, "units_per_row": 2, "configuration": {"size": 2, "inputs": "30 texts ()"}},
    ]
    assert first_state(record) == first_state(first) == {name: first[name] for name in first_state(first)}


def test_notes_and_records_of_earlier_versions(tmp_path, folder):
    """They do not say what a row has."""
    for path in (folder / "run.json", *folder.glob("shards/*.json")):
        fields = json.loads(path.read_text())
        if fields.pop("units_per_row") and path.name == "run.json":
            fields["configuration"]["images_per_caption"] = 2
        path.write_text(json.dumps(fields))
    assert RunSize.of(read_record(folder)).units_per_row == 2
    before = (folder / "data/train-00000.parquet").stat().st_ino
    maker = grow(folder, 30, images_per_caption=2)
    assert {number for number, _ in maker.made} == {25, 26, 27, 28, 29}
    assert (folder / "data/train-00000.parquet").stat().st_ino == before
    grow(folder, 30, size=3, images_per_caption=2)
    assert {len(row["parts"]) for row in contents(folder)} == {3}


def test_an_unfinished_run_is_extended(tmp_path, folder):
    (folder / "shards/00001.json").unlink()
    maker = grow(folder, 57, 3)
    assert {part for number, part in maker.made if number in range(10)} == {2}
    assert {part for number, part in maker.made if number in range(10, 20)} == {0, 1, 2}
    grow(tmp_path / "fresh", 57, 3, extend=False)
    assert contents(folder) == contents(tmp_path / "fresh")


def test_a_damaged_shard_is_made_from_scratch(tmp_path, folder, capfd):
    path = folder / "data/train-00002.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    maker = grow(folder, 57)
    assert (20, 0) in maker.made and "train-00002.parquet: its checksum differs" in capfd.readouterr().err
    grow(tmp_path / "fresh", 57, extend=False)
    assert contents(folder) == contents(tmp_path / "fresh") and told(folder) == told(tmp_path / "fresh")


@pytest.mark.parametrize(
    ("rows", "size", "options", "said"),
    [
        (57, 3, {"extend": False}, "rows 24 there, 57 now, size 2 there, 3 now; type --extend to add to what is"),
        (23, 2, {}, "rows 24 there, 23 now; --extend adds to a set and changes nothing else; type another"),
        (57, 1, {}, "size 2 there, 1 now; --extend adds"),
        (57, 2, {"seed": 1}, "rows 24 there, 57 now, seed 0 there, 1 now; --extend adds"),
        (57, 2, {"seed": 1, "extend": False}, "seed 0 there, 1 now; type another --output-dir, or delete"),
        (24, 2, {"fingerprint": "others", "extend": False}, "inputs 24 texts .. there, others now; type another"),
        (57, 2, {"changed": (22,)}, "it was made from other rows .number 22, text 'row 22' is not in its place"),
        (57, 2, {"changed": (0,)}, "it was made from other rows .number 0, text 'row 0' is not in its place"),
    ],
)
def test_what_is_no_growth_is_refused_and_nothing_is_written(folder, rows, size, options, said):
    before = tree(folder)
    with pytest.raises(UserInputError, match=said):
        grow(folder, rows, size, **options)
    assert tree(folder) == before


def test_there_has_to_be_a_run(tmp_path):
    with pytest.raises(UserInputError, match="holds no run that --extend could add to; type the folder of one"):
        grow(tmp_path / "numbers", 24)
    assert not (tmp_path / "numbers").exists()


def test_a_dropped_row_may_read_otherwise_now(folder):
    grow(folder, 57, changed=(3,))
    assert len(contents(folder)) == 57 - 8


def test_a_stage_that_cannot_be_extended(tmp_path):
    write_run(plan_for(tmp_path / "numbers", 20), SCHEMA_OF_NUMBERS, CountingRows(), workers=1)
    with pytest.raises(UserInputError, match="rows 20 there, 30 now; type another --output-dir, or delete"):
        write_run(plan_for(tmp_path / "numbers", 30), SCHEMA_OF_NUMBERS, CountingRows(), workers=1)


SCHEMA_OF_NUMBERS = pa.schema([("number", pa.int64()), ("text", pa.string()), ("payload", pa.binary())])


class Stopped(Exception):
    """Stands for a kill between two shards."""


def test_in_the_middle_it_is_not_finished(folder):
    class StopsAtTheSecondShard(ListRows):
        def make(self, task, tally, report):
            if task.index == 1:
                raise Stopped
            return super().make(task, tally, report)

    before = content_fingerprint(folder)
    with pytest.raises(Stopped):
        grow(folder, 24, 3, maker=StopsAtTheSecondShard(3))
    with pytest.raises(UserInputError, match="is not finished: 1 of 3 shards; finish it first: type synclr numbers"):
        check_complete(folder, "numbers")
    assert "UNFINISHED" in (folder / "README.md").read_text()
    middle = content_fingerprint(folder)
    maker = grow(folder, 24, 3, extend=False)
    assert {number for number, _ in maker.made} == {number for number in range(10, 24) if number % 7 != 3}
    check_complete(folder, "numbers")
    assert len({before, middle, content_fingerprint(folder)}) == 3


@pytest.mark.parametrize("step", range(1, 9))
def test_killed_at_any_step_no_shard_is_lost(tmp_path, folder, step):
    """A child process ends before its n-th renaming; what it leaves is what SIGKILL leaves."""
    child = os.fork()
    if child == 0:
        count, real = 0, os.replace

        def counted(*paths):
            nonlocal count
            count += 1
            if count == step:
                os._exit(9)
            real(*paths)

        shards.os.replace = counted
        grow(folder, 24, 3, maker=ListRows(3, keep_rejects=True))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    extended = "extended" in read_record(folder)
    assert extended == (step > 1)
    maker = grow(folder, 24, 3, extend=not extended, maker=ListRows(3, keep_rejects=True))
    assert all(part == 2 for _, part in maker.made), "a shard that was there was lost"
    grow(tmp_path / "fresh", 24, 3, extend=False)
    assert contents(folder) == contents(tmp_path / "fresh") and told(folder) == told(tmp_path / "fresh")
    lines = "".join(path.read_text() for path in sorted(folder.glob("rejects/*"))).splitlines()
    assert [json.loads(line) for line in lines] == [{"number": row["number"], "size": 3} for row in contents(folder)]
    assert not list(folder.rglob("*.next")) and not list(folder.rglob("*.tmp"))


def test_members_of_a_cluster_extend_together(tmp_path, folder):
    with pytest.raises(UserInputError, match="rows 24 there, 57 now, size 2 there, 3 now; type --extend"):
        grow(folder, 57, 3, part=Part(0, 2))
    grow(folder, 57, 3, part=OPENING)
    assert "UNFINISHED" in (folder / "README.md").read_text()
    members = [grow(folder, 57, 3, part=Part(rank, 2)) for rank in (1, 0)]
    assert all(part == 2 for member in members for number, part in member.made if number < 24)
    assert not grow(folder, 57, 3, part=Part(0, 2)).made
    grow(folder, 57, 3, part=FINISHING)
    grow(tmp_path / "fresh", 57, 3, extend=False)
    assert contents(folder) == contents(tmp_path / "fresh") and told(folder) == told(tmp_path / "fresh")
    check_complete(folder, "numbers")


def test_very_many_shards(tmp_path):
    size = RunSize.of({"rows": 10**8, "rows_per_shard": 1000, "units_per_row": 4, "configuration": {}})
    assert size.num_shards == 10**5 and size.rows_of(10**5 - 1) == 1000
