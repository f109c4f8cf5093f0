"""The import: pictures and captions that were made elsewhere in, image rows out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from glob import glob, has_magic
from pathlib import Path

from synclr_hf.data.cards import CardFacts, CardSections, code, licence_fields
from synclr_hf.data.checks import COUNT, check_integer, check_number
from synclr_hf.data.plans import RunPlan, ShardSink
from synclr_hf.data.progress import Progress
from synclr_hf.data.runs import Part
from synclr_hf.data.schemas import image_features
from synclr_hf.data.shards import Row
from synclr_hf.data.tally import Tally
from synclr_hf.data.workers import usable_cores
from synclr_hf.data.writing import command_line, write_run
from synclr_hf.errors import UserInputError
from synclr_hf.images.card import describe_images
from synclr_hf.images.config import MAX_IMAGES_PER_CAPTION
from synclr_hf.images.facts import left_out
from synclr_hf.images.import_csv import CsvPictures
from synclr_hf.images.import_index import Groups, Index, Source
from synclr_hf.images.import_maker import ALWAYS_ALLOWED, ImportMaker, UnreadablePicture, check_readable
from synclr_hf.images.import_rows import RowPictures
from synclr_hf.images.import_tars import TarPictures

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst", ".zip")
_COLUMNS = {
    "caption_id": "number of the caption, in the order in which captions come up in the source",
    "caption": "the sentence that the pictures show",
    "concept": "the concept that it is about; null where the source does not tell",
    "source": "where the row is from",
    "images": "the pictures of this caption, positives of each other (JPEG or WebP)",
    "seeds": "one seed a picture, as the source tells it; -1 where it does not",
    "guidance_scale": "not known: NaN",
    "provenance": "JSON: the source, and what it calls each picture",
}


@dataclass
class ImportConfig:
    """Settings of the import.

    Attributes:
        output_dir: folder to write.
        source: what to read: captions.csv, tar files, a folder, or ORG/NAME on the Hub.
        folders: with a csv file: folders that hold a picture at each of its paths. Default: the folder of the file.
        image_column: column of the pictures or their paths. Default: by its name.
        caption_column: column of the captions. Default: by its name.
        concept_column: column of the concepts. Default: concept, if there is one.
        split: split of a data set of the Hub or a folder.
        images_per_caption: the first so many pictures of each caption. Default: all, up to 1,000.
        size: short side of the stored pictures, in pixels; larger ones are made smaller, smaller ones are kept.
        image_quality: of the JPEG files of pictures that are made smaller, 1 to 100.
        max_unreadable_share: share of the pictures that may be missing or broken.
        rows_per_shard: captions of one shard, the unit of work and of resuming.
    """

    output_dir: str
    source: str
    folders: list[str] = field(default_factory=list)
    image_column: str | None = None
    caption_column: str | None = None
    concept_column: str | None = None
    split: str = "train"
    images_per_caption: int | None = None
    size: int = 256
    image_quality: int = 95
    max_unreadable_share: float = 0.05
    rows_per_shard: int = field(default=256, metadata=COUNT)

    def __post_init__(self) -> None:
        """Refuse settings that cannot be used (`UserInputError`)."""
        self.output_dir, self.source = str(self.output_dir), str(self.source)
        self.folders = [str(folder) for folder in self.folders]
        if self.images_per_caption is not None:
            check_integer(
                "--images-per-caption", self.images_per_caption, minimum=2, maximum=MAX_IMAGES_PER_CAPTION, example=4
            )
        check_integer("--size", self.size, minimum=16, maximum=4096, example=256)
        check_integer("--image-quality", self.image_quality, minimum=1, maximum=100, example=95)
        check_number("--max-unreadable-share", self.max_unreadable_share, minimum=0, maximum=1, example=0.05)
        check_integer("--rows-per-shard", self.rows_per_shard, minimum=1, example=256)


_CONTENTS = ("images_per_caption", "size", "image_quality", "concept_column")
"""Settings that decide what is stored; the others decide what is read, which the fingerprint of the source tells."""


def find_source(config: ImportConfig) -> Source:
    """Return the source that the settings name.

    Raises:
        UserInputError: there is none, or it cannot be used.
    """
    where, path = config.source, Path(config.source).expanduser()
    columns = (config.image_column, config.caption_column, config.concept_column)
    if path.suffix.lower() in (".csv", ".tsv"):
        if not path.is_file():
            raise UserInputError(f"there is no file '{where}'; type --source with the csv file of the captions")
        return CsvPictures(path, [Path(folder).expanduser() for folder in config.folders], *columns)
    if config.folders:
        raise UserInputError(
            f"--folders is for a csv file, not for '{where}'; type --source captions.csv, or leave it out"
        )
    if where.lower().endswith(_COMPRESSED):
        raise UserInputError(
            f"'{where}' is compressed; tar files are read where they lie: unpack it, e.g. type gunzip"
        )
    tars = sorted(path.glob("*.tar")) if path.is_dir() else _matching(str(path))
    if tars and (path.is_dir() or tars[0].suffix == ".tar"):
        folder = "" if path.is_file() or path.is_dir() else f"{path.parent.resolve().name}/"
        return TarPictures(tars, f"{folder}{path.name or path.resolve().name}")
    if path.is_dir() or path.suffix == ".parquet" or _HUB_ID.fullmatch(where):
        return RowPictures(where, config.split, *columns)
    what = "no file of that name" if has_magic(where) or path.suffix else "no file, folder or data set of that name"
    raise UserInputError(
        f"--source '{where}': there is {what}; type a csv file, tar files ('shards/*.tar'), a folder, or ORG/NAME of "
        "a data set on the Hub"
    )


def _matching(pattern: str) -> list[Path]:
    """Return the files of a pattern: `*` stands for any text, `{00000..00127}` for each of these numbers."""
    numbers = _NUMBERS.search(pattern)
    if numbers is None:
        return sorted(map(Path, glob(pattern, recursive=True)))
    first, last = numbers.groups()
    names = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    patterns = [pattern[: numbers.start()] + name + pattern[numbers.end() :] for name in names]
    found = [(one, _matching(one)) for one in patterns]
    missing = [one for one, files in found if not files]
    if missing:
        raise UserInputError(
            f"{len(missing)} of the {len(found)} files of '{pattern}' are missing, such as '{missing[0]}'; type "
            "--source with the numbers that are there"
        )
    return [file for _, files in found for file in files]


def import_images(
    config: ImportConfig, *, workers: int | None = None, part: Part | None = None, sink: ShardSink | None = None
) -> Path:
    """Write the image rows of pictures that were made elsewhere, or those that are missing; return their folder.

    Pictures of equal captions make one row. A caption with fewer than two readable pictures has none; its number is
    left out if that is only known once the pictures are read.

    Args:
        config: what to read and write.
        workers: number of processes; `None`: one a usable core.
        part: the part of a cluster run that is to be made; `None`: all of it, and the card.
        sink: hears of every shard that is finished.

    Raises:
        UserInputError: a setting, the source or the folder cannot be used, too many pictures cannot be read, or the
            disk is full.
        KeyboardInterrupt: stopped by the user; the message says what is kept.
    """
    with closing(find_source(config)) as source:
        return _import(config, source, workers, part, sink)


def _import(
    config: ImportConfig, source: Source, workers: int | None, part: Part | None, sink: ShardSink | None
) -> Path:
    index = Index()
    with Progress(f"reading the captions of {source.name}"):
        source.index(index)
        groups = index.groups()
    _check_groups(source, index, groups)
    plan = RunPlan(
        folder=Path(config.output_dir).expanduser(),
        stage="images",
        rows=len(groups),
        rows_per_shard=config.rows_per_shard,
        configuration={
            **{name: value for name, value in asdict(config).items() if name in _CONTENTS},
            "source_fingerprint": groups.fingerprint,
        },
        remarks={"command": command_line("import", config), "source": source.name},
        card=partial(_card_facts, config, source.name),
        describe=_describe,
    )

    def places(rows: range) -> tuple[Row, ...]:
        return tuple(dict(zip(("places", "pictures"), groups.of(number), strict=True)) for number in rows)

    maker = ImportMaker(
        source,
        size=config.size,
        quality=config.image_quality,
        most=config.images_per_caption or MAX_IMAGES_PER_CAPTION,
        max_unreadable_share=config.max_unreadable_share,
        left_out=index.counts + groups.left_out,
    )
    return write_run(
        plan,
        image_features().arrow_schema,
        maker,
        inputs=places,
        workers=usable_cores() if workers is None else workers,
        part=part,
        sink=sink,
    )


def _check_groups(source: Source, index: Index, groups: Groups) -> None:
    """Refuse a source without rows, before a folder is made."""
    if not len(groups):
        if groups.single:
            what = f"each of the {groups.single} captions of '{source.name}' has one picture"
        else:
            reasons = ", ".join(f"{count} {reason}" for reason, count in index.counts.items())
            what = f"no picture with a caption was found in '{source.name}'{f' ({reasons})' if reasons else ''}"
        raise UserInputError(
            f"{what}; needed: two pictures of a caption or more, each other's positives; type another --source"
        )
    pictures = (
        picture for place in groups.places[:ALWAYS_ALLOWED].tolist() for picture in source.read(place).pictures
    )
    reasons = []
    for picture in pictures:
        try:
            check_readable(picture)
            return
        except UnreadablePicture as error:
            reasons.append(f"'{picture.name}': {error}")
    raise UserInputError(
        f"none of the first {len(reasons)} pictures of '{source.name}' can be read ({'; '.join(reasons[:3])}); type "
        "the --folders that hold the pictures of a csv file, or another --source"
    )


def _describe(files: Sequence[Path], tally: Tally) -> CardSections:
    sections = describe_images(files, tally, None)
    told = left_out(tally.counts)
    return replace(sections, notices=(f"left out: {told}",)) if told else sections


def _card_facts(config: ImportConfig, name: str) -> CardFacts:
    says = ", ".join(f"{field} {code(value)}" for field, value in _licence(config.source).items())
    stated = f"its card says {says}; that was not checked here" if says else "its licence was not checked here"
    return CardFacts(
        title="SynCLR images, imported",
        summary=(
            f"Pictures and captions of {code(name)}, made elsewhere. Each row is one caption with all its pictures: "
            "positives of each other, as SynCLR (arXiv 2312.17742) trains on them. Pictures of equal captions are put "
            f"together; those with a short side above {config.size} pixels were made smaller."
        ),
        columns=_COLUMNS,
        terms={"Pictures and captions": f"they are those of {code(name)}; {stated}"},
        license="unknown",
        settings=asdict(config),
        command=command_line("import", config),
        tags=("synclr",),
        task_categories=("image-feature-extraction",),
    )


def _licence(source: str) -> dict[str, str]:
    return licence_fields(source.partition("@")[0], "dataset")
