"""`--push-to-hub` while a stage runs: shards arrive early, nothing is sent twice, and a bad Hub holds up nobody."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import shipped_numbers
from huggingface_hub import HfApi
from shipped_numbers import NAME, ship
from small_run import synclr

from synclr_hf.data.runs import FINISHING, OPENING, Part
from synclr_hf.errors import UserInputError
from synclr_hf.hub import sending

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's LFS upload


@pytest.fixture
def api(hub, monkeypatch):
    """A client of this process, which sends by LFS; fresh processes send by Xet. Waits are short."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("synclr_hf.hub.patience.WAITS", (0.02, 0.05, 0.1))
    monkeypatch.setattr("synclr_hf.hub.sending.WAITS", (0.02, 0.05, 0.1))
    monkeypatch.setattr("synclr_hf.hub.shipping.FIRST_WAIT", 0.02)
    monkeypatch.setattr("synclr_hf.hub.shipping.SECONDS_BETWEEN_COMMITS", 0.05)
    return HfApi(hub.url, token=hub.token)


def shard(index):
    return f"data/train-{index:05d}.parquet"


def files(hub):
    try:
        return hub.files(NAME, "dataset")
    except KeyError:
        return {}


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def at(index, action):
    return lambda now: action() if now == index else None


def check_whole(hub, folder, shards=4):
    there = files(hub)
    on_disk = {f"data/{path.name}": path.read_bytes() for path in (folder / "data").glob("*.parquet")}
    assert len(on_disk) == shards
    assert {name: data for name, data in there.items() if name.startswith("data/")} == on_disk
    assert b"UNFINISHED" not in there["README.md"] and json.loads(there["publication.json"])["run"]
    assert threading.active_count() < 30 and not shippers()


def shippers():
    return [thread for thread in threading.enumerate() if thread.name == "shard-shipper"]


def test_shards_arrive_while_others_are_made(hub, api, tmp_path):
    seen = []

    def look(index):
        if index == 0:
            assert b"UNFINISHED" in files(hub)["README.md"] and "publication.json" in files(hub)
        else:
            until(lambda: shard(index - 1) in files(hub))
        seen.append(index)

    url = ship(tmp_path / "set", before=look, api=api, private=True)
    assert url.endswith(f"datasets/{NAME}") and seen == [0, 1, 2, 3] and hub.repository(NAME, "dataset").private
    check_whole(hub, tmp_path / "set")
    assert len(hub.uploads()) == 4, "each shard once"
    commits = hub.history(NAME, "dataset")
    ship(tmp_path / "set", api=api)
    assert len(hub.uploads()) == 4 and hub.history(NAME, "dataset") == commits, "a second time nothing changes"


def test_waiting_shards_share_a_commit(hub, api, tmp_path, monkeypatch):
    monkeypatch.setattr("synclr_hf.hub.shipping.SECONDS_BETWEEN_COMMITS", 1000.0)
    ship(tmp_path / "set", before=at(1, lambda: until(lambda: shard(0) in files(hub))), shards=12, api=api)
    check_whole(hub, tmp_path / "set", 12)
    claimed, first, rest, last = 1, 1, 1, 1
    assert len(hub.history(NAME, "dataset")) == 1 + claimed + first + rest + last


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        ("POST /commit/", {"status": 429, "headers": {"Retry-After": "1"}}),
        ("POST /commit/", {"status": 500, "times": 3}),
        ("POST /commit/", {"status": 503, "after": True}),
        ("POST /commit/", {"status": 412, "times": 2}),
        ("POST /commit/", {"close": True}),
        ("PUT ^/lfs/", {"close": True}),
        ("GET /tree/", {"cut": 10}),
    ],
)
def test_a_bad_hub_is_waited_out(hub, api, tmp_path, where, fault):
    rules = []
    method, _, path = where.partition(" ")

    def fail_then_wait(index):
        if index == 0:
            rules.append(hub.fail(method, path, **fault))
        if index == 2:
            until(lambda: shard(1) in files(hub))

    start = time.monotonic()
    ship(tmp_path / "set", before=fail_then_wait, api=api)
    assert rules[0].met == rules[0].times
    assert "Retry-After" not in rules[0].headers or time.monotonic() - start > 1
    check_whole(hub, tmp_path / "set")
    assert len(hub.uploads()) == 4 + ("lfs" in path), "what arrived is not sent again"


def test_the_maker_goes_on_while_the_hub_is_down(hub, api, tmp_path, caplog):
    down = []

    def steer(index):
        if index == 0:
            down.append(hub.fail("POST", "/commit/", status=503, times=10**6))
        if index == 3:
            until(lambda: down[0].met > 2)
            assert shard(0) not in files(hub) and (tmp_path / "set" / shard(2)).exists()
            down[0].times = 0
            until(lambda: shard(2) in files(hub))

    ship(tmp_path / "set", before=steer, api=api)
    check_whole(hub, tmp_path / "set")
    told = [record.getMessage() for record in caplog.records if record.name.startswith("synclr_hf")]
    assert len(told) == 2 and "shards are not sent now (the Hub answered 503" in told[0] and "again" in told[1]
    assert len(hub.uploads()) == 4


def test_a_hub_that_stays_down_is_told_and_the_same_command_goes_on(hub, api, tmp_path):
    down = []
    with pytest.raises(UserInputError, match="answered 503.*same command again.*finished and safe in"):
        ship(
            tmp_path / "set",
            before=at(0, lambda: down.append(hub.fail("POST", "/commit/", status=503, times=10**6))),
            api=api,
        )
    sent = len(hub.uploads())
    down[0].times = 0
    ship(tmp_path / "set", api=api)
    check_whole(hub, tmp_path / "set")
    assert sent == len(hub.uploads()) == 4


def test_a_long_wait_that_the_hub_asks_for_is_left_to_the_user(hub, api, tmp_path):
    ship(tmp_path / "set", api=api)
    with open(tmp_path / "set" / "README.md", "a") as card:
        card.write("A word of my own.\n")
    hub.fail("POST", "/commit/", status=429, headers={"Retry-After": "1800"})
    with pytest.raises(UserInputError, match="wait 30 minutes, as it asks, and type the same command again"):
        ship(tmp_path / "set", api=api)


def test_a_shard_that_was_damaged_is_made_and_sent_again(hub, api, tmp_path):
    ship(tmp_path / "set", api=api)
    whole = files(hub)
    target = tmp_path / "set" / shard(1)
    target.write_bytes(target.read_bytes()[:-9] + b"damaged!!")
    broken = hub.repository(NAME, "dataset").find("main").files
    hub.repository(NAME, "dataset").commit("main", {**broken, shard(1): broken[shard(2)]}, "Other bytes", "", "ada")
    hub.repository(NAME, "dataset").objects.clear()
    sent = len(hub.uploads())
    ship(tmp_path / "set", api=api)
    assert files(hub) == whole and len(hub.uploads()) == sent + 1


def test_an_error_of_the_maker_stops_the_thread(hub, api, tmp_path):
    def fail():
        raise RuntimeError("the row cannot be made")

    with pytest.raises(RuntimeError, match="cannot be made"):
        ship(tmp_path / "set", before=at(2, fail), api=api)
    until(lambda: not shippers())
    ship(tmp_path / "set", api=api)
    check_whole(hub, tmp_path / "set")


def test_members_ship_their_own_shards_at_once(hub, api, tmp_path):
    ship(tmp_path / "set", part=OPENING, api=api)
    assert b"UNFINISHED" in files(hub)["README.md"]
    hub.fail("POST", "/commit/", status=412, times=2)
    members = [
        threading.Thread(target=ship, args=[tmp_path / "set"], kwargs={"part": Part(rank, 2), "api": api, "shards": 4})
        for rank in range(2)
    ]
    for member in members:
        member.start()
    for member in members:
        member.join()
    assert {shard(index) for index in range(4)} < files(hub).keys() and b"UNFINISHED" in files(hub)["README.md"]
    sent = len(hub.uploads())
    ship(tmp_path / "set", part=FINISHING, api=api)
    check_whole(hub, tmp_path / "set")
    assert len(hub.uploads()) == sent == 4


def test_a_finished_set_that_is_opened_again_says_so(hub, api, tmp_path):
    ship(tmp_path / "set", api=api)
    (tmp_path / "set" / "shards" / "00001.json").unlink()
    ship(tmp_path / "set", part=OPENING, api=api)
    assert b"UNFINISHED" in files(hub)["README.md"]
    ship(tmp_path / "set", part=Part(0, 1), api=api)
    ship(tmp_path / "set", part=FINISHING, api=api)
    check_whole(hub, tmp_path / "set")


def test_a_member_without_a_network_draws_and_the_end_sends(hub, api, tmp_path, free_port, caplog, monkeypatch):
    ship(tmp_path / "set", part=OPENING, api=api)
    nowhere = HfApi(f"http://127.0.0.1:{free_port}", token=hub.token)
    with monkeypatch.context() as on_the_node:
        on_the_node.setattr("synclr_hf.hub.shipping.DatasetTarget.check", lambda *_, **__: None)  # it ran elsewhere
        for rank in range(2):
            ship(tmp_path / "set", part=Part(rank, 2), api=nowhere)
    assert "2 shards are left to who finishes the run" in caplog.text and shard(0) not in files(hub)
    ship(tmp_path / "set", part=FINISHING, api=api)
    check_whole(hub, tmp_path / "set")


@pytest.mark.parametrize("mark", [b"not json", b"[1]"])
def test_a_mark_that_is_none_of_ours_is_refused_in_one_line(hub, api, tmp_path, mark):
    hub.add(NAME, {"publication.json": mark, "data/train-00000.parquet": b"theirs"}, "dataset")
    with pytest.raises(UserInputError, match="holds other things .*; nothing was written"):
        ship(tmp_path / "set", api=api)
    assert files(hub)["data/train-00000.parquet"] == b"theirs"


def test_a_run_that_made_nothing_keeps_nobody_out(hub, api, tmp_path):
    hub.add(NAME, {"publication.json": b'{"run": "another"}', "README.md": b"UNFINISHED"}, "dataset")
    ship(tmp_path / "set", api=api)
    check_whole(hub, tmp_path / "set")


def test_other_things_are_refused_before_anything_is_made(hub, api, tmp_path):
    hub.add(NAME, {"publication.json": b'{"run": "another"}', "data/train-00000.parquet": b"theirs"}, "dataset")
    with pytest.raises(UserInputError, match="holds another run; nothing was written"):
        ship(tmp_path / "set", api=api)
    with pytest.raises(UserInputError, match="is public already"):
        ship(tmp_path / "set", api=api, private=True)
    assert not list((tmp_path / "set" / "data").iterdir()) and files(hub)[shard(0)] == b"theirs"


def test_replacing_clears_the_repository_before_the_first_shard(hub, api, tmp_path):
    hub.add(NAME, {shard(9): b"theirs", "notes.txt": b"theirs"}, "dataset")
    seen = []
    ship(tmp_path / "set", before=at(0, lambda: seen.extend(files(hub))), api=api, replace=True)
    assert sorted(seen) == [".gitattributes", "README.md", "publication.json"]
    check_whole(hub, tmp_path / "set")


def test_many_shards_go_in_several_commits(hub, api, tmp_path, monkeypatch):
    sizes = {}
    for index in range(7):
        sizes[shard(index)] = tmp_path / f"{index}"
        sizes[shard(index)].write_bytes(b"x" * 10)
    monkeypatch.setattr(sending, "FILES_PER_COMMIT", 3)
    assert [len(batch) for batch in sending.batches(sizes)] == [3, 3, 1]
    monkeypatch.setattr(sending, "BYTES_PER_COMMIT", 20)
    assert [len(batch) for batch in sending.batches(sizes)] == [2, 2, 2, 1]
    monkeypatch.setattr(sending, "BYTES_PER_COMMIT", 5)
    assert [len(batch) for batch in sending.batches(sizes)] == [1] * 7


def test_killed_twice_nothing_that_arrived_is_sent_again(hub, api, tmp_path):
    cut = hub.fail("POST", "/xet/v1/xorbs/", close=True)
    command = [sys.executable, shipped_numbers.__file__, tmp_path / "set", "0", "1", "1", "3"]
    killed = subprocess.run(command, env=hub.environment(), capture_output=True, text=True, timeout=60)
    assert killed.stdout.split() == ["9", "9"] and cut.met, killed.stderr[-2000:]
    assert {shard(0), shard(1)} <= files(hub).keys() and b"UNFINISHED" in files(hub)["README.md"]
    arrived = [name for name in files(hub) if name.startswith("data/")]
    before = len(hub.uploads())
    ship(tmp_path / "set", api=api)
    check_whole(hub, tmp_path / "set")
    assert len(arrived) >= 2 and len(hub.uploads()) - before <= 4 - len(arrived)


@pytest.mark.slow
@pytest.mark.parametrize("xet", ["0", "1"])
def test_synclr_images_killed_twice_goes_on(hub, tmp_path, xet):
    """The command that a user types, killed as soon as some more shards are on the Hub."""
    env = hub.environment(HF_HUB_DISABLE_XET=xet)
    made = synclr("captions", "--num-captions", "120", "--output-dir", tmp_path / "captions", env=env)
    assert made.returncode == 0, made.stderr
    name = "ada/pictures"
    code = (
        "import sys, synclr_hf.hub.shipping as s; s.SECONDS_BETWEEN_COMMITS = 0.2\n"
        "from synclr_hf.cli.main import main; main(sys.argv[1:])"
    )
    typed = ("images", "--captions", tmp_path / "captions", "--rows-per-shard", "4", "--images-per-caption", "2")
    typed = [*map(str, typed), "--output-dir", str(tmp_path / "set"), "--push-to-hub", name, "--workers", "1"]

    def there():
        try:
            return {path for path in hub.files(name, "dataset") if path.startswith("data/")}
        except KeyError:
            return set()

    for some in (1, 8):
        process = subprocess.Popen([sys.executable, "-c", code, *typed], env=env, stderr=subprocess.DEVNULL)
        until(lambda some=some: len(there()) >= some, 100)
        process.kill()
        process.wait()
    assert 8 <= len(there()) < 30
    before, arrived = len(hub.uploads()), len(there())
    done = subprocess.run([sys.executable, "-c", code, *typed], env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    pictures = sum(path.startswith("card/") for path in hub.files(name, "dataset"))
    assert len(there()) == 30 and len(hub.uploads()) - before <= 30 - arrived + pictures
    rows = hub.python(f"from datasets import load_dataset\nprint(len(load_dataset('{name}', split='train')))")
    assert int(rows) == 120 and "Traceback" not in done.stderr
    assert Path(tmp_path / "set" / "README.md").read_text().count("UNFINISHED") == 0
