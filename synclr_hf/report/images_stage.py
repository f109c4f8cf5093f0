"""The report on a set of pictures: a folder or a Hub id in, `report.json` and `report.html` out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from synclr_hf.data.checks import COUNT, check_integer
from synclr_hf.data.extension import RunSize
from synclr_hf.data.parquet_rows import ParquetRows
from synclr_hf.data.pictures import Picture
from synclr_hf.data.progress import Progress
from synclr_hf.data.runs import RUN_FILE, noted_shards, read_record
from synclr_hf.data.shards import write_text
from synclr_hf.data.tally import Tally
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.evaluation.recognition import RecognitionConfig, recognition
from synclr_hf.images.facts import making_lines, reason_lines
from synclr_hf.images.statistics import ImageStatistics, even_sample, image_rows, image_statistics
from synclr_hf.report.images_page import render_images_page
from synclr_hf.report.stage import REPORT_HTML, REPORT_JSON, finite


@dataclass
class ImagesReportConfig:
    """Settings of a report on a set of pictures.

    Attributes:
        images: folder that the images stage wrote, or `org/name` on the Hub.
        output: folder of the report. Default: `outputs/NAME-report`.
        sample: captions whose pictures are looked at, at most, at even distances in the whole set.
        classifier: an image classifier by Hub id or folder: how well it recognises the concepts.
        encoder: a vision model by Hub id or folder: how varied its features are. Default: those of the classifier.
        labelled: folder or Hub id of real labelled pictures, which get the same numbers; without a classifier, the
            nearest of them by the encoder's features tell what a picture shows.
        seed: decides which captions are shown, and the intervals.
        batch_size: pictures a forward pass of the classifier and the encoder.
    """

    images: str
    output: str | None = None
    sample: int = field(default=2000, metadata=COUNT)
    classifier: str | None = None
    encoder: str | None = None
    labelled: str | None = None
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Refuse settings that cannot be used (`UserInputError`), and name the folder."""
        check_integer("--sample", self.sample, minimum=1, example=2000)
        check_integer("--seed", self.seed, minimum=0, example=0)
        check_integer("--batch-size", self.batch_size, minimum=1, example=64)
        if self.output is None:
            name = Path(self.images).expanduser().resolve().name.partition("@")[0]
            self.output = f"outputs/{name}-report"
        self.recognition()

    def recognition(self) -> RecognitionConfig:
        """Return what recognises the pictures."""
        return RecognitionConfig(self.classifier, self.encoder, self.labelled, self.seed, self.batch_size)


def write_images_report(config: ImagesReportConfig) -> Path:
    """Look at a set of pictures, write `report.json` and `report.html`, and return the path of the page.

    Raises:
        UserInputError: the set, a model or the labelled pictures cannot be used, or the folder is a file.
    """
    folder = Path(config.output or "").expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserInputError(f"--output {folder} is a file; type the name of a folder")
    rows = image_rows(config.images)
    recognised = None
    if config.recognition().is_asked:
        recognised = recognition(drawn_pictures(rows, config.sample), config.recognition())
    with Progress("looking at the images"):
        statistics = image_statistics(rows, seed=config.seed, sample_rows=config.sample)
    if statistics.sample.pictures == 0:
        raise UserInputError(
            f"none of the pictures of {statistics.sample.rows:,} captions of '{config.images}' can be read; "
            "needed: JPEG, WebP or what else Pillow opens; draw them again: type synclr images"
        )
    tally = _tally(Path(config.images).expanduser())
    folder.mkdir(parents=True, exist_ok=True)
    facts = _facts(statistics, tally, recognised, config)
    text = json.dumps(finite(facts), indent=2, ensure_ascii=False, allow_nan=False, default=str)
    write_text(folder / REPORT_JSON, text + "\n")
    write_text(folder / REPORT_HTML, render_images_page(statistics, tally, recognised, asdict(config)))
    return folder / REPORT_HTML


def drawn_pictures(rows: ParquetRows, sample: int) -> LabelledImages:
    """Return the pictures of a sample of rows; classes are the concepts in order, groups the captions."""
    chosen = even_sample(rows, sample)
    concepts, places, numbers = [], [], []
    for place, row in zip(chosen, rows.picked(chosen), strict=True):
        if row["concept"]:
            concepts.append(row["concept"])
            places += [place] * len(row["images"] or ())
            numbers.append(len(row["images"] or ()))
    names = tuple(sorted(set(concepts)))
    index = {name: number for number, name in enumerate(names)}
    counts = np.array(numbers, dtype=np.int64)
    within = np.concatenate([np.arange(count) for count in counts]) if len(counts) else counts
    return LabelledImages(
        pictures=_Pictures(rows, places, within.tolist()),
        labels=np.repeat([index[concept] for concept in concepts], counts),
        label_names=names,
        groups=np.array(places, dtype=np.int64),
        fingerprint=f"{rows.fingerprint}-{sample}",
    )


class _Pictures(Sequence[Picture]):
    """Pictures of rows, one item a picture, read when they are asked for."""

    def __init__(self, rows: ParquetRows, places: Sequence[int], numbers: Sequence[int]) -> None:
        self._rows, self._places, self._numbers = rows, places, numbers

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> Picture:
        return self._rows[self._places[place]]["images"][self._numbers[place]]


def _tally(folder: Path) -> Tally:
    """Return what the shards of a run folder told; nothing for a set that lies elsewhere."""
    tally = Tally()
    if (folder / RUN_FILE).is_file():
        for _, note in noted_shards(folder, RunSize.of(read_record(folder))):
            tally.add(note.tally())
    return tally


def _facts(
    statistics: ImageStatistics, tally: Tally, recognised: Mapping[str, Any] | None, config: ImagesReportConfig
) -> dict[str, Any]:
    """Return everything on the page but the pictures, as plain values."""
    sample = statistics.sample
    measured = {name: getattr(sample, name) for name in ("brightness", "contrast", "within", "between")}
    return {
        "rows": statistics.rows,
        "pictures": statistics.pictures,
        "pictures_per_caption": dict(statistics.pictures_per_caption),
        "sources": dict(statistics.sources),
        "concepts": dict(statistics.concepts),
        "made": {name: dict(values) for name, values in statistics.made.items()},
        "scores": {"mean": statistics.score_mean, "hundredths": dict(statistics.scores)},
        "sample": {
            "rows": sample.rows,
            "pictures": sample.pictures,
            "unreadable": sample.unreadable,
            "kilobytes": dict(sample.kilobytes),
            "sizes": dict(sample.sizes),
            **{name: _summary(values) for name, values in measured.items()},
            "least_varied": [{"caption": row.caption, "distance": row.value} for row in sample.least_varied],
            "lowest_scored": [{"caption": row.caption, "score": row.value} for row in sample.lowest_scored],
        },
        "rejected": {reason: count for reason, count, _, _ in reason_lines(statistics, tally)},
        "dropped_captions": tally.dropped,
        "cost": dict(tally.cost),
        "making": dict(making_lines(statistics, tally)),
        "recognition": recognised,
        "config": asdict(config),
    }


def _summary(values: np.ndarray) -> dict[str, float] | None:
    if len(values) == 0:
        return None
    low, median, high = np.percentile(values, (5, 50, 95)).tolist()
    return {"mean": float(values.mean()), "p5": low, "median": median, "p95": high}
