"""Images that stay on the Hub while they are trained on: ranges over HTTP, a pinned commit, a server that fails."""

import pytest
from image_sets import write_images

READ = """
from synclr_hf.data.parquet_rows import ParquetRows
rows = ParquetRows("org/pictures")
print(len(rows), len(rows.block_lengths), rows.fingerprint)
print(*(rows[index]["caption_id"] for index in (0, 13, 1, 39)))
"""
LOAD = """
import os
from torch.utils.data import DataLoader
from synclr_hf.data.parquet_rows import ParquetRows
from synclr_hf.views import ViewsConfig, ViewsDataset, collate_views

views = ViewsConfig(global_crop_size=16, local_crop_size=8, num_local_crops=0)
dataset = ViewsDataset(ParquetRows("org/pictures"), views, patch_size=8, seed=0)
sampler = dataset.sampler(seed=0, batch_size=4, lanes=2)
loader = DataLoader(dataset, 4, sampler=sampler, num_workers=2, collate_fn=collate_views, drop_last=True)
print(*sorted({caption for batch in loader for caption in batch["caption_ids"].tolist()}))
"""
RESOLVED = "/datasets/org/pictures/resolve/"


@pytest.fixture
def pictures(hub, tmp_path):
    """A set of 40 rows in 8 blocks on the Hub, with a test split beside it; returns its repository."""
    folder = write_images(tmp_path / "images", images=4)
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    files["data/test-00000.parquet"] = files["data/train-00000.parquet"]
    return hub.add("org/pictures", files, "dataset")


def test_blocks_come_in_ranges_from_one_commit(hub, pictures):
    count, rows = hub.python(READ).splitlines()
    assert count == f"40 8 org/pictures@{pictures.branches['main']}" and rows == "0 13 1 39"
    downloads = hub.calls("GET", RESOLVED)
    assert downloads and all(request.status == 206 for request in downloads)
    assert all(pictures.branches["main"] in request.path and "train" in request.path for request in downloads)
    sizes = [len(data) for path, data in hub.files("org/pictures", "dataset").items() if "train" in path]
    blocks = [request for request in downloads if request.sent > 4000]
    assert len(downloads) <= 4 + 4 * 4 and sum(request.sent for request in downloads) < 2 * sum(sizes), blocks


def test_workers_read_over_http_and_nothing_is_stored(hub, pictures):
    assert hub.python(LOAD).split() == [str(caption) for caption in range(40)]
    assert not list(hub.folder.rglob("*.parquet"))


def test_a_server_that_fails_now_and_then_is_survived(hub, pictures):
    faults = [
        hub.fail("GET", f"{RESOLVED}.*train-00001", status=503, times=2),
        hub.fail("GET", f"{RESOLVED}.*train-00003", cut=100),
        hub.fail("GET", f"{RESOLVED}.*train-00000", close=True),
    ]
    assert hub.python(READ).splitlines()[1] == "0 13 1 39"
    assert [fault.met for fault in faults] == [2, 1, 1]


def test_a_file_that_stays_away_is_named_with_the_reason(hub, pictures):
    code = """
from synclr_hf.data import parquet_rows
parquet_rows.WAITS = (0.1, 0.1)
parquet_rows.ParquetRows("org/pictures")
"""
    hub.fail("GET", f"{RESOLVED}.*train-00002", status=403, times=100)
    done = hub.try_python(code)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "UserInputError: 'hf://datasets/org/pictures@" in last and "train-00002.parquet' cannot be read (" in last
    assert "403" in last and "run the same command again" in last
    assert len(hub.calls("GET", f"{RESOLVED}.*train-00002")) == 3


def test_a_revision_can_be_named_and_others_are_told(hub, pictures):
    first = pictures.branches["main"]
    pictures.commit("main", {}, "Remove all", "", "ada")
    code = f"""
from synclr_hf.data.parquet_rows import ParquetRows
from synclr_hf.data.reading import PRETRAINING_COLUMNS, read_images
name = "org/pictures@{first}"
print(len(ParquetRows(name)), ParquetRows(name).fingerprint == name, len(read_images(name, PRETRAINING_COLUMNS)))
ParquetRows("org/pictures")
"""
    done = hub.try_python(code)
    assert done.stdout == "40 True 40\n"
    assert "'org/pictures' has no rows in Parquet files of a train split" in done.stderr.splitlines()[-1]
    done = hub.try_python(code.replace(f'"org/pictures@{first}"', '"org/nothing"'))
    assert "there is no folder 'org/nothing', and it cannot be loaded from the Hub" in done.stderr.splitlines()[-1]


def test_the_command_line_trains_on_a_set_of_the_hub(hub, pictures):
    code = """
from synclr_hf.cli.main import main
views = ("global_crop_size=32", "local_crop_size=16", "num_local_crops=1")
arguments = ("max_steps=2", "per_device_train_batch_size=4", "dataloader_num_workers=1", "use_cpu=true")
entries = [f"pretraining.views.{entry}" for entry in views]
entries += [f"pretraining.training_arguments.{entry}" for entry in arguments]
main(["pretrain", "--images", "org/pictures", "--output-dir", "run", "pretraining.streaming=true", *entries])
"""
    assert "pretraining: run" in hub.python(code)
    assert (hub.folder / "run/model.safetensors").is_file() and hub.calls("GET", f"{RESOLVED}.*train")
