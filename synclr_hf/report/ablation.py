"""The tables of an ablation: rows with intervals over seeds, and the differences that the paper's tables show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synclr_hf.evaluation.intervals import seed_interval

METRICS = {"knn_top1": "kNN top-1", "linear_top1": "linear top-1"}
DIFFERENCES = (
    ("+EMA", "multi-positive", "+0.9"),
    ("+EMA +iBOT", "+EMA", "+0.9"),
    ("+EMA +multi-crop", "+EMA", "+1.9"),
    ("+EMA +iBOT +multi-crop", "+EMA +iBOT", "+1.2"),
    ("+EMA +iBOT +multi-crop", "+EMA +multi-crop", "+0.2"),
    ("multi-positive", "supervised", "+3.4"),
    ("multi-positive", "SimCLR", "+11.7"),
    ("multi-positive", "supervised contrast", "not shown"),
)
"""(row, the row it is compared with, the paper's difference in ImageNet linear accuracy: Tables 4 and 5, ViT-B/16)."""

Scores = Mapping[str, Mapping[int, Mapping[str, float]]]
"""Row -> seed -> metric -> fraction right."""


def ablation_text(scores: Scores, steps: Mapping[str, int], *, equal: str, test_pictures: int, chance: float) -> str:
    """Return both tables as Markdown.

    Args:
        scores: what was measured, all rows with the same seeds.
        steps: row -> optimizer steps.
        equal: what the rows have in common: `compute` or `steps`.
        test_pictures: number of pictures that were classified.
        chance: accuracy of guessing.
    """
    seeds = sorted({seed for runs in scores.values() for seed in runs})
    head = (
        f"Equal {equal}; mean over seeds {', '.join(map(str, seeds))} [95 % t interval over seeds]; "
        f"{test_pictures:,} held-out pictures, chance {chance:.1%}."
    )
    rows = [
        [_named(name, len(runs), len(seeds)), f"{steps.get(name, 0):,}", *(_mean(runs, metric) for metric in METRICS)]
        for name, runs in scores.items()
    ]
    differences = [
        [f"({one}) - ({other})", paper, *(_difference(scores[one], scores[other], metric) for metric in METRICS)]
        for one, other, paper in DIFFERENCES
        if one in scores and other in scores
    ]
    tables = [_table(["row", "steps", *METRICS.values()], rows)]
    if differences:
        tables.append("Differences in points, paired by seed, beside the paper's (another scale: ImageNet, ViT-B/16):")
        tables.append(_table(["difference", "paper", *METRICS.values()], differences))
    return "\n\n".join([head, *tables]) + "\n"


def _named(name: str, num_runs: int, num_seeds: int) -> str:
    return name if num_runs == num_seeds else f"{name} ({num_runs} of {num_seeds} seeds)"


def _mean(runs: Mapping[int, Mapping[str, float]], metric: str) -> str:
    values = [100 * run[metric] for run in runs.values()]
    return f"{sum(values) / len(values):.1f} %{_interval(values, '.1f')}"


def _difference(one: Mapping[int, Any], other: Mapping[int, Any], metric: str) -> str:
    values = [100 * (one[seed][metric] - other[seed][metric]) for seed in one if seed in other]
    return f"{sum(values) / len(values):+.1f}{_interval(values, '+.1f')}" if values else "no seed in common"


def _interval(values: list[float], form: str) -> str:
    interval = seed_interval(values)
    return "" if interval is None else f" [{interval[0]:{form}}, {interval[1]:{form}}]"


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)
