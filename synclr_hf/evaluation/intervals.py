"""How sure a number is: bootstrap intervals over the test pictures, t intervals over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from synclr_hf.data.seeds import seed_for

NUM_RESAMPLES = 2000
"""Bootstrap samples of every interval, unless its details say something else."""
_CELLS_AT_ONCE = 2_500_000
"""Drawn numbers held at once (memory only)."""


def bootstrap_statistic(
    statistic: Callable[[np.ndarray], np.ndarray],
    num_units: int,
    *,
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of any statistic.

    Args:
        statistic: takes (R, U) int64, how often each unit was drawn in R samples, to (R,) values. Samples for which
            it is not defined are NaN and left out.
        num_units: U, what is drawn with replacement, U of them a sample.
        seed: equal seeds give equal intervals.
        num_resamples: number of bootstrap samples.
        confidence: share of the samples inside the interval.

    Returns:
        The bounds, NaN where the statistic is not defined for any sample.
    """
    generator = np.random.default_rng(seed_for(seed, "bootstrap"))
    at_once = min(max(_CELLS_AT_ONCE // num_units, 1), 50)
    values = []
    for start in range(0, num_resamples, at_once):
        shape = (min(at_once, num_resamples - start), num_units)
        drawn = generator.integers(num_units, size=shape)
        drawn += np.arange(shape[0])[:, None] * num_units
        values.append(statistic(np.bincount(drawn.ravel(), minlength=drawn.size).reshape(shape)))
    tail = (1 - confidence) / 2
    defined = np.concatenate(values)
    defined = defined[~np.isnan(defined)]
    low, high = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (np.nan, np.nan)
    return float(low), float(high)


def bootstrap_interval(
    correct: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the share of right answers, or of the mean of any other values.

    Whole groups are drawn with replacement, because pictures of one caption are alike and count for less than as many
    independent pictures. The interval covers the choice of test pictures, not the randomness of training.

    Args:
        correct: (N,), whether each test picture was classified rightly, or a value a picture; no NaN.
        groups: (N,) ids of what is drawn together; default: every picture alone.
        seed: equal seeds give equal intervals.
        num_resamples: number of bootstrap samples.
        confidence: share of the samples inside the interval.
    """
    groups = np.arange(len(correct)) if groups is None else groups
    _, group_of_row = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group_of_row).astype(np.float64)
    right = np.bincount(group_of_row, weights=correct.astype(np.float64))
    return bootstrap_statistic(
        lambda counts: (counts @ right) / (counts @ sizes),
        len(sizes),
        seed=seed,
        num_resamples=num_resamples,
        confidence=confidence,
    )


T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's t for 1 to 9 degrees of freedom."""


def seed_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % t interval of the mean over runs that differ in their seed; `None` for a single run.

    Args:
        values: one number a run, or one difference a pair of runs with the same seed.
    """
    if len(values) < 2:
        return None
    half = _t_975(len(values) - 1) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    mean = float(np.mean(values))
    return mean - half, mean + half


def _t_975(degrees: int) -> float:
    """Return the quantile of `T_975`, beyond its end by the expansion around the normal one (error below 0.001)."""
    if degrees <= len(T_975):
        return T_975[degrees - 1]
    z = 1.959964
    terms = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + sum(term / degrees**power for power, term in enumerate(terms, 1))
