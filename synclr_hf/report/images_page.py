"""The page on a set of pictures: plain values in, one HTML document out that loads nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from synclr_hf.data.pictures import open_picture
from synclr_hf.data.tally import Tally
from synclr_hf.images.facts import histogram, making_lines, reason_lines, sample_lines, spread, which_sample
from synclr_hf.images.samples import ShownRow
from synclr_hf.images.statistics import ImageStatistics
from synclr_hf.report.columns import histogram_svg
from synclr_hf.report.content import CaptionPictures
from synclr_hf.report.page import CAPTION_PICTURE_SIZE, render
from synclr_hf.report.wording import percent

_MOST_BARS = 20
_SIDES = {"drawn": "Drawn pictures", "real": "Real pictures"}


def render_images_page(
    statistics: ImageStatistics, tally: Tally, recognition: Mapping[str, Any] | None, config: Mapping[str, Any]
) -> str:
    """Return the whole page as HTML; every text of the set is escaped.

    Args:
        statistics: numbers of the set, its sample with rows to be shown.
        tally: what its shards told, empty where that is not known.
        recognition: what `recognition` returned, if it was asked.
        config: the settings of the report; `images` is the set.
    """
    is_told = bool(tally.cost or tally.counts)
    where = Path(str(config["images"])).expanduser()
    name = where.resolve().name if where.is_dir() else str(config["images"])
    return render(
        "images.html",
        name=name,
        headline=_headline(statistics, name),
        tiles=_tiles(statistics, recognition),
        grids=_grids(statistics),
        size=CAPTION_PICTURE_SIZE,
        recognition=_recognition(recognition) if recognition else None,
        sample=which_sample(statistics),
        plots=_plots(statistics),
        measures=sample_lines(statistics),
        contents=_contents(statistics),
        bars=[("Pictures by source", _bars(statistics.sources)), ("Pictures by concept", _bars(statistics.concepts))],
        rejected=reason_lines(statistics, tally),
        no_rejects="None." if is_told else "Not told here: these counts stay with the folder that was written.",
        making=making_lines(statistics, tally),
        config=json.dumps(config, indent=2, ensure_ascii=False, default=str),
    )


def _headline(statistics: ImageStatistics, name: str) -> str:
    drawn = list(statistics.made.get("generator", {}))
    by = f", drawn by {drawn[0]}" if len(drawn) == 1 else ""
    return f"{name}: {statistics.pictures:,} pictures of {statistics.rows:,} captions{by}."


def _tiles(statistics: ImageStatistics, recognition: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """Return the large numbers of the header as (number, what it is, beside what)."""
    sample = statistics.sample
    tiles = [
        (f"{statistics.pictures:,}", "Pictures", f"of {statistics.rows:,} captions"),
        (f"{len(statistics.concepts):,}", "Concepts", f"of {_plural(len(statistics.sources), 'source')}"),
    ]
    if len(sample.within):
        beside = f"{sample.between.mean():.0f} between captions" if len(sample.between) else "levels of 255"
        tiles.append((f"{sample.within.mean():.0f}", "Distance in a caption", beside))
    if recognition:
        real = recognition.get("real")
        beside = f"real pictures {percent(real['recognisability'])}" if real else "mean F1 over classes"
        tiles.append((percent(recognition["drawn"]["recognisability"]), "Recognisability", beside))
    elif statistics.score_mean is not None:
        tiles.append((f"{statistics.score_mean:.3f}", "Score", "mean over all pictures"))
    elif sample.kilobytes:
        size = sum(size * count for size, count in sample.kilobytes.items()) / sum(sample.kilobytes.values())
        tiles.append((f"{size:.0f}\u202fkB", "A picture", next(iter(sample.sizes)) + " px mostly"))
    return tiles


def _grids(statistics: ImageStatistics) -> list[dict[str, Any]]:
    sample = statistics.sample
    told = (
        ("random", "At random", sample.examples, "Chosen by seed, no concept twice while there are others.", ""),
        (
            "least",
            "Least varied",
            sample.least_varied,
            "The captions of the sample whose pictures are most alike, the most alike first.",
            "distance {:.1f}",
        ),
        (
            "lowest",
            "Lowest scores",
            sample.lowest_scored,
            "The captions of the sample with the pictures that show them worst, by the score of the set.",
            "score {:.3f}",
        ),
    )
    return [
        {"key": key, "title": title, "lead": lead, "captions": [_shown(row, note) for row in rows]}
        for key, title, rows, lead, note in told
        if rows
    ]


def _shown(row: ShownRow, note: str) -> CaptionPictures:
    pictures = [open_picture(picture) for picture in row.pictures]
    return CaptionPictures(row.caption, row.concept, pictures, "" if row.value is None else note.format(row.value))


def _plots(statistics: ImageStatistics) -> list[tuple[str, str, Markup]]:
    """Return (title, what it tells in short, drawing) of each histogram."""
    sample = statistics.sample
    within, brightness = histogram(sample.within), histogram(sample.brightness)
    told = (
        ("Distance in a caption", spread(sample.within), within, 1),
        ("Brightness", spread(sample.brightness), brightness, 1),
        ("Contrast", spread(sample.contrast), histogram(sample.contrast), 1),
        ("Size in kB", "", sample.kilobytes, 1),
        ("Score", f"{statistics.score_mean or 0:.3f}", statistics.scores, 100),
    )
    return [
        (title, short, histogram_svg(counts, title=title, divisor=divisor))
        for title, short, counts, divisor in told
        if counts
    ]


def _contents(statistics: ImageStatistics) -> str:
    each = ", ".join(f"{count:,} with {number:,}" for number, count in statistics.pictures_per_caption.items())
    concepts, sources = _plural(len(statistics.concepts), "concept"), _plural(len(statistics.sources), "source")
    return f"{concepts} of {sources}. Captions by their number of pictures: {each}."


def _bars(counts: Mapping[str, int]) -> list[tuple[str, str, str]]:
    """Return (name, count, share of the largest in percent); the rarest share a line without a bar."""
    items = list(counts.items())
    largest = max([*counts.values(), 1])
    lines = [(name or "–", f"{count:,}", f"{100 * count / largest:.1f}") for name, count in items[:_MOST_BARS]]
    if rest := items[_MOST_BARS:]:
        lines.append((f"{len(rest):,} more", f"{sum(count for _, count in rest):,}", "0"))
    return lines


def _recognition(results: Mapping[str, Any]) -> dict[str, Any]:
    sides = {side: results[side] for side in _SIDES if side in results}
    labels = sorted({label for side in sides.values() for label in side["by_class"]})
    columns = [(side["by_class"], key) for side in sides.values() for key in ("f1", "spread")]
    return {
        "rows": [_side(name, side) for name, side in sides.items()],
        "classes": [(label, [_number(of.get(label, {}).get(key)) for of, key in columns]) for label in labels],
        "methods": _methods(results),
    }


def _side(name: str, side: Mapping[str, Any]) -> dict[str, str]:
    unreadable = f", {side['unreadable']:,} unreadable" if side["unreadable"] else ""
    return {
        "name": _SIDES[name],
        "counts": f"{side['pictures']:,} of {_plural(side['classes'], 'class', 'es')}{unreadable}",
        "recognisability": percent(side["recognisability"]),
        "recognisability_interval": " to ".join(f"{100 * end:.1f}" for end in side["recognisability_interval"]),
        "diversity": _number(side["diversity"]),
        "diversity_interval": " to ".join(map(_number, side["diversity_interval"] or ())),
    }


def _methods(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Explain how the numbers were made, as (what, how)."""
    settings = results["settings"]
    who = settings["classifier"] or (
        f"{settings['neighbours']} nearest neighbours among the labelled pictures of {settings['labelled']}, by the "
        f"features of {settings['encoder']}"
    )
    eyes = settings["encoder"] or f"the last layer's input of {settings['classifier']}"
    told = [
        ("Recogniser", who),
        (
            "Recognisability",
            "F1 score of each class, in the mean over classes; 100\u202f%: every picture is taken for what it "
            "was drawn of, and for nothing else",
        ),
        (
            "Diversity",
            "Standard deviation of the features (length 1) of each class, in the mean over dimensions and classes; "
            f"compare it only with numbers of the same features: {eyes}",
        ),
    ]
    for why, names in results["left_out"].items():
        if names:
            more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
            told.append(("Left out", f"{_plural(len(names), 'concept')} {why}: {', '.join(names[:20])}{more}"))
    return told


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _plural(count: int, noun: str, ending: str = "s") -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}{ending}"
