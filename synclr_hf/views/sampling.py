"""In which order rows are seen: whole permutations, or block by block where rows come over a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from torch.utils.data import Sampler

from synclr_hf.data.parquet_rows import WINDOW_BLOCKS
from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError


class EpochSampler(Sampler):
    """Yields `(epoch, index)` in an order that is a function of (seed, epoch).

        epoch 0: (0, 3) (0, 0) (0, 2) (0, 1)
        epoch 1: (1, 1) (1, 3) (1, 0) (1, 2)

    The epoch travels with the index, so that augmentation repeats exactly after a resume, in every worker.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; called at its start."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        order = np.random.default_rng(seed_for(self.seed, "order", epoch)).permutation(self.length)
        return ((epoch, int(index)) for index in order)


class BlockSampler(Sampler):
    """Yields `(epoch, index)` such that every worker reads the blocks of its own lane, and each of them once.

        blocks of the epoch, permuted    | c c c c | a a a | d d d d d | b b b | e e e ...
        equal lanes of whole batches     |------ lane 0 ------|------ lane 1 ------| left out
        windows of blocks, shuffled      |  window  | window  |  window  | window  |
        batches dealt in turn            lane 0, lane 1, lane 0, lane 1, ...

    accelerate gives process r of W the batches r, r + W, ..., and its DataLoader hands those to its n workers in turn.
    With W n lanes every worker thus stays in one lane. No row comes twice in an epoch; the rows that do not fill a
    round of batches are left out, others in every epoch. The order is a function of (seed, epoch) for one number of
    lanes and one batch size; a resume skips numbers here and reads nothing again.

    Args:
        block_lengths: rows of each block; row numbers run through the blocks in this order.
        seed: seed of the run.
        batch_size: rows of a batch of one process.
        lanes: processes x workers of each, at least 1.

    Raises:
        UserInputError: the rows do not fill one batch of every lane.
    """

    def __init__(self, block_lengths: Sequence[int], *, seed: int, batch_size: int, lanes: int) -> None:
        self.block_lengths = np.asarray(block_lengths)
        self.block_starts = np.cumsum(self.block_lengths) - self.block_lengths
        self.seed, self.batch_size, self.lanes, self.epoch = seed, batch_size, lanes, 0
        num_rows = int(self.block_lengths.sum())
        self.rounds = num_rows // (lanes * batch_size)
        if self.rounds == 0:
            raise UserInputError(
                f"{num_rows} rows do not fill a batch of {batch_size} for each of {lanes} processes x workers; type a "
                "smaller per_device_train_batch_size or dataloader_num_workers, or streaming: false"
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; accelerate calls this at its start."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rounds * self.lanes * self.batch_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        blocks = np.random.default_rng(seed_for(self.seed, "order", epoch)).permutation(len(self.block_lengths))
        lanes = [self._lane_rows(lane, epoch, blocks) for lane in range(self.lanes)]
        for _ in range(self.rounds):
            for lane in lanes:
                yield from ((epoch, index) for index in islice(lane, self.batch_size))

    def _lane_rows(self, lane: int, epoch: int, blocks: np.ndarray) -> Iterator[int]:
        """Give the row numbers of one lane; `blocks` is the epoch's order of blocks."""
        rng = np.random.default_rng(seed_for(self.seed, "order", epoch, lane))
        ends = np.cumsum(self.block_lengths[blocks])
        start = lane * self.rounds * self.batch_size
        stop = start + self.rounds * self.batch_size
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        for place in range(first, last + 1, WINDOW_BLOCKS):
            window = blocks[place : min(place + WINDOW_BLOCKS, last + 1)]
            begins = ends[place : place + len(window)] - self.block_lengths[window]
            rows = [self._block_rows(*pair, start, stop) for pair in zip(window, begins, strict=True)]
            yield from rng.permutation(np.concatenate(rows)).tolist()

    def _block_rows(self, block: int, begin: int, start: int, stop: int) -> np.ndarray:
        """Return the row numbers of the part of a block that lies in `start` ... `stop - 1`; it begins at `begin`."""
        low, high = max(start - begin, 0), min(stop - begin, self.block_lengths[block])
        return self.block_starts[block] + np.arange(low, high)
