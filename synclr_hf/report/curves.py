"""Curves of the Trainer's log as inline SVG, one small picture a quantity."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

WIDTH, HEIGHT = 320, 176
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 24
"""Margins around the plot in units of the view box."""
MAX_POINTS = 400
"""Longer series are thinned to about this many points, evenly."""
SMOOTHED_FROM = 40
"""Series with at least this many points also get a running mean."""

SHEET_COLUMNS, SHEET_GAP, SHEET_TITLE = 3, 24, 20
SHEET_STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#5b6470}.title{font-size:13px;font-weight:600;fill:#1c2430}"
    ".last{font-size:13px;fill:#0b62a8}.grid{stroke:#e3e6ea}"
    ".line{fill:none;stroke:#0b62a8;stroke-width:1.8;stroke-linejoin:round}.line.raw{stroke:#a9cbe6;stroke-width:1.2}"
)

NOT_CURVES = frozenset(
    "step epoch total_flos train_loss train_runtime train_samples_per_second train_steps_per_second".split()
)
"""Entries of the log that describe the run as a whole."""
TITLES = {
    "loss": "Loss, sum of its parts",
    "contrastive_global": "Contrastive, global crops",
    "contrastive_local": "Contrastive, local crops",
    "ibot": "iBOT, masked patches",
    "cross_entropy": "Cross-entropy of the classes",
    "eval_knn_top1": "Live kNN probe, teacher",
    "eval_knn_top1_student": "Live kNN probe, student",
    "rankme": "RankMe: directions in use",
    "prototype_perplexity": "Prototypes in use",
    "prototypes_told_apart": "Prototypes told apart",
    "grad_norm": "Gradient norm",
    "learning_rate": "Learning rate",
    "weight_decay": "Weight decay",
    "ema_decay": "EMA decay",
    "teacher_temperature": "Teacher temperature",
}
"""Known quantities in the order of the page; others follow by name."""


@dataclass(frozen=True)
class Curve:
    """One drawn quantity.

    Attributes:
        key: its name in the log.
        title: its name for people.
        svg: the drawing.
        last: the last finite value as text.
        problem: a sentence when values were not finite, else empty.
    """

    key: str
    title: str
    svg: Markup
    last: str
    problem: str


def curves(history: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Draw every numeric quantity of a log that has two entries or more.

    Args:
        history: the Trainer's log, `[{"step": 10, "loss": 5.1, ...}, ...]`.
    """
    series: dict[str, list[tuple[float, float]]] = {}
    for entry in history:
        for key, value in entry.items():
            if key not in NOT_CURVES and "step" in entry and _is_number(value):
                series.setdefault(key, []).append((float(entry["step"]), float(value)))
    order = {key: place for place, key in enumerate(TITLES)}
    keys = sorted((key for key in series if len(series[key]) > 1), key=lambda key: (order.get(key, len(order)), key))
    return [_curve(key, series[key]) for key in keys]


def curves_sheet(history: Sequence[Mapping[str, Any]]) -> str:
    """Return all curves of a log as one SVG file that needs no style sheet, `SHEET_COLUMNS` a row."""
    drawn = [curve for curve in curves(history) if curve.svg]
    width, height = WIDTH + SHEET_GAP, HEIGHT + SHEET_GAP + SHEET_TITLE
    columns = min(SHEET_COLUMNS, max(len(drawn), 1))
    total_width, total_height = columns * width + SHEET_GAP, -(-len(drawn) // columns) * height + SHEET_GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total_width} {total_height}"'
        f' width="{total_width}" height="{total_height}"><style>{SHEET_STYLE}</style>'
        '<rect width="100%" height="100%" fill="#fff"/>'
    ]
    for place, curve in enumerate(drawn):
        x, y = SHEET_GAP + place % columns * width, SHEET_GAP + place // columns * height
        note = f" ({curve.problem})" if curve.problem else ""
        parts.append(f'<text class="title" x="{x}" y="{y + 13}">{escape(curve.title + note)}</text>')
        parts.append(f'<text class="last" x="{x + WIDTH}" y="{y + 13}" text-anchor="end">{escape(curve.last)}</text>')
        parts.append(f'<svg x="{x}" y="{y + SHEET_TITLE}" width="{WIDTH}" height="{HEIGHT}">{curve.svg}</svg>')
    return "".join(parts) + "</svg>\n"


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about `count` round numbers in [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def number_text(value: float) -> str:
    """Write a number in at most about six characters."""
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _curve(key: str, points: list[tuple[float, float]]) -> Curve:
    """Draw one series."""
    title = TITLES.get(key, key.replace("_", " ").capitalize())
    finite = [point for point in points if math.isfinite(point[1])]
    lost = next((step for step, value in points if not math.isfinite(value)), None)
    count = len(points) - len(finite)
    problem = f"{count} of {len(points)} values not finite, first at step {lost:,.0f}" if count else ""
    if not finite:
        return Curve(key, title, Markup(""), "", problem)
    every = max(1, math.ceil(len(points) / MAX_POINTS))
    thinned = points[::every] + ([points[-1]] if (len(points) - 1) % every else [])
    last = number_text(finite[-1][1])
    return Curve(key, title, _svg(title, thinned, last), last, problem)


def _svg(title: str, points: list[tuple[float, float]], last: str) -> Markup:
    """Draw points as a line with axes; a value that is not finite leaves a gap."""
    steps = [step for step, _ in points]  # two or more
    values = [value for _, value in points if math.isfinite(value)]
    low, high = _padded(min(values), max(values))
    first, end = min(0.0, *steps), max(*steps, 1.0)

    def x(step: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / (end - first), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low), 1)

    parts = []
    for tick in ticks(low, high):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick)}" y2="{y(tick)}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{y(tick) + 3.5}" text-anchor="end">{number_text(tick)}</text>'
        )
    for tick in ticks(first, end, 3):
        anchor = "end" if x(tick) > WIDTH - RIGHT - 20 else "middle"
        parts.append(
            f'<text class="tick" x="{x(tick)}" y="{HEIGHT - 7}" text-anchor="{anchor}">{number_text(tick)}</text>'
        )
    is_smoothed = len(points) >= SMOOTHED_FROM
    parts.append(f'<path class="line{" raw" if is_smoothed else ""}" d="{_path(points, x, y)}"/>')
    if is_smoothed:
        parts.append(f'<path class="line" d="{_path(_running_mean(points), x, y)}"/>')
    data = json.dumps([[x(s), y(v), number_text(s), number_text(v)] for s, v in points if math.isfinite(v)])
    label = f"{title}: from {number_text(values[0])} to {last} over {number_text(end)} steps"
    return Markup(
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}"'
        f' data-points="{escape(data)}">{"".join(parts)}<g class="pointer"></g></svg>'
    )


def _padded(low: float, high: float) -> tuple[float, float]:
    """Widen a range a little, so that lines do not touch the frame and constant ones lie in the middle."""
    room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _path(points: list[tuple[float, float]], x: Any, y: Any) -> str:
    """Return the path data of a line with gaps where values are not finite."""
    commands, is_broken = [], True
    for step, value in points:
        if math.isfinite(value):
            commands.append(
                f"M{x(step)} {y(value)}h0" if is_broken else f"L{x(step)} {y(value)}"
            )  # h0: a dot if alone
        is_broken = not math.isfinite(value)
    return "".join(commands)


def _running_mean(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average each point with its neighbours, a twentieth of the series in all; narrower at the ends."""
    half = max(1, len(points) // 40)
    smoothed = []
    for place, (step, value) in enumerate(points):
        reach = min(half, place, len(points) - 1 - place)
        window = [v for _, v in points[place - reach : place + reach + 1] if math.isfinite(v)]
        smoothed.append((step, sum(window) / len(window) if math.isfinite(value) else value))
    return smoothed
