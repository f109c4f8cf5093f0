"""Schedules as pure functions of (step, total steps): nothing to save, nothing to resume."""

from __future__ import annotations

import math

GLOBAL_CROPS_OF_THE_PAPER = 32768
"""Global crops of one optimizer step in the paper: 8,192 captions x 4 images (B.1)."""


def cosine(start: float, end: float, step: int, total_steps: int) -> float:
    """Go from `start` at step 0 to `end` at `total_steps` along half a cosine; constant afterwards."""
    progress = min(step / total_steps, 1.0) if total_steps else 1.0
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def scaled_learning_rate(base: float, global_crops: int) -> float:
    """Return the learning rate of a batch: linear in its global crops, `base` at the paper's 32,768.

    Args:
        base: learning rate at `GLOBAL_CROPS_OF_THE_PAPER`; paper B.1: 2e-3, L/14 1.5e-3.
        global_crops: captions x pictures x global crops of one optimizer step, over all processes.
    """
    return base * global_crops / GLOBAL_CROPS_OF_THE_PAPER
