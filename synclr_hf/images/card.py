"""What the card of an images run tells about its rows, in sections of markdown with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from synclr_hf.data.cards import REJECTED, CardSections, code, licence_fields, plain, table
from synclr_hf.data.grids import caption_grid
from synclr_hf.data.plots import histogram_plot
from synclr_hf.data.shards import CARD_FOLDER
from synclr_hf.data.tally import Tally
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.facts import (
    histogram,
    making_lines,
    percent,
    reason_lines,
    sample_lines,
    span,
    which_sample,
)
from synclr_hf.images.statistics import ImageStatistics, image_rows, image_statistics

_MOST_SOURCES = 40
_MOST_CONCEPTS = 10
_GRID_ROWS = 8
_BINS = 30
_NAME_LENGTH = 60


def describe_images(files: Sequence[Path], tally: Tally, config: ImagesConfig | None) -> CardSections:
    """Look at all rows of a finished run and return the sections of its card.

    Args:
        files: the shards; they lie in the run folder.
        tally: what they all told, added up.
        config: the settings of the run; `None` for pictures that were drawn elsewhere.
    """
    rows = image_rows(files[0].parents[1])
    return image_card_sections(image_statistics(rows, seed=config.seed if config else 0), tally, config)


def image_card_sections(statistics: ImageStatistics, tally: Tally, config: ImagesConfig | None) -> CardSections:
    """Return the sections and pictures of the card: samples, contents, rejects, sizes, variety, scores, cost.

    Args:
        statistics: numbers of the rows.
        tally: what all shards told, added up.
        config: the settings of the run, if the pictures were drawn by it.
    """
    sample, pictures = statistics.sample, {}
    if sample.examples:
        pictures["samples"] = caption_grid(
            [(row.caption, row.concept, row.pictures) for row in sample.examples[:_GRID_ROWS]]
        )
        pictures["sizes"] = histogram_plot(
            sample.kilobytes, axis="size of a picture (kB)", what="pictures", most_bins=_BINS
        )
    if len(sample.within):
        axis = "mean distance of the pictures of a caption"
        pictures["variety"] = histogram_plot(histogram(sample.within), axis=axis, what="captions", most_bins=_BINS)
    if statistics.scores:
        axis = "score of a picture (hundredths)"
        pictures["scores"] = histogram_plot(statistics.scores, axis=axis, what="pictures")
    sections = {
        **({"Samples": _samples()} if sample.examples else {}),
        "Pictures": _contents(statistics),
        REJECTED: _rejected(statistics, tally),
        **({"What they are like": _likeness(statistics)} if sample.pictures else {}),
        **({"Scores": _scores(statistics, config)} if statistics.scores else {}),
        "Making and cost": _cost(statistics, tally, config),
    }
    return CardSections(sections, {_path(name): contents for name, contents in pictures.items()})


def _samples() -> str:
    told = "Rows chosen by seed, no concept twice while there are others; nobody chose them by hand."
    return f"{told}\n\n{_picture('samples', 'captions with their pictures')}"


def _contents(statistics: ImageStatistics) -> str:
    captions, pictures = statistics.rows, statistics.pictures
    told = ", ".join(f"{count:,} with {number:,}" for number, count in statistics.pictures_per_caption.items())
    one = next(iter(statistics.pictures_per_caption)) if len(statistics.pictures_per_caption) == 1 else None
    each = f"{one:,} of each" if one is not None else f"captions by their number of pictures: {told}"
    return "\n\n".join(
        (
            f"{pictures:,} pictures of {captions:,} captions: {each}.",
            _source_table(statistics.sources, pictures),
            _concepts(list(statistics.concepts.items())),
        )
    )


def _source_table(sources: Mapping[str, int], total: int) -> str:
    items = list(sources.items())
    rest = sum(count for _, count in items[_MOST_SOURCES:])
    shown = [(_name(name), count) for name, count in items[:_MOST_SOURCES]]
    if rest:
        shown.append((f"{len(items) - _MOST_SOURCES} more", rest))
    lines = [[name, f"{count:,}", percent(count / max(total, 1))] for name, count in shown]
    return table(("source", "pictures", "share"), lines, numbers=("pictures", "share"))


def _concepts(counts: Sequence[tuple[str, int]]) -> str:
    number = f"{len(counts):,} concept{'' if len(counts) == 1 else 's'}"
    if len(counts) <= 2 * _MOST_CONCEPTS:
        return f"{number}. Pictures of each: {_counted(counts)}."
    most, fewest = _counted(counts[:_MOST_CONCEPTS]), _counted(counts[: -_MOST_CONCEPTS - 1 : -1])
    return f"{number}. Most pictures: {most}. Fewest: {fewest}."


def _rejected(statistics: ImageStatistics, tally: Tally) -> str:
    parts = []
    if drawn := int(tally.cost.get("pictures", 0)):
        parts.append(f"{drawn:,} pictures were drawn, {statistics.pictures:,} are here.")
    if tally.dropped:
        captions = statistics.rows + tally.dropped
        parts.append(
            f"Of {captions:,} captions {tally.dropped:,} ({percent(tally.dropped / captions)}) have no row here."
        )
    lines = [[plain(name), f"{n:,}", share, meaning] for name, n, share, meaning in reason_lines(statistics, tally)]
    if lines:
        parts.append(table(("reason", "count", "share", "what it counts"), lines, numbers=("count",)))
    else:
        parts.append("No picture was rejected." if drawn else "Not counted.")
    return "\n\n".join(parts)


def _likeness(statistics: ImageStatistics) -> str:
    sample = statistics.sample
    sizes = ", ".join(f"{size} px ({count:,})" for size, count in list(sample.sizes.items())[:5])
    parts = [
        f"Measured on {which_sample(statistics)}: {sizes}. Means, and the middle 90 % in brackets.",
        table(("measure", "value", "definition"), sample_lines(statistics), numbers=("value",)),
    ]
    if len(sample.within):
        parts.append(_picture("variety", "captions by how different their pictures are"))
    parts += [f"Size of a picture in kB: {span(sample.kilobytes)}.", _picture("sizes", "pictures by their size in kB")]
    return "\n\n".join(parts)


def _scores(statistics: ImageStatistics, config: ImagesConfig | None) -> str:
    model = f" by {code(config.score_model)}" if config and config.score_model else ""
    return "\n\n".join(
        (
            f"How well a picture shows its caption: cosine similarity of their features{model}, in all rows: "
            f"{span(statistics.scores, divisor=100)}. It compares pictures of one model's making; "
            "between models of scores it says nothing.",
            _picture("scores", "pictures by their score"),
        )
    )


def _cost(statistics: ImageStatistics, tally: Tally, config: ImagesConfig | None) -> str:
    lines = [[plain(what), code(value)] for what, value in making_lines(statistics, tally)]
    for part, spec in _models(config).items():
        fields = licence_fields(spec)
        says = ", ".join(f"{name}: {plain(value)}" for name, value in fields.items())
        own = "a part of synclr_hf, Apache-2.0" if spec == "toy" else "unknown, not checked"
        lines.append([f"licence of the {part}", f"{says} (its own files say so; not checked)" if says else own])
    return table(("what", "value"), lines)


def _models(config: ImagesConfig | None) -> dict[str, str]:
    """Return what made the pictures, as the user typed it."""
    if config is None:
        return {}
    return {"generator": config.image_generator, **({"adapter": config.adapter} if config.adapter else {})}


def _path(name: str) -> str:
    return f"{CARD_FOLDER}/{name}.png"


def _picture(name: str, shows: str) -> str:
    return f"![{plain(shows)}]({_path(name)})"


def _name(text: str | None) -> str:
    return plain(text or "–", _NAME_LENGTH)


def _counted(counts: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{_name(name)} ({count:,})" for name, count in counts)
