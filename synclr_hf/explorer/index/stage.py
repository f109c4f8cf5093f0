"""Building an index: pictures and encoders in, rows with thumbnails and features out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from synclr_hf.data.checks import COUNT, check_integer
from synclr_hf.data.extension import RunSize
from synclr_hf.data.plans import RunPlan, ShardSink
from synclr_hf.data.progress import Progress
from synclr_hf.data.runs import Part, noted_shards, read_record
from synclr_hf.data.shards import write_text
from synclr_hf.data.writing import command_line, write_run
from synclr_hf.errors import UserInputError
from synclr_hf.explorer.index.card import describe_index, index_card_facts
from synclr_hf.explorer.index.facts import CARDS_FOLDER, FAISS_FILE, IndexedEncoder, IndexFacts
from synclr_hf.explorer.index.schema import embedding_column, index_features

PIXELS, UNTRAINED = "pixels", "untrained:"


@dataclass
class IndexConfig:
    """Build an index of pictures by what encoders see in them, to be searched and looked at (synclr demo).

    Attributes:
        output_dir: folder to write.
        model: encoders, repeatable: folders, Hub ids, `untrained:MODEL`, `pixels`; the first is shown.
        images: a folder that synclr images wrote, a labelled data set, a folder of pictures, or ORG/NAME on the Hub.
        captions: captions set that tells the templates. Default: the one that the pictures were drawn from, if there.
        split: split of a data set. Default: the test side if there is one, else the first.
        max_pictures: at most so many, evenly over concepts; pictures of a caption stay together. Default: all.
        thumbnail_size: longest side of the stored pictures in pixels; smaller ones are kept.
        seed: of the choice of pictures.
        faiss: factory string of a FAISS index for the first encoder, e.g. HNSW32; needs faiss. Default: none, exact.
        rows_per_shard: pictures of one shard, the unit of work and of resuming.
    """

    output_dir: str
    model: list[str]
    images: str
    captions: str | None = None
    split: str | None = None
    max_pictures: int | None = field(default=None, metadata=COUNT)
    thumbnail_size: int = 224
    seed: int = 0
    faiss: str | None = None
    rows_per_shard: int = field(default=2048, metadata=COUNT)

    def __post_init__(self) -> None:
        """Refuse settings that cannot be used (`UserInputError`)."""
        self.output_dir, self.images = str(self.output_dir), str(self.images)
        self.model = [self.model] if isinstance(self.model, str) else [str(name) for name in self.model]
        if not self.model:
            raise UserInputError("no --model is named; type --model FOLDER_OR_HUB_ID")
        twice = next((name for name in self.model if self.model.count(name) > 1), None)
        if twice is not None:
            raise UserInputError(f"--model '{twice}' is named twice; name each encoder once")
        if self.max_pictures is not None:
            check_integer("--max-pictures", self.max_pictures, minimum=1, example=4000)
        check_integer("--thumbnail-size", self.thumbnail_size, minimum=32, maximum=1024, example=224)
        check_integer("--rows-per-shard", self.rows_per_shard, minimum=1, example=2048)


def build_index(
    config: IndexConfig,
    *,
    workers: int | None = None,
    part: Part | None = None,
    sink: ShardSink | None = None,
    heard: Callable[[int, int], None] | None = None,
) -> Path:
    """Build an index, or what is missing of it; return its folder.

    Features are those of the pictures as they are stored in the set, not of the thumbnails: a query by a thumbnail
    differs from the stored row where the picture was larger.

    Args:
        config: what to read and write.
        workers: 1 or nothing: encoders use all cores of one process.
        part: is not for this stage.
        sink: hears of every shard that is finished.
        heard: is told how many of how many pictures are done, for who shows it elsewhere than on a terminal.

    Raises:
        UserInputError: a setting, a model, the pictures or the folder cannot be used.
        KeyboardInterrupt: stopped by the user; the message says what is kept.
    """
    if workers not in (None, 1) or part is not None:
        raise UserInputError(f"--workers {workers} cannot be used: an index is built by one process; leave it out")
    from synclr_hf.evaluation.encoding.encoder_loading import load_encoder
    from synclr_hf.explorer.index.maker import IndexMaker
    from synclr_hf.explorer.index.sources import index_source

    folder = Path(config.output_dir).expanduser()
    if config.faiss is not None:
        from synclr_hf.explorer.index.faiss_file import check_factory

        check_factory(config.faiss)
    with Progress("finding the pictures"):
        source = index_source(
            config.images,
            captions=config.captions,
            split=config.split,
            max_pictures=config.max_pictures,
            seed=config.seed,
        )
    encoders = [load_encoder(name, dtype="float32") for name in config.model]
    prints = [encoder.fingerprint for encoder in encoders]
    if len(set(prints)) < len(prints):
        raise UserInputError(f"two of --model {' '.join(config.model)} are the same weights; name each encoder once")
    names = shown_names(config.model)
    indexed = tuple(
        IndexedEncoder(name, embedding_column(number), _width(encoder), encoder.fingerprint, encoder.settings())
        for number, (name, encoder) in enumerate(zip(names, encoders, strict=True))
    )
    plan = RunPlan(
        folder=folder,
        stage="index",
        rows=len(source),
        rows_per_shard=config.rows_per_shard,
        configuration={
            "encoders": [[one.name, one.fingerprint] for one in indexed],
            "images_fingerprint": source.fingerprint,
            "max_pictures": config.max_pictures,
            "seed": config.seed,
            "split": config.split,
            "thumbnail_size": config.thumbnail_size,
        },
        remarks={"command": command_line("index", config), "images": config.images},
        card=partial(index_card_facts, config, source.name, indexed, source.cards or {}),
        describe=partial(describe_index, indexed),
        unit="picture",
    )
    maker = IndexMaker(source, encoders, config.thumbnail_size, heard)
    write_run(plan, index_features(indexed).arrow_schema, maker, workers=1, sink=sink)
    _write_facts(folder, config, source.name, source.is_toy, source.cards or {}, indexed)
    return folder


def _write_facts(
    folder: Path,
    config: IndexConfig,
    name: str,
    is_toy: bool,
    cards: dict[str, str],
    encoders: Sequence[IndexedEncoder],
) -> None:
    notes = [note for _, note in noted_shards(folder, RunSize.of(read_record(folder)))]
    count = sum(note.rows for note in notes)
    facts = IndexFacts(tuple(encoders), count, name, is_toy, config.thumbnail_size)
    for card, text in cards.items():
        (folder / CARDS_FOLDER).mkdir(exist_ok=True)
        write_text(folder / CARDS_FOLDER / f"{card}.md", text)
    facts.save(folder)
    (folder / FAISS_FILE).unlink(missing_ok=True)  # of an earlier call, perhaps by another factory
    if config.faiss is not None:
        from synclr_hf.explorer.index.faiss_file import prepare_faiss

        prepare_faiss(folder, config.faiss)


def shown_names(models: Sequence[str]) -> list[str]:
    """Return what encoders are called in an index: Hub ids as they are, folders by the last parts of their paths."""
    for parts in range(1, 10):
        names = [_shown_name(model, parts) for model in models]
        if len(set(names)) == len(names):
            return names
    return list(models)


def _shown_name(model: str, parts: int) -> str:
    source = model.removeprefix(UNTRAINED)
    folder = Path(source).expanduser()
    if source == PIXELS or not folder.is_dir():
        return model
    return model[: len(model) - len(source)] + "/".join(folder.resolve().parts[-parts:])


def _width(encoder: object) -> int:
    """Return D by describing one grey picture."""
    from PIL import Image

    from synclr_hf.explorer.queries import picture_queries

    return picture_queries(encoder, [Image.new("RGB", (64, 64), "grey")]).shape[1]  # type: ignore[arg-type]
