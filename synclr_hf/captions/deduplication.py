"""The second pass over a caption set: exact duplicates across shards and near-duplicates go, into a new set."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synclr_hf.captions import duplicates
from synclr_hf.captions.card import describe_captions
from synclr_hf.captions.duplicates import Fates, find_duplicates
from synclr_hf.captions.stage import CAPTION_COLUMNS_HOLD
from synclr_hf.data.cards import CardFacts, code, model_terms
from synclr_hf.data.checks import COUNT, check_integer, check_number
from synclr_hf.data.extension import RunSize
from synclr_hf.data.plans import RunPlan, ShardSink
from synclr_hf.data.reading import captions_fingerprint, read_captions
from synclr_hf.data.runs import RUN_FILE, finished_shards, open_run_folder, read_record
from synclr_hf.data.schemas import CAPTION_COLUMNS, caption_features
from synclr_hf.data.shards import DISK_FULL, ROWS_PER_GROUP, Row, ShardTask
from synclr_hf.data.tally import Tally
from synclr_hf.data.workers import Report, WorkerDied, usable_cores
from synclr_hf.data.writing import command_line, write_run
from synclr_hf.errors import UserInputError

if TYPE_CHECKING:
    from datasets import Dataset

DEDUPLICATE = "--deduplicate"
"""The option of `synclr captions` that names the set."""

WORK_FOLDER = ".duplicates"
"""Where the search for duplicates keeps its files inside the new set, until that is finished."""

_AGREEING = ("stage", "rows_per_shard", "configuration")


@dataclass
class DeduplicationConfig:
    """Settings of `synclr captions --deduplicate`.

    Attributes:
        output_dir: folder to write.
        captions: folder that the captions stage wrote, or `org/name` on the Hub.
        similarity: captions go that share this much with an earlier one: pairs of neighbouring words that both have /
            pairs that either has. 0.75: one changed word of 13 or more; 1: all pairs.
        rows_per_shard: captions of one shard of the new set.
    """

    output_dir: str
    captions: str = field(metadata={"aliases": [DEDUPLICATE]})
    similarity: float = 0.75
    rows_per_shard: int = field(default=2048, metadata=COUNT)

    def __post_init__(self) -> None:
        """Refuse settings that cannot be used (`UserInputError`)."""
        self.output_dir, self.captions = str(self.output_dir), str(self.captions)
        check_number("--similarity", self.similarity, minimum=0.5, maximum=1, example=0.75)
        check_integer("--rows-per-shard", self.rows_per_shard, minimum=1, example=2048)
        if Path(self.output_dir).expanduser().resolve() == Path(self.captions).expanduser().resolve():
            raise UserInputError(
                f"--output-dir {self.output_dir} is the set to deduplicate, which stays as it is; "
                "type the name of a new folder"
            )


def deduplicate_captions(
    config: DeduplicationConfig, *, workers: int | None = None, sink: ShardSink | None = None
) -> Path:
    """Write the captions that are left without duplicates, with their ids and in their order; return their folder.

    Started again after it was killed, it goes on if all duplicates were found before, else it starts over; the result
    is the same.

    Args:
        config: what to write.
        workers: number of processes; `None`: one a usable core.
        sink: hears of every shard that is finished.

    Raises:
        UserInputError: the captions or the folder cannot be used, datatrove is missing, or the disk is full.
        KeyboardInterrupt: stopped by the user; the message says what is kept.
    """
    workers = usable_cores() if workers is None else workers
    check_integer("--workers", workers, minimum=1, example=1)
    captions = read_captions(config.captions).select_columns(list(CAPTION_COLUMNS))
    workers = min(workers, -(-len(captions) // duplicates.ROWS_PER_FILE))
    folder = Path(config.output_dir).expanduser()
    work = folder / WORK_FOLDER
    language_model = _language_model(config.captions, captions)
    expected = {
        "stage": "captions",
        "rows_per_shard": config.rows_per_shard,
        "configuration": {
            "similarity": config.similarity,
            "language_model": language_model,
            "captions_fingerprint": captions_fingerprint(config.captions, captions),
        },
    }

    def write(rows: int) -> Path:
        plan = RunPlan(
            folder=folder,
            rows=rows,
            remarks={"command": _command(config), "captions": config.captions},
            card=partial(_card_facts, config, len(captions), language_model),
            describe=partial(describe_captions, facts=None),
            unit="caption",
            **expected,
        )
        maker = KeptCaptions(captions, work)
        return write_run(plan, caption_features().arrow_schema, maker, workers=workers, sink=sink)

    record = _earlier_record(folder)
    if record is not None and not _left_to_do(folder, record, expected):
        write(record["rows"])
    else:
        with ExitStack() as held:
            with _searching(folder):
                held.enter_context(open_run_folder(work, {**expected, "rows": len(captions)}))
                found = Fates.load(work) or find_duplicates(captions, work, config.similarity, workers)
            write(len(found.kept))
    shutil.rmtree(work, ignore_errors=True)
    return folder


@dataclass
class KeptCaptions:
    """Makes the rows of a shard: the captions that stay.

    Attributes:
        captions: all rows.
        work: folder with their fates.
    """

    captions: Dataset
    work: Path
    _fates: Fates | None = field(default=None, init=False, repr=False)

    def load(self) -> None:
        """Open what the search has found."""
        self._fates = Fates.load(self.work)

    def make(self, task: ShardTask, tally: Tally, report: Report) -> Iterator[Row]:
        """Yield the shard's rows in order; removed ones are counted with the row that stays before them."""
        assert self._fates is not None
        last = task.first_row + task.num_rows
        for start in range(task.first_row, last, ROWS_PER_GROUP):
            numbers = self._fates.kept[start : min(start + ROWS_PER_GROUP, last)].tolist()
            columns = self.captions[numbers]
            for values in zip(*map(columns.get, CAPTION_COLUMNS), strict=True):
                yield dict(zip(CAPTION_COLUMNS, values, strict=True))
            report(len(numbers))
        tally.counts.update(self._fates.removed(task.first_row, last))


def _earlier_record(folder: Path) -> dict[str, Any] | None:
    """Return what `run.json` says if a run was begun there, `None` for a new or empty folder; refuse any other."""
    if not folder.is_dir():
        return None
    if (folder / RUN_FILE).exists():
        return read_record(folder)
    foreign = sorted(path.name for path in folder.iterdir() if not path.name.startswith((".", RUN_FILE)))
    if foreign:
        raise UserInputError(
            f"--output-dir {folder} holds other things ({', '.join(foreign[:3])}{', ...' if foreign[3:] else ''}) "
            "and no run of this stage; type the name of a new or empty folder"
        )
    return None


def _left_to_do(folder: Path, record: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Tell whether the duplicates have to be known: not for a finished run, nor for one that will be refused."""
    if any(record.get(name) != expected[name] for name in _AGREEING):
        return False
    size = RunSize.of(record)
    return sum(1 for _ in finished_shards(folder, size)) < size.num_shards


@contextmanager
def _searching(folder: Path) -> Iterator[None]:
    """Say in one line what went wrong while duplicates were searched."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise UserInputError(
                f"the disk is full while duplicates are searched in '{folder}'; make room there (0.3 to 0.8 kB a "
                "caption) and run the same command again"
            ) from error
        raise UserInputError(
            f"--output-dir {folder} cannot be written ({error.strerror or error}); type a folder that you may write in"
        ) from error
    except WorkerDied as error:
        raise UserInputError(
            f"{error} while duplicates were searched (out of memory, or a script without "
            "`if __name__ == '__main__':`); run the same command again with --workers 1"
        ) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "stopped while duplicates were searched; run the same command again to start over"
        ) from None


def _language_model(where: str, captions: Dataset) -> str:
    """Return the language model as it was typed, or as the rows name it if no run file says so."""
    folder = Path(where).expanduser()
    if (folder / RUN_FILE).is_file():
        return str(read_record(folder)["configuration"]["language_model"])
    return ", ".join(sorted({str(name) for name in captions.unique("language_model")}))


def _command(config: DeduplicationConfig) -> str:
    return command_line("captions", config).replace(" --captions ", f" {DEDUPLICATE} ", 1)


def _card_facts(config: DeduplicationConfig, rows: int, language_model: str) -> CardFacts:
    licence, sentence = model_terms(language_model, "language model")
    folder = Path(config.captions).expanduser()
    made = f"{read_record(folder).get('command')}\n" if (folder / RUN_FILE).is_file() else ""
    return CardFacts(
        title="SynCLR captions without duplicates",
        summary=(
            f"What is left of the {rows:,} captions of {code(config.captions)} (written by {code(language_model)}) "
            "without duplicates; ids and order are as they were there. An exact duplicate has the words of an earlier "
            "caption, in any case and punctuation. A near-duplicate shares with an earlier caption that stays at "
            f"least {100 * config.similarity:g} % of their pairs of neighbouring words (Jaccard index); the minhash "
            "of datatrove proposed the pairs, which were then compared in full. How many went of each kind is said "
            "below, under draws rejected or changed."
        ),
        columns={**CAPTION_COLUMNS_HOLD, "caption_id": "id of the caption in the set that this one was made from"},
        terms={"Captions": sentence},
        license=licence,
        settings={"captions": config.captions, "similarity": config.similarity},
        command=made + _command(config),
        task_categories=("text-generation",),
    )
