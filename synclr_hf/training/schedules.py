"""Schedules as pure functions of (step, total steps): nothing to save, nothing to resume."""

from __future__ import annotations

import math


def cosine(start: float, end: float, step: int, total_steps: int) -> float:
    """Go from `start` at step 0 to `end` at `total_steps` along half a cosine; constant afterwards."""
    progress = min(step / total_steps, 1.0) if total_steps else 1.0
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
