"""Plots for cards: PNG pictures of 1,200 pixels width that are read at 800; the same numbers give the same bytes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_ACCENT, _INK, _SOFT, _GRID, _MARK = "#0b6e69", "#15191c", "#566067", "#e6eaeb", "#b3401f"
_SERIES = ("#0b6e69", "#b3401f", "#5b4a9e", "#8a6d00", "#2f6fb0", "#a03a78", "#4f7a28", "#566067")
_WIDTH, _DPI = 8, 150
_LONGEST_LABEL = 28
_MOST_BINS = 80
_LEAST_RANGE = 12


def bar_plot(bars: Sequence[tuple[str, float]], *, axis: str, number: str = "{:,.0f}") -> bytes:
    """Draw horizontal bars, the first on top, each with its number behind it.

    Args:
        bars: label and length of each, at least one; labels may be any text and are cut if they are long.
        axis: what the length is.
        number: how a length is written.
    """
    height = 0.75 + 0.3 * max(len(bars), 2)
    with plot_figure(height) as figure:
        axes = figure.add_subplot()
        places = list(range(len(bars)))
        values = [value for _, value in bars]
        axes.barh(places, values, height=0.68, color=_ACCENT)
        axes.set_yticks(places, [_label(name) for name, _ in bars], parse_math=False)
        axes.set_ylim(max(len(bars), 2) - 0.4, -0.6)
        axes.set_xlim(0, (max(values) or 1) * 1.13)
        for place, value in zip(places, values, strict=True):
            axes.annotate(
                number.format(value), (value, place), (4, 0), textcoords="offset points", va="center", color=_SOFT
            )
        axes.set_xlabel(axis)
        axes.grid(axis="x", color=_GRID)
        axes.tick_params(axis="y", length=0)
        if number.endswith(",.0f}"):
            _whole_ticks(axes.xaxis, longest=len(number.format(max(values))))
        return _png(figure)


def histogram_plot(
    counts: Mapping[int, int],
    *,
    axis: str,
    what: str,
    limit: tuple[float, str] | None = None,
    most_bins: int = _MOST_BINS,
) -> bytes:
    """Draw how often each whole number comes, as shares in percent; a wide range is put into bins.

    Args:
        counts: number -> how often, not empty; no room is left below 0 unless there are such numbers.
        axis: what the number is.
        what: what is counted.
        limit: a number to mark by a line, and what it is; left out where the numbers stay far below it.
        most_bins: bins at most; few numbers ask for few.
    """
    low, high = min(counts), max(counts)
    width = -(-(high - low + 1) // most_bins)
    shares: dict[int, float] = {}
    for value, count in counts.items():
        bin_ = (value - low) // width
        shares[bin_] = shares.get(bin_, 0) + 100 * count / sum(counts.values())
    with plot_figure(3.6) as figure:
        axes = figure.add_subplot()
        middles = [low + (bin_ + 0.5) * width - 0.5 for bin_ in shares]
        axes.bar(middles, list(shares.values()), width=width * 0.92, color=_ACCENT)
        marked = limit is not None and high > 0.7 * limit[0]
        right = max(high, limit[0]) if limit is not None and marked else high
        margin = max(0.03 * (right - low), (_LEAST_RANGE - (right - low)) / 2)
        axes.set_xlim(max(low - 0.5 - margin, min(low, 0) - 0.5 - 0.03 * (right - low)), right + 0.5 + margin)
        axes.set_ylim(0, max(shares.values()) * 1.12)
        _whole_ticks(axes.xaxis)
        axes.set_xlabel(axis if width == 1 else f"{axis} (bins of {width:,})")
        axes.set_ylabel(f"{what} (%)")
        axes.grid(axis="y", color=_GRID)
        if limit is not None and marked:
            left_of_it = limit[0] > sum(axes.get_xlim()) / 2
            axes.axvline(limit[0], color=_MARK, linewidth=1.2, linestyle="--")
            axes.annotate(
                limit[1],
                (limit[0], 1),
                (-5 if left_of_it else 5, -5),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="right" if left_of_it else "left",
                va="top",
                color=_MARK,
            )
        return _png(figure)


def interval_plot(
    rows: Sequence[tuple[str, Sequence[tuple[str, float, tuple[float, float] | None, bool]]]], *, axis: str
) -> bytes:
    """Draw numbers with their intervals, one line of marks a row, the first on top.

    Args:
        rows: label of each row, and its marks: name of the series, value, (low, high) if it is known, and whether it
            comes from elsewhere (drawn hollow). At least one row with one mark.
        axis: what the values are.
    """
    names = list(dict.fromkeys(name for _, marks in rows for name, *_ in marks))
    step = 0.8 / max(len(names), 1)
    with plot_figure(1.1 + 0.3 * len(names) + len(rows) * max(0.34, 0.13 * len(names))) as figure:
        axes = figure.add_subplot()
        for place, (_, marks) in enumerate(rows):
            for name, value, interval, from_elsewhere in marks:
                at = place + (names.index(name) - (len(names) - 1) / 2) * step
                colour = _SERIES[names.index(name) % len(_SERIES)]
                if interval is not None:
                    axes.plot(interval, (at, at), color=colour, linewidth=1.4)
                axes.plot(value, at, "o", color=colour, markerfacecolor="white" if from_elsewhere else colour)
        for number, name in enumerate(names):
            hollow = any(one == name and from_elsewhere for _, marks in rows for one, _, _, from_elsewhere in marks)
            colour = _SERIES[number % len(_SERIES)]
            axes.plot([], [], "o", color=colour, markerfacecolor="white" if hollow else colour, label=name)
        axes.set_yticks(range(len(rows)), [_label(name, 2 * _LONGEST_LABEL) for name, _ in rows], parse_math=False)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        for edge in range(1, len(rows)):
            axes.axhline(edge - 0.5, color=_GRID, linewidth=0.8)
        axes.set_xlabel(axis)
        axes.grid(axis="x", color=_GRID)
        axes.tick_params(axis="y", length=0)
        legend = figure.legend(loc="outside upper left", frameon=False, ncols=1 if len(names) < 4 else 2)
        for text in legend.get_texts():
            text.set_parse_math(False)
        return _png(figure)


@contextmanager
def plot_figure(height: float) -> Iterator[Figure]:
    """Give an empty figure in our style, whatever the user's settings of matplotlib are."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style = {
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "text.color": _INK,
        "axes.edgecolor": _SOFT,
        "axes.labelcolor": _INK,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": _SOFT,
        "ytick.color": _SOFT,
        "xtick.labelcolor": _INK,
        "ytick.labelcolor": _INK,
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*missing from.*font")  # drawn as a box; the table has the text
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style)
        figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _whole_ticks(axis: Axis, longest: int = 0) -> None:
    """Write whole numbers at the ticks, few of them if they are long."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(nbins=5 if longest > 7 else 9, steps=[1, 2, 2.5, 5, 10], integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _label(text: str, longest: int = _LONGEST_LABEL) -> str:
    """Return a text on one line, cut where it is long, without what cannot be drawn."""
    text = "".join(character for character in " ".join(text.split()) if character.isprintable())
    text = text or "–"
    return text if len(text) <= longest else text[: longest - 1] + "…"
