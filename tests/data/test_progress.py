import time

import pytest

from synclr_hf.data import progress
from synclr_hf.data.progress import Progress


def lines(capfd):
    return [line.strip() for line in capfd.readouterr().err.replace("\r", "\n").splitlines() if line.strip()]


def test_it_counts_to_its_total(capfd):
    with Progress("images", total=12000, unit="picture", initial=2000) as bar:
        bar.update(4000)
        bar.note("nearly there")
        bar.update(6000)
        assert bar.count == 12000
    last = lines(capfd)[-1]
    assert last.startswith("images: 100%") and "12000/12000" in last
    assert "picture/s" in last and "nearly there" in last


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(progress, "REFRESH_SECONDS_OFF_A_TERMINAL", progress.REFRESH_SECONDS)


def test_a_log_file_does_not_grow_with_time(capfd):
    with Progress("waiting"):
        time.sleep(1.3)
    assert len(lines(capfd)) <= 3, "the first state and the last"


def test_it_moves_though_nothing_finishes(capfd, often):
    with Progress("loading the encoder"):
        time.sleep(1.7)
    drawn = lines(capfd)
    assert len(drawn) >= 4, "at least every half second"
    assert drawn[0] == "loading the encoder [00:00]" and drawn[-1] == "loading the encoder [00:01]"


def test_without_a_total_it_shows_the_count_once_there_is_one(capfd, often):
    with Progress("reading", unit="row") as bar:
        bar.update(7)
        time.sleep(0.6)
    assert any(line.startswith("reading: 7 row [") for line in lines(capfd))


def test_a_message_gets_a_line_of_its_own(capfd):
    with Progress("images", total=2) as bar:
        bar.message("shard 3 is damaged; making it again")
    assert "shard 3 is damaged; making it again" in lines(capfd)


def test_closing_twice_is_harmless_and_ends_the_thread(capfd):
    bar = Progress("images", total=2)
    bar.close()
    count = len(lines(capfd))
    bar.close()
    time.sleep(0.7)
    assert count >= 1 and lines(capfd) == []
