"""`synclr captions --extend`: more captions beside those that are there."""

from dataclasses import replace

import pytest

from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.captions.words import normalized
from synclr_hf.cli.captions import main
from synclr_hf.data.reading import read_captions
from synclr_hf.data.runs import read_record
from synclr_hf.errors import UserInputError


@pytest.fixture
def config(tmp_path):
    return CaptionsConfig(tmp_path / "captions", num_captions=40, rows_per_shard=30)


def test_captions_grow_with_a_partial_last_shard(config):
    folder = write_captions(config, workers=1)
    before, first_shard = read_captions(folder).to_list(), (folder / "data/train-00000.parquet").stat().st_ino
    more = replace(config, num_captions=100)
    with pytest.raises(UserInputError, match="rows 40 there, 100 now; type --extend to add to what is there"):
        write_captions(more, workers=1)
    write_captions(replace(more, extend=True), workers=1)
    rows = read_captions(folder).to_list()
    assert rows[:40] == before and [row["caption_id"] for row in rows] == list(range(100))
    assert (folder / "data/train-00000.parquet").stat().st_ino == first_shard
    for start in range(0, 100, 30):
        captions = [normalized(row["caption"]) for row in rows[start : start + 30]]
        assert len(set(captions)) == len(captions), "the new ones of the shard are no duplicates of the old ones"
    card = (folder / "README.md").read_text()
    assert "100 rows" in card and "--num-captions 100" in card and "--extend" not in card and "| extend" not in card
    assert "extend" not in read_record(folder)["configuration"]
    write_captions(more, workers=1)  # and it is the run that it would have been
    with pytest.raises(UserInputError, match="rows 100 there, 90 now; --extend adds to a set"):
        write_captions(replace(more, num_captions=90, extend=True), workers=1)


def test_a_set_without_duplicates_is_not_extended(tmp_path):
    with pytest.raises(UserInputError, match="--extend is not for sets without duplicates; extend the set with them"):
        main(["--deduplicate", str(tmp_path), "--extend"])
