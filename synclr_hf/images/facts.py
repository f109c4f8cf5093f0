"""The numbers of a finished set of pictures in words: the same lines for its card and for the report on it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import numpy as np

from synclr_hf.data.tally import Tally
from synclr_hf.images.samples import ranked
from synclr_hf.images.statistics import ImageStatistics

DRAWN_AGAIN = {
    "black": "all but black; drawn again",
    "flat": "all but one colour; drawn again",
    "near_identical": "all but the same as another picture of its caption; drawn again",
    "blocked": "blocked by the safety checker of the model; drawn again",
}
"""Reasons that count pictures."""

_IMPORTED = {
    "unreadable": "pictures that are missing, or cannot be read",
    "same_picture": "pictures that a caption has already",
    "left_over": "pictures beyond those wanted of a caption",
    "single_picture": "captions with one picture only: SynCLR needs two",
    "incomplete_row": "rows of the source without a path or a caption",
    "unreadable_caption": "captions that are no text",
    "other_caption": "pictures whose caption turned out to be another one",
}
"""Reasons of an import."""

_OF_ROWS = {
    "caption_cut": "captions longer than the text encoder reads; their end was not seen",
    "empty_caption": "captions without text; nothing was drawn",
}
"""Reasons that count captions."""

_NOT_COUNTED = "not counted"
_MOST_VALUES = 4
_TITLES = {
    "generator": "generator",
    "back_end": "back end",
    "revision": "its revision",
    "adapter": "adapter",
    "scheduler": "scheduler",
    "guidance_scale": "guidance scale",
    "num_inference_steps": "denoising steps",
    "size_drawn": "size drawn (px)",
    "size": "size stored (px)",
    "format": "format",
    "quality": "quality",
    "dtype": "precision",
    "device": "device",
}
"""Entries of the provenance in the order of the table; others follow by name."""


def reason_lines(statistics: ImageStatistics, tally: Tally) -> list[tuple[str, int, str, str]]:
    """Return (reason, count, share, meaning) of everything that was counted, pictures first.

    The share is of all pictures drawn, or of all captions that were given, for reasons that are about captions.
    """
    drawn = int(tally.cost.get("pictures", 0))
    captions = statistics.rows + tally.dropped
    lines = []
    for reason in sorted(tally.counts, key=_order):
        count = tally.counts[reason]
        total, of = (captions, "captions") if _is_of_rows(reason) else (drawn, "pictures drawn")
        share = f"{percent(count / total)} of the {of}" if total else "–"
        lines.append((reason, count, share, _meaning(reason)))
    return lines


def making_lines(statistics: ImageStatistics, tally: Tally) -> list[tuple[str, str]]:
    """Return (what, value) on how the pictures were made and what it cost; values are plain text.

    What differs between rows is told with its share of the pictures.
    """
    order = {name: place for place, name in enumerate(_TITLES)}
    names = sorted(statistics.made, key=lambda name: (order.get(name, len(order)), name))
    made = [(_TITLES.get(name, name), _values(_told(statistics, name))) for name in names]
    seconds, drawn = tally.cost.get("seconds", 0.0), tally.cost.get("pictures")
    unit = hour_unit(statistics)
    cost = [
        ("pictures drawn, rejected ones included", _NOT_COUNTED if drawn is None else f"{drawn:,.0f}"),
        ("seconds, all processes together", f"{seconds:,.1f}" if seconds else _NOT_COUNTED),
        (f"pictures kept per {unit}", _rate(statistics.pictures, seconds)),
        (f"pictures drawn per {unit}", _rate(drawn, seconds)),
    ]
    return [(what, value) for what, value in made if value] + cost


def hour_unit(statistics: ImageStatistics) -> str:
    """Return what an hour of one process is: it fills a GPU, or a core for the toy renderer."""
    devices = set(_told(statistics, "device"))
    if devices and not devices & {"", "cpu", "mps"}:  # a CUDA device goes by its own name
        return "GPU-hour"
    if set(_told(statistics, "generator")) == {"toyworld-renderer"}:
        return "core-hour"
    return "hour of one process" + (" on the CPU" if devices == {"cpu"} else "")


def sample_lines(statistics: ImageStatistics) -> list[tuple[str, str, str]]:
    """Return (measure, value, definition) of what the pictures of the sample are like."""
    sample = statistics.sample
    lines = [
        ("brightness", spread(sample.brightness), "mean of the luminance of a picture, 0 (black) to 255 (white)"),
        ("contrast", spread(sample.contrast), "its standard deviation, 0 (one grey) to 127.5"),
        (
            "distance, pictures of one caption",
            spread(sample.within),
            "mean difference of two grey thumbnails of 16 px, 0 (the same) to 255; mean over the pairs of a caption",
        ),
        (
            "distance, pictures of different captions",
            spread(sample.between),
            "the same of the first pictures of two captions",
        ),
    ]
    if sample.unreadable:
        lines.append(("unreadable", f"{sample.unreadable:,}", "pictures that cannot be decoded"))
    return lines


def which_sample(statistics: ImageStatistics) -> str:
    """Return what the sample is."""
    sample = statistics.sample
    where = "all rows" if sample.rows == statistics.rows else f"{sample.rows:,} rows at even distances"
    return f"the {sample.pictures:,} pictures of {where}"


def spread(values: np.ndarray) -> str:
    """Return mean and the middle 90 % of some numbers."""
    if len(values) == 0:
        return "–"
    low, high = np.percentile(values, (5, 95))
    return f"{values.mean():.1f} ({low:.1f} to {high:.1f})"


def histogram(values: np.ndarray) -> dict[int, int]:
    """Return how often the values come, rounded to whole numbers."""
    numbers, counts = np.unique(np.rint(values).astype(int), return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def span(counts: Mapping[int, int], divisor: int = 1) -> str:
    """Return range, mean and median of whole numbers that come so often, divided by `divisor`."""
    total, numbers = sum(counts.values()), sorted(counts)
    mean = sum(number * count for number, count in counts.items()) / total
    upto = accumulate(counts[number] for number in numbers)
    median = next(number for number, count in zip(numbers, upto, strict=True) if 2 * count >= total)
    told = [number / divisor if divisor > 1 else number for number in (numbers[0], numbers[-1], median)]
    return f"{told[0]:,} to {told[1]:,}, {mean / divisor:.{1 if divisor == 1 else 3}f} in the mean, median {told[2]:,}"


def percent(share: float) -> str:
    """Return a share as a percentage."""
    return f"{100 * share:.2f} %" if 0 < share < 0.01 else f"{100 * share:.1f} %"


def _order(reason: str) -> tuple[int, str]:
    order = [*DRAWN_AGAIN, *(f"kept_{name}" for name in DRAWN_AGAIN), *_OF_ROWS]
    return (order.index(reason) if reason in order else len(order), reason)


def _is_of_rows(reason: str) -> bool:
    return reason in _OF_ROWS or reason.startswith("dropped_")


def _meaning(reason: str) -> str:
    if reason.startswith("kept_fewer_"):
        return "captions that could not be given more pictures, and stayed as they were"
    if reason.startswith("kept_"):
        return "was so in the last try as well, and was kept"
    if reason.startswith("dropped_"):
        return "captions that went, for their pictures were so in every try"
    return (DRAWN_AGAIN | _OF_ROWS | _IMPORTED).get(reason, "")


def left_out(counts: Mapping[str, int]) -> str:
    """Return in one line what an import left out, with its reasons."""
    return "; ".join(f"{count:,} {_meaning(reason) or reason}" for reason, count in sorted(counts.items()) if count)


def _told(statistics: ImageStatistics, name: str) -> dict[str, int]:
    """Return the values of an entry of the provenance; an empty one for the pictures that lack it."""
    counts = dict(statistics.made.get(name, {}))
    if missing := statistics.pictures - sum(counts.values()):
        counts[""] = counts.get("", 0) + missing
    return ranked(counts)


def _values(counts: Mapping[str, int]) -> str:
    """Return the values of an entry; shares where there are several, nothing where it is empty throughout."""
    if not any(counts):
        return ""
    if len(counts) == 1:
        return next(iter(counts))
    total = sum(counts.values())
    told = [f"{value or 'none'} ({percent(count / total)})" for value, count in list(counts.items())[:_MOST_VALUES]]
    more = len(counts) - _MOST_VALUES
    return ", ".join(told) + (f", and {more:,} more" if more > 0 else "")


def _rate(amount: float | None, seconds: float) -> str:
    return _NOT_COUNTED if amount is None or not seconds else f"{3600 * amount / seconds:,.0f}"
