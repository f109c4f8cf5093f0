import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest
from counting_rows import run, tree

from synclr_hf.data import shards
from synclr_hf.data.runs import FINISHING, OPENING, Part, content_fingerprint, open_run_folder, read_record
from synclr_hf.data.shards import read_note, remove_temporary_files
from synclr_hf.errors import UserInputError

PROGRAM = Path(__file__).with_name("counting_rows.py")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """An uninterrupted run with one process."""
    return tree(run(tmp_path_factory.mktemp("reference") / "numbers"))


def start(folder, workers, seconds_per_row):
    paths = os.pathsep.join([str(Path(__file__).parents[2]), str(PROGRAM.parent)])
    command = [sys.executable, "-W", "error", str(PROGRAM), str(folder), str(workers), str(seconds_per_row)]
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def shards_of(folder):
    return sorted(Path(folder).glob("data/train-*.parquet"))


def test_shards_hold_all_rows_in_order(tmp_path):
    folder = run(tmp_path / "numbers", rows=23)
    tables = [pq.read_table(path) for path in shards_of(folder)]
    assert [len(table) for table in tables] == [10, 10, 3]
    assert [number for table in tables for number in table["number"].to_pylist()] == list(range(23))
    assert read_note(folder, 2).rows == 3 and read_note(folder, 2).counts == {"odd": 1}
    assert read_record(folder)["rows"] == 23


def test_a_large_shard_has_several_row_groups(tmp_path):
    folder = run(tmp_path / "numbers", rows=600, rows_per_shard=600)
    assert pq.ParquetFile(shards_of(folder)[0]).num_row_groups == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_same_seed_same_bytes(tmp_path, reference, workers):
    assert tree(run(tmp_path / "numbers", workers=workers)) == reference


def test_another_seed_other_bytes(tmp_path, reference):
    other = tree(run(tmp_path / "numbers", seed=1))
    assert all(other[name] != reference[name] for name in other if name.endswith(".parquet"))


def test_inputs_reach_the_maker(tmp_path):
    folder = run(tmp_path / "numbers", rows=25, inputs=lambda rows: tuple({"text": f"from {i}"} for i in rows))
    texts = [text for path in shards_of(folder) for text in pq.read_table(path)["text"].to_pylist()]
    assert texts == [f"from {number}" for number in range(25)]


def test_a_complete_run_is_left_alone(tmp_path, capfd):
    folder = run(tmp_path / "numbers")
    (folder / "README.md").write_text("edited by its owner")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}
    run(folder, raise_at=0)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"} == before
    assert "making it again" not in capfd.readouterr().err


@pytest.mark.parametrize("moment", range(3))
def test_killed_at_any_moment_it_goes_on_where_it_was(tmp_path, reference, moment):
    folder = tmp_path / "numbers"
    process = start(folder, workers=1 + moment % 2, seconds_per_row=0.02)
    wait_for(lambda: (folder / "data").is_dir())
    time.sleep(Random(moment).uniform(0.0, 0.7))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_ino for path in shards_of(folder) if read_note(folder, int(path.stem[-5:]))}
    run(folder)
    assert tree(folder) == reference
    assert all(path.stat().st_ino == inode for path, inode in kept.items()), "a finished shard was made again"


@pytest.mark.parametrize("file", ["run.json.77.tmp", "data/train-00001.parquet.77.tmp", "shards/00001.json.77.tmp"])
def test_stale_temporary_files_are_removed(tmp_path, reference, file):
    folder = run(tmp_path / "numbers")
    (folder / "shards/00001.json").unlink()
    (folder / file).write_bytes(b"half")
    run(folder)
    assert tree(folder) == reference


def test_a_run_killed_before_it_wrote_its_record_starts_again(tmp_path, reference):
    folder = tmp_path / "numbers"
    (folder / "data").mkdir(parents=True)
    (folder / "run.json.77.tmp").write_text("{")
    assert tree(run(folder)) == reference


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "said"),
    [(truncate, "checksum differs"), (flip_a_byte, "checksum differs"), (Path.unlink, "file is missing")],
)
def test_a_damaged_shard_is_made_again_and_named(tmp_path, reference, capfd, damage, said):
    folder = run(tmp_path / "numbers")
    damage(folder / "data/train-00002.parquet")
    capfd.readouterr()
    run(folder)
    lines = [line for line in capfd.readouterr().err.replace("\r", "\n").splitlines() if "making it again" in line]
    assert len(lines) == 1
    assert "train-00002.parquet" in lines[0] and said in lines[0]
    assert tree(folder) == reference


@pytest.mark.parametrize("note", ["", "{", "[]", '{"file": "data/train-00002.parquet"}'])
def test_a_damaged_note_costs_its_shard_only(tmp_path, reference, note):
    folder = run(tmp_path / "numbers")
    (folder / "shards/00002.json").write_text(note)
    run(folder)
    assert tree(folder) == reference


def test_a_row_group_ends_before_its_pictures_are_too_many_bytes(monkeypatch):
    monkeypatch.setattr(shards, "BYTES_PER_GROUP", 100)
    rows = [{"images": [{"bytes": bytes(size)}, {"bytes": None}]} for size in (60, 60, 10, 150, 20)]
    assert [len(group) for group in shards._groups(rows, 256)] == [2, 2, 1]
    assert [len(group) for group in shards._groups(iter(range(0)), 256)] == []
    monkeypatch.undo()
    assert [len(group) for group in shards._groups(rows, 2)] == [2, 2, 1]


def test_another_configuration_is_refused_with_the_difference(tmp_path):
    folder = run(tmp_path / "numbers")
    before = tree(folder)
    with pytest.raises(UserInputError) as caught:
        run(folder, rows=80, configuration={"seed": 7, "size": 64})
    message = str(caught.value)
    assert "rows 60 there, 80 now" in message and "seed 0 there, 7 now" in message
    assert "size (not set) there, 64 now" in message
    assert "rows_per_shard" not in message and "type another --output-dir, or delete that folder" in message
    assert tree(folder) == before


@pytest.mark.parametrize("record", ["", "{", "[]", '{"stage": "numbers"}'])
def test_a_damaged_record_is_refused(tmp_path, record):
    folder = run(tmp_path / "numbers")
    (folder / "run.json").write_text(record)
    with pytest.raises(UserInputError, match="'.*run.json' is missing or damaged; type another folder"):
        run(folder)


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserInputError, match=r"holds other things \(thesis.txt\).*new or empty folder"):
        run(tmp_path)
    assert tree(tmp_path, hidden=True) == {"thesis.txt": b"years of work"}


def test_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserInputError, match="is a file; type the name of a folder"):
        run(tmp_path / "file")


@pytest.mark.parametrize("name", ["file/numbers", "x" * 300])
def test_a_folder_that_cannot_be_made(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserInputError, match="cannot be written .*type a folder that you may write in"):
        run(tmp_path / name)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that even root cannot write")
def test_a_folder_that_even_root_cannot_write():
    with pytest.raises(UserInputError, match="--output-dir /proc/self/numbers cannot be written"):
        run("/proc/self/numbers")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path):
    (tmp_path / "numbers").mkdir(mode=0o500)
    with pytest.raises(UserInputError, match="cannot be written"):
        run(tmp_path / "numbers")


def test_more_shards_than_file_names(tmp_path):
    with pytest.raises(
        UserInputError, match="makes 300,001 shards of 3,000,010 rows.*type --rows-per-shard 31 or more"
    ):
        run(tmp_path / "numbers", rows=3_000_010)
    assert not (tmp_path / "numbers").exists()


@pytest.mark.parametrize("workers", [0, -1])
def test_a_number_of_workers_that_makes_no_sense(tmp_path, workers):
    with pytest.raises(UserInputError, match=f"--workers {workers} cannot be used"):
        run(tmp_path / "numbers", workers=workers)


@pytest.fixture
def small_files():
    """Let no file grow beyond 20 kB: the nearest thing to a full disk that works everywhere."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_keeps_what_is_finished(tmp_path, reference, small_files, workers):
    folder = tmp_path / "numbers"
    with pytest.raises(UserInputError) as caught:
        run(folder, workers=workers, huge_shard=4)
    safe = len(list(folder.glob("shards/*.json")))
    assert safe >= 3 and not (folder / "shards/00004.json").exists()
    assert str(caught.value).startswith(f"the disk is full while '{folder}' is written; ")
    assert str(caught.value).endswith(f" of 6 shards are safe in '{folder}'; make room and run the same command again")
    assert not list(folder.rglob("*.tmp"))
    small_files()
    assert tree(run(folder)) == reference


def test_two_runs_at_once(tmp_path, reference):
    folder = tmp_path / "numbers"
    process = start(folder, workers=1, seconds_per_row=0.02)
    wait_for(lambda: shards_of(folder))
    with pytest.raises(UserInputError, match="another run is writing '.*' now; wait until it ends"):
        run(folder)
    process.communicate()
    assert process.returncode == 0
    assert tree(folder) == reference


@pytest.mark.parametrize("workers", [1, 2])
def test_stopped_by_the_user_it_says_what_is_kept(tmp_path, reference, workers):
    folder = tmp_path / "numbers"
    process = start(folder, workers=workers, seconds_per_row=0.02)
    wait_for(lambda: list(folder.glob("shards/*.json")))
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    _, errors = process.communicate(timeout=20)
    assert errors.count("Traceback") == 1, "only the interrupted program itself may speak, no worker"
    last = errors.strip().splitlines()[-1]
    assert last.startswith("KeyboardInterrupt: stopped; ") and "run the same command again to go on" in last
    assert not list(folder.rglob("*.tmp"))
    assert tree(run(folder)) == reference


def test_workers_end_when_their_parent_is_killed(tmp_path):
    folder = tmp_path / "numbers"
    process = start(folder, workers=2, seconds_per_row=0.5)
    wait_for(lambda: len(list(folder.glob("data/*.tmp"))) == 2)
    workers = {int(path.name.split(".")[-2]) for path in folder.glob("data/*.tmp")}
    assert process.pid not in workers and all(alive(worker) for worker in workers)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not any(alive(worker) for worker in workers), seconds=5)
    remove_temporary_files(folder)


def alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_worker_that_dies_is_one_line(tmp_path, reference):
    folder = tmp_path / "numbers"
    with pytest.raises(UserInputError, match=r"ended with status -9.*shards are safe.*--workers 1"):
        run(folder, workers=2, die_at=35)
    assert tree(run(folder)) == reference


@pytest.mark.parametrize(("workers", "error"), [(1, RuntimeError), (2, UserInputError)])
def test_an_error_of_the_maker_comes_through(tmp_path, reference, workers, error):
    folder = tmp_path / "numbers"
    with pytest.raises(error, match="row 35 cannot be made"):
        run(folder, workers=workers, raise_at=35, error=error)
    assert not list(folder.rglob("*.tmp"))
    assert tree(run(folder)) == reference


def test_an_error_of_the_back_end_is_not_taken_for_one_of_the_folder(tmp_path):
    with pytest.raises(RuntimeError, match="the back end failed: row 5"):
        run(tmp_path / "numbers", raise_at=5, error=OSError)


def test_the_fingerprint_follows_the_contents(tmp_path):
    first, same, other = (run(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert content_fingerprint(first) == content_fingerprint(same) != content_fingerprint(other)
    with pytest.raises(UserInputError, match="run.json"):
        content_fingerprint(tmp_path)


def record_of(folder):
    return json.loads((folder / "run.json").read_text())


def test_members_make_the_run_together(tmp_path, reference):
    folder = run(tmp_path / "numbers", part=OPENING)
    assert "UNFINISHED" in (folder / "README.md").read_text()
    for rank in (2, 0):
        run(folder, part=Part(rank, 3))
    assert [path.stem for path in shards_of(folder)] == ["train-00000", "train-00002", "train-00003", "train-00005"]
    with pytest.raises(UserInputError, match=r"2 of 6 shards are missing in .* \(the first: number 1\)"):
        run(folder, part=FINISHING)
    run(folder, part=Part(0, 1))  # another number of members goes on with what is there
    run(folder, part=FINISHING)
    assert tree(folder) == reference
    run(folder)
    assert not list(folder.glob(".lock-*")), "locks of members that are gone"


def test_a_member_without_shards_makes_none(tmp_path):
    folder = run(tmp_path / "numbers", part=OPENING)
    run(folder, part=Part(6, 7), raise_at=0)
    assert shards_of(folder) == []


@pytest.mark.parametrize("made", [False, True])
def test_a_member_wants_an_opened_folder(tmp_path, made):
    if made:
        (tmp_path / "numbers").mkdir()
    with pytest.raises(UserInputError, match="run.json' is missing or damaged"):
        run(tmp_path / "numbers", part=Part(0, 2))
    run(tmp_path / "other", part=OPENING)
    with pytest.raises(UserInputError, match="another configuration: rows 60 there, 70 now"):
        run(tmp_path / "other", rows=70, part=Part(0, 2))


@pytest.mark.parametrize(
    ("there", "comes", "said"),
    [
        (Part(0, 2), None, "another run is writing"),
        (Part(0, 2), OPENING, "another run is writing"),
        (Part(0, 2), FINISHING, "another run is writing"),
        (None, Part(0, 2), "another run is writing"),
        (Part(0, 2), Part(0, 2), "part 0 of 2 of '.*' is being made by another process now"),
        (Part(0, 2), Part(2, 3), "part 2 of 3 of '.*' cannot be made: another run makes it in 2 parts now"),
        (Part(0, 2), Part(1, 2), None),
    ],
)
def test_who_may_be_in_a_folder_together(tmp_path, there, comes, said):
    folder = run(tmp_path / "numbers", part=OPENING)
    run(folder, part=Part(3, 4))  # its lock file stays behind, held by nobody
    with open_run_folder(folder, record_of(folder), there):
        if said is None:
            run(folder, part=comes)
        else:
            before = tree(folder)
            with pytest.raises(UserInputError, match=said):
                run(folder, part=comes)
            assert tree(folder) == before
    run(folder)


def test_a_member_removes_its_own_leftovers_only(tmp_path):
    folder = run(tmp_path / "numbers", part=OPENING)
    own = [folder / name for name in ("data/train-00002.parquet.77.tmp", "shards/00004.json.77.tmp")]
    others = [folder / name for name in ("data/train-00003.parquet.77.tmp", "README.md.77.tmp")]
    for path in own + others:
        path.write_bytes(b"half")
    run(folder, part=Part(0, 2))
    assert [path.exists() for path in own + others] == [False, False, True, True]


def test_a_member_starts_no_more_processes_than_its_share(tmp_path, reference):
    folder = run(tmp_path / "numbers", part=OPENING)
    for rank, error in enumerate((RuntimeError, UserInputError)):
        with pytest.raises(error, match="cannot be made"):
            run(folder, workers=2, part=Part(rank, 2, processes=1), raise_at=10 * rank, error=error)
    with pytest.raises(UserInputError, match="0 of 3 shards are safe"):
        run(folder, workers=2, part=Part(0, 2, processes=2), die_at=0)


def test_the_card_of_a_finished_run_stays_its_owners(tmp_path):
    folder = run(tmp_path / "numbers")
    (folder / "README.md").write_text("edited by its owner")
    for part in (OPENING, Part(0, 2), Part(1, 2), FINISHING):
        run(folder, part=part, raise_at=0)
    assert (folder / "README.md").read_text() == "edited by its owner"


def test_a_run_that_made_nothing_holds_nobody_to_its_settings(tmp_path):
    with pytest.raises(RuntimeError, match="row 0 cannot be made"):
        run(tmp_path / "numbers", configuration={"model": "wrong"}, raise_at=0)
    folder = run(tmp_path / "numbers", configuration={"model": "right"})
    assert read_record(folder)["configuration"]["model"] == "right"
    with pytest.raises(UserInputError, match="model right there, other now"):
        run(folder, configuration={"model": "other"})
