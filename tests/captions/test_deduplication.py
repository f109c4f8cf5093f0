import errno
import fcntl
import json
import os
import random
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synclr_hf.captions import duplicates, minhash
from synclr_hf.captions.deduplication import WORK_FOLDER, DeduplicationConfig, deduplicate_captions
from synclr_hf.captions.duplicates import shingles
from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.data.reading import read_captions
from synclr_hf.data.runs import read_record
from synclr_hf.data.schemas import CAPTION_COLUMNS, caption_features
from synclr_hf.errors import UserInputError

ROOT = Path(__file__).parents[2]
SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe ri so tu".split()
WORDS = [a + b + c for a in SYLLABLES for b in SYLLABLES for c in ("", "n", "s")]


def sentence(dice, words=15):
    return " ".join(dice.choices(WORDS, k=words))


def with_another_word(dice, text):
    words = text.split()
    words[dice.randrange(1, len(words) - 1)] = "changed"
    return " ".join(words)


def write_set(folder, captions, shards=3, first_id=1000):
    """Write captions as a set from elsewhere: no run file, ids with gaps."""
    (folder / "data").mkdir(parents=True)
    rows = [
        dict.fromkeys(CAPTION_COLUMNS, "x")
        | {"caption_id": first_id + 3 * place, "caption": caption, "background": None, "relation": None, "seed": place}
        for place, caption in enumerate(captions)
    ]
    size = -(-len(rows) // shards) or 1
    for shard in range(shards):
        table = pa.Table.from_pylist(rows[shard * size : (shard + 1) * size], schema=caption_features().arrow_schema)
        pq.write_table(table, folder / f"data/train-{shard:05d}.parquet")
    return rows


def deduplicated(tmp_path, captions, **changes):
    rows = write_set(tmp_path / "set", captions)
    config = DeduplicationConfig(tmp_path / "new", tmp_path / "set", **changes)
    folder = deduplicate_captions(config, workers=1)
    return rows, read_captions(folder), json.loads((folder / "shards/00000.json").read_text())["counts"]


def contents(folder):
    files = [path for name in ("data", "shards") for path in sorted((Path(folder) / name).iterdir())]
    return {path.name: path.read_bytes() for path in files}


def resemblance(one, other):
    return len(one & other) / len(one | other) if one | other else 0.0


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy") / "captions"
    return write_captions(CaptionsConfig(folder, num_captions=3000, rows_per_shard=750), workers=1)


@pytest.fixture(scope="module")
def toy_config(toy, tmp_path_factory):
    return DeduplicationConfig(tmp_path_factory.mktemp("toy") / "new", toy, rows_per_shard=700)


@pytest.fixture(scope="module")
def toy_contents(toy_config):
    return contents(deduplicate_captions(toy_config, workers=1))


def test_exact_duplicates_across_shards_go_and_the_first_one_stays(tmp_path):
    dice = random.Random(0)
    captions = [sentence(dice) for _ in range(90)]
    captions[40] = captions[3].upper() + "!"
    captions[77] = captions[3].replace(" ", ", ", 1)
    captions[89] = captions[60].capitalize() + "."
    rows, new, counts = deduplicated(tmp_path, captions)
    expected = [row for place, row in enumerate(rows) if place not in (40, 77, 89)]
    assert new.to_list() == expected and new.features == caption_features()
    assert counts == {"exact_duplicate": 3}
    card = (tmp_path / "new/README.md").read_text()
    assert "the 90 captions of" in card and "| exact_duplicate | 3 |" in card


def test_one_changed_word_of_fifteen_is_found_and_nothing_else(tmp_path):
    dice = random.Random(1)
    originals = [sentence(dice) for _ in range(400)]
    others = [sentence(dice) for _ in range(400)]
    changed = [with_another_word(dice, text) for text in originals]
    rows, new, counts = deduplicated(tmp_path, originals + others + changed)
    kept = set(new["caption_id"])
    assert all(row["caption_id"] in kept for row in rows[:800])
    found = sum(row["caption_id"] not in kept for row in rows[800:])
    assert found >= 0.96 * 400  # expected of 14 of 18 common pairs: 1 - (1 - (14 / 18)^6)^16 = 0.98
    assert counts == {"near_duplicate": found}


def test_captions_with_most_of_their_words_in_common_are_no_duplicates(tmp_path):
    """A template with two open places, one at the end: 10 words, up to 9 of 13 pairs in common."""
    things, places = WORDS[:30], WORDS[30:60]
    captions = [f"a photo of a {thing} that stands near the {place}" for thing in things for place in places]
    _, new, counts = deduplicated(tmp_path, captions)
    assert len(new) == 900 and counts == {}


def test_short_captions_do_not_fall_together(tmp_path):
    captions = ["dog", "cat", "Dog!", "", "?!", "...", "red dog", "dog red", "a red dog", "a red cat", "Red dog."]
    rows, new, counts = deduplicated(tmp_path, captions)
    assert new["caption"][:] == [text for text in captions if text not in ("Dog!", "Red dog.")]
    assert counts == {"exact_duplicate": 2}


@pytest.mark.parametrize("similarity", [0.6, 0.8])
def test_all_that_goes_resembles_what_stays_and_hardly_anything_that_stays_does(tmp_path, similarity):
    """Chains of captions, each with one more word changed: neighbours are alike, their ends are not."""
    dice = random.Random(2)
    captions = []
    for _ in range(60):
        captions.append(sentence(dice, words=20))
        for _ in range(7):
            captions.append(with_another_word(dice, captions[-1]).replace("changed", dice.choice(WORDS)))
    dice.shuffle(captions)
    _, new, _ = deduplicated(tmp_path, captions, similarity=similarity)
    stays = {text: shingles(text) for text in new["caption"]}
    gone = [shingles(text) for text in captions if text not in stays]
    assert len(gone) > 60 and len(stays) > 100
    assert all(max(resemblance(one, other) for other in stays.values()) >= similarity for one in gone)
    left = sum(resemblance(one, other) >= similarity for one, other in combinations(stays.values(), 2))
    assert left <= 0.05 * len(gone)


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.9, 1.0])
def test_buckets_find_19_of_20_pairs(similarity):
    hashes = minhash.hashes_per_bucket(similarity)
    assert 1 <= hashes <= 12
    assert 1 - (1 - similarity**hashes) ** minhash.NUM_BUCKETS >= 0.95


def test_a_set_of_ours_stays_one(toy, toy_config, toy_contents):
    folder = Path(toy_config.output_dir)
    old, new = read_captions(toy), read_captions(folder)
    ids = new["caption_id"][:]
    assert ids == sorted(ids) and len(ids) < 3000
    by_id = dict(zip(old["caption_id"], old, strict=True))
    assert all(by_id[row["caption_id"]] == row for row in new)
    notes = [json.loads(text) for name, text in toy_contents.items() if name.endswith(".json")]
    assert [note["rows"] for note in notes[:-1]] == [700] * (len(notes) - 1)
    removed = {name: sum(note["counts"].get(name, 0) for note in notes) for name in duplicates.KINDS.values()}
    assert removed["near_duplicate"] >= 5 and sum(removed.values()) == 3000 - len(new)
    assert read_record(folder)["configuration"]["language_model"] == "toy"
    assert "license: apache-2.0" in (folder / "README.md").read_text()
    assert not (folder / WORK_FOLDER).exists()


def test_the_log_of_datatrove_is_not_shown(tmp_path, capfd):
    deduplicated(tmp_path, ["a dog", "a cat", "a bird"])
    lines = capfd.readouterr().err.replace("\r", "\n").splitlines()
    assert {line.partition(":")[0] for line in lines if line.strip()} <= {
        "signing captions",
        "comparing captions",
        "captions",
        "looking at the captions [00",
    }


def test_several_processes_and_files_give_the_same_bytes(tmp_path, monkeypatch, toy_config, toy_contents):
    monkeypatch.setattr(duplicates, "ROWS_PER_FILE", 800)
    again = replace(toy_config, output_dir=str(tmp_path / "new"))
    assert contents(deduplicate_captions(again, workers=2)) == toy_contents


@pytest.mark.parametrize("moment", [f"{WORK_FOLDER}/found/00003.npy", "shards/00000.json"])
def test_killed_and_started_again_the_set_is_the_same(tmp_path, toy_config, toy_contents, moment):
    folder = tmp_path / "new"
    config = replace(toy_config, output_dir=str(folder))
    program = f"""
import os, signal
from synclr_hf.captions.deduplication import *

rename = os.replace
def rename_and_die(source, target):
    rename(source, target)
    if str(target).endswith({moment!r}):
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = rename_and_die
deduplicate_captions({config!r}, workers=1)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGKILL and (folder / moment).exists()
    with pytest.raises(UserInputError, match="similarity 0.75 there, 0.9 now"):
        deduplicate_captions(replace(config, similarity=0.9), workers=1)
    assert contents(deduplicate_captions(config, workers=1)) == toy_contents
    assert not (folder / WORK_FOLDER).exists()


def test_a_finished_set_is_only_checked_and_mended(tmp_path, monkeypatch, toy_config, toy_contents):
    folder = Path(toy_config.output_dir)
    before = (folder / "data/train-00001.parquet").stat().st_mtime_ns
    monkeypatch.setattr("synclr_hf.captions.deduplication.find_duplicates", None)
    deduplicate_captions(toy_config, workers=1)
    assert (folder / "data/train-00001.parquet").stat().st_mtime_ns == before
    monkeypatch.undo()
    (folder / "data/train-00001.parquet").write_bytes(b"damaged")
    assert contents(deduplicate_captions(toy_config, workers=1)) == toy_contents


def bad_inputs(tmp_path, toy):
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures/data").mkdir(parents=True)
    pq.write_table(pa.table({"picture": [1, 2]}), tmp_path / "pictures/data/train-00000.parquet")
    write_captions(CaptionsConfig(tmp_path / "half", num_captions=20, rows_per_shard=10), workers=1)
    (tmp_path / "half/shards/00001.json").unlink()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/letter.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    new = str(tmp_path / "new")
    return {
        "same folder": (f"{toy}/", str(toy), "which stays as it is; type the name of a new folder"),
        "nothing there": (new, str(tmp_path / "nothing"), "does not exist"),
        "no caption set": (new, str(tmp_path / "pictures"), "has no column caption_id"),
        "empty": (new, str(tmp_path / "empty"), "holds no rows"),
        "unfinished": (new, str(tmp_path / "half"), "is not finished: 1 of 2 shards; finish it first: type synclr"),
        "foreign folder": (str(tmp_path / "foreign"), str(toy), "holds other things .letter.txt."),
        "a file": (str(tmp_path / "file"), str(toy), "cannot be written|is a file"),
    }


def test_what_cannot_be_used_is_said_in_one_line(tmp_path, toy):
    for name, (output_dir, captions, message) in bad_inputs(tmp_path, toy).items():
        with pytest.raises(UserInputError, match=message) as raised:
            deduplicate_captions(DeduplicationConfig(output_dir, captions), workers=1)
        assert "\n" not in str(raised.value), name
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("changes", [{"similarity": 0.2}, {"similarity": 1.5}, {"rows_per_shard": 0}])
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(UserInputError, match="cannot be used; allowed"):
        DeduplicationConfig("new", "old", **changes)


def test_a_full_disk_is_said_in_one_line(tmp_path, toy_config, toy_contents):
    """No file may grow beyond a limit: 3,000 signatures have 84 kB a bucket, their checksums 24 kB."""
    config = replace(toy_config, output_dir=str(tmp_path / "new"))
    read_captions(config.captions)  # what it prepares does not fit either
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(UserInputError, match="the disk is full while duplicates are searched in .*/new'; make"):
            deduplicate_captions(config, workers=1)
        with pytest.raises(OSError) as raised:
            duplicates._save(tmp_path / "checksums.npy", np.zeros(3000, dtype="<u8"))
        assert raised.value.errno == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert contents(deduplicate_captions(config, workers=1)) == toy_contents


def test_two_searches_in_one_folder_are_refused(tmp_path, toy_config):
    config = replace(toy_config, output_dir=str(tmp_path / "new"))
    work = tmp_path / "new" / WORK_FOLDER
    work.mkdir(parents=True)
    with open(work / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserInputError, match="another run is writing"):
            deduplicate_captions(config, workers=1)
    assert not (tmp_path / "new/run.json").exists()


def test_without_datatrove_the_user_is_told_what_to_install(tmp_path, monkeypatch, toy):
    monkeypatch.delitem(sys.modules, "synclr_hf.captions.minhash")
    monkeypatch.delattr("synclr_hf.captions.minhash")
    monkeypatch.setitem(sys.modules, "datatrove.data", None)
    with pytest.raises(UserInputError, match=r'type pip install "synclr-hf\[cluster\]"'):
        deduplicate_captions(DeduplicationConfig(tmp_path / "new", toy), workers=1)
