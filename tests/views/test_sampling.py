"""Orders: permutations, and the lanes of blocks as accelerate and its DataLoader deal them out."""

import os
from collections import Counter

import numpy as np
import pytest
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from image_sets import write_images
from torch.utils.data import DataLoader

from synclr_hf.data.parquet_rows import WINDOW_BLOCKS, ParquetRows
from synclr_hf.errors import UserInputError
from synclr_hf.views import BlockSampler, EpochSampler, ViewsConfig, ViewsDataset, collate_views

VIEWS = ViewsConfig(global_crop_size=16, local_crop_size=8, num_local_crops=0)
BATCH = 4


def test_order_is_a_permutation_that_changes_with_the_epoch():
    sampler = EpochSampler(50, seed=0)
    first = list(sampler)
    assert first == list(sampler) and sorted(i for _, i in first) == list(range(50)) and {e for e, _ in first} == {0}
    sampler.set_epoch(1)
    assert [i for _, i in sampler] != [i for _, i in first] and {e for e, _ in sampler} == {1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """200 rows in 43 blocks of 5 or, at the end of a shard, fewer."""
    return write_images(tmp_path_factory.mktemp("sampling") / "images", rows=200, rows_per_shard=33)


class ToldBlocks(ParquetRows):
    """Writes down which process read which block."""

    def __init__(self, folder, told):
        self.told = told
        super().__init__(folder)

    def _read_block(self, block):
        with open(self.told / str(os.getpid()), "a") as file:
            file.write(f"{block}\n")
        return super()._read_block(block)


def indices(sampler, epoch=0):
    sampler.set_epoch(epoch)
    epochs, rows = zip(*sampler, strict=True)
    assert set(epochs) == {epoch}
    return list(rows)


def test_the_order_of_blocks_is_a_function_of_seed_and_epoch():
    def order(epoch, seed=0):
        return indices(BlockSampler([7, 5, 9, 8, 3, 6, 7] * 3, seed=seed, batch_size=4, lanes=3), epoch)

    assert order(1) == order(1) and order(1) != order(2) and order(1) != order(1, seed=1)
    assert len(set(order(1))) == len(order(1)) == 132
    left_out = [set(range(135)) - set(order(epoch)) for epoch in range(20)]
    assert all(len(rows) == 3 for rows in left_out) and len(set().union(*left_out)) > 20


def test_one_lane_holds_all_rows_of_whole_batches():
    rows = indices(BlockSampler(np.full(10, 8), seed=0, batch_size=8, lanes=1))
    assert sorted(rows) == list(range(80))


def test_rows_are_shuffled_completely_within_a_window():
    """Each window of four blocks comes as a whole, in an order that knows no blocks."""
    rows = indices(BlockSampler(np.full(40, 50), seed=0, batch_size=10, lanes=1))
    size = 50 * WINDOW_BLOCKS
    for start in range(0, len(rows), size):
        window = np.array(rows[start : start + size])
        assert sorted(Counter(window // 50).values()) == [50] * WINDOW_BLOCKS
        assert all(len(set(window[at : at + 50] // 50)) == WINDOW_BLOCKS for at in range(0, size, 50))
    firsts = [indices(BlockSampler(np.full(40, 50), seed=0, batch_size=10, lanes=1), epoch)[0] for epoch in range(30)]
    assert len({row // 50 for row in firsts}) > 12 and len({row % 50 for row in firsts}) > 12


def test_too_few_rows_for_the_lanes_is_one_line():
    with pytest.raises(
        UserInputError, match="20 rows do not fill a batch of 4 for each of 6 processes x workers; type"
    ):
        BlockSampler([10, 10], seed=0, batch_size=4, lanes=6)


def shards_of_loader(rows, processes, workers, epoch, skip=0):
    """Run the loader of every process as the Trainer has it, and return the batches of caption ids of each."""
    told = []
    for process in range(processes):
        dataset = ViewsDataset(rows, VIEWS, patch_size=8, seed=0)
        sampler = dataset.sampler(seed=0, batch_size=BATCH, lanes=processes * max(workers, 1))
        loader = DataLoader(
            dataset, BATCH, sampler=sampler, num_workers=workers, collate_fn=collate_views, drop_last=True
        )
        loader = prepare_data_loader(
            loader, num_processes=processes, process_index=process, put_on_device=False, rng_types=[]
        )
        if skip:
            loader = skip_first_batches(loader, skip)
        loader.set_epoch(epoch)  # as the Trainer does,
        sampler.set_epoch(epoch)  # and its callback: after a resume of two processes accelerate does not reach it
        told.append([batch["caption_ids"][::2].tolist() for batch in loader])
    return told


@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (1, 2), (2, 2)])
def test_no_row_comes_twice_and_each_worker_reads_its_own_blocks_once(folder, tmp_path, processes, workers):
    rows = ToldBlocks(folder, tmp_path)
    seen = shards_of_loader(rows, processes, workers, epoch=1)
    (tmp_path / str(os.getpid())).unlink(missing_ok=workers > 0)
    captions = [caption for batches in seen for batch in batches for caption in batch]
    lanes = processes * max(workers, 1)
    assert len(captions) == len(set(captions)) == 200 // (lanes * BATCH) * lanes * BATCH
    readers = [[int(block) for block in path.read_text().split()] for path in tmp_path.iterdir()]
    if workers:
        assert len(readers) == lanes
        assert all(len(blocks) == len(set(blocks)) for blocks in readers), "a block is read once a worker"
        shared = Counter(block for blocks in readers for block in blocks)
        assert sum(count - 1 for count in shared.values()) <= lanes - 1, "only where a lane ends within a block"


@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (1, 2), (2, 0), (2, 2)])
def test_a_resume_in_a_later_epoch_goes_on_with_the_same_batches(folder, tmp_path, processes, workers):
    rows = ToldBlocks(folder, tmp_path)
    whole = shards_of_loader(rows, processes, workers, epoch=2)
    resumed = shards_of_loader(rows, processes, workers, epoch=2, skip=7)
    assert resumed == [batches[7:] for batches in whole] and resumed[0]
    assert whole != shards_of_loader(rows, processes, workers, epoch=0)


def test_skipped_rows_are_not_read_again(folder, tmp_path):
    rows = ToldBlocks(folder, tmp_path)
    assert len(rows.block_lengths) == 43 and rows[0]["caption_id"] == 0
    shards_of_loader(rows, 1, 0, epoch=0, skip=45)
    assert len((tmp_path / str(os.getpid())).read_text().split()) <= 2 + 2 * WINDOW_BLOCKS


def test_a_permutation_is_resumed_on_two_processes_as_well(folder):
    rows = list(ParquetRows(folder))
    whole = shards_of_loader(rows, 2, 0, epoch=2)
    assert shards_of_loader(rows, 2, 0, epoch=2, skip=3) == [batches[3:] for batches in whole]
    assert isinstance(
        ViewsDataset(rows, VIEWS, patch_size=8, seed=0).sampler(seed=0, batch_size=4, lanes=1), EpochSampler
    )
