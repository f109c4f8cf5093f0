"""How many pictures are drawn at once: found by a trial, and halved when the memory does not hold them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from synclr_hf.images.fast_path import free_memory

logger = logging.getLogger(__name__)

LARGEST = 64
"""Beyond this a GPU draws no faster."""

ON_CPU = 4
"""One picture keeps all cores busy; four, the pictures of a caption, share their weights in the caches."""

SHARE_OF_MEMORY = 0.85
"""Part of the free memory that a batch may take; the rest is for what the trial did not show."""

_TRIAL = 4


def measured_batch_size(draw: Callable[[int], None]) -> int:
    """Return how many pictures a CUDA device draws at once, from the memory that one and that four take.

    Args:
        draw: draws so many pictures, with all that comes with it, in as few steps as the model can.

    Raises:
        torch.OutOfMemoryError: not even one fits.
    """
    import torch

    def peak(pictures: int) -> int:
        free_memory()
        torch.cuda.reset_peak_memory_stats()
        draw(pictures)
        return torch.cuda.max_memory_allocated()

    one = peak(1)
    try:
        four = peak(_TRIAL)
    except torch.OutOfMemoryError:
        return 2  # drawing takes one if that does not fit either
    free_memory()
    free, _ = torch.cuda.mem_get_info()
    return fitting_batch(one, four, torch.cuda.memory_allocated(), free)


def fitting_batch(one: int, four: int, held: int, free: int) -> int:
    """Return the batch that fits, in steps of 8 where it is larger than that.

    Args:
        one: peak of the memory allocated while one picture was drawn, in bytes.
        four: the same for four.
        held: allocated when nothing is drawn, i.e. the weights.
        free: free on the device then.
    """
    each = max(1, (four - one) // (_TRIAL - 1))
    fits = int((held + SHARE_OF_MEMORY * free - (one - each)) // each)
    fits = max(1, min(LARGEST, fits))
    return fits if fits < 8 else fits - fits % 8


def stepped_down(batch: int) -> int:
    """Return half of a batch that did not fit, and say so."""
    smaller = max(1, batch // 2)
    logger.warning("out of memory: %d pictures at once from here on, not %d", smaller, batch)
    free_memory()
    return smaller
