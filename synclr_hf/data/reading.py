"""Reading what the generating stages wrote, from a folder or from the Hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synclr_hf.data.extension import RunSize
from synclr_hf.data.runs import RUN_FILE, content_fingerprint, noted_shards, read_record
from synclr_hf.data.schemas import CAPTION_COLUMNS, IMAGE_COLUMNS
from synclr_hf.data.shards import DATA_FOLDER, DISK_FULL
from synclr_hf.errors import UserInputError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

PRETRAINING_COLUMNS = ("caption_id", "images")
"""What pre-training reads of an image row; `concept` too where an objective needs classes."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_READ_AT_ONCE = 10_000


def read_captions(path_or_hub_id: str | Path) -> Dataset:
    """Load caption rows (see `caption_features`), memory-mapped.

    Args:
        path_or_hub_id: a folder that the captions stage wrote, or `org/name` on the Hub.

    Raises:
        UserInputError: nothing there, no rows, a column is missing, or the run is not finished.
    """
    return read_rows(path_or_hub_id, CAPTION_COLUMNS, stage="captions")


def read_images(path_or_hub_id: str | Path, columns: Sequence[str] = IMAGE_COLUMNS) -> Dataset:
    """Load image rows (see `image_features`), memory-mapped, with the pictures as encoded bytes.

    Every entry of `images` is `{"bytes": ..., "path": ...}`; nothing is decoded.

    Args:
        path_or_hub_id: a folder that the images stage wrote, or `org/name` on the Hub, also `org/name@revision`.
        columns: the columns that the rows must have, `images` among them.

    Raises:
        UserInputError: nothing there, no rows, a column is missing, or the run is not finished.
    """
    from datasets import Image, LargeList, List

    rows = read_rows(path_or_hub_id, columns, stage="images").select_columns(list(columns))
    if not isinstance(rows.features["images"], List | LargeList):
        raise _no_list(str(path_or_hub_id))
    return rows.cast_column("images", List(Image(decode=False)))


def concept_names(rows: Any) -> list[str]:
    """Return the names of all concepts of image rows, sorted: place i is class i.

    Args:
        rows: what `read_images` returned, or a `ParquetRows`.

    Raises:
        UserInputError: the rows have no concepts, or some of them have none.
    """
    check_columns("the images set", rows.column_names, ["concept"], "images")
    names = rows.unique("concept")
    if None in names:
        raise UserInputError("some rows of the images set have no concept; type an images set where all have one")
    return sorted(names)


def captions_fingerprint(path_or_hub_id: str | Path, captions: Dataset) -> str:
    """Return a checksum of the captions' contents: of the shards for a run folder, else of ids and texts.

    Args:
        path_or_hub_id: where they were read from.
        captions: what `read_captions` returned.
    """
    if (Path(path_or_hub_id) / RUN_FILE).is_file():
        return content_fingerprint(path_or_hub_id)
    digest = sha256()
    columns = captions.select_columns(["caption_id", "caption"])
    for batch in columns.iter(_READ_AT_ONCE):
        digest.update(repr((batch["caption_id"], batch["caption"])).encode())
    return digest.hexdigest()[:32]


def read_rows(path_or_hub_id: str | Path, columns: Sequence[str], stage: str) -> Dataset:
    """Load the rows of a stage, memory-mapped.

    Args:
        path_or_hub_id: a folder that the stage wrote, or `org/name` on the Hub, also `org/name@revision`.
        columns: the columns that the rows must have.
        stage: which one, e.g. `captions`.

    Raises:
        UserInputError: nothing there, no rows, a column is missing, or the run is not finished.
    """
    from datasets import load_dataset

    where = str(path_or_hub_id)
    folder = locate(where, stage)
    files = sorted(str(path) for path in folder.glob("data/train-*.parquet")) if folder else []
    name, _, revision = (str(folder), "", "") if folder else where.partition("@")
    try:
        # by file names: a card with `configs` would make the cache mix up folders of the same name
        rows = (
            load_dataset("parquet", data_files=files, split="train")
            if files
            else load_dataset(name, split="train", revision=revision or None)
        )
    except Exception as error:  # the libraries below raise dozens of kinds
        raise unreadable(where, folder or Path(where), stage, error) from error
    check_columns(where, rows.column_names, columns, stage)
    if len(rows) == 0:
        raise UserInputError(f"'{where}' has no rows; make them first: type synclr {stage} --output-dir {where}")
    return rows


def locate(where: str, stage: str) -> Path | None:
    """Return the folder that `where` names, or `None` for a name of the Hub.

    Raises:
        UserInputError: it is neither, or a run folder of ours that is not finished or of another stage.
    """
    folder = Path(where).expanduser()
    if folder.is_dir():
        check_complete(folder, stage)
        return folder
    if folder.exists() or where.startswith(".") or not _HUB_ID.fullmatch(where):
        kind = "is not a folder" if folder.exists() else "does not exist"
        raise UserInputError(f"'{where}' {kind}; make it first: type synclr {stage} --output-dir {where}")
    return None


def _no_list(where: str) -> UserInputError:
    return UserInputError(
        f"column 'images' of '{where}' is no list; needed: one row a caption with all its pictures; group the "
        "pictures of each caption, or type the folder that synclr images wrote"
    )


def check_images_column(where: str, schema: pa.Schema) -> None:
    """Raise `UserInputError` unless the column `images` of a Parquet file holds lists."""
    import pyarrow as pa

    kind = schema.field("images").type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise _no_list(where)


def check_columns(where: str, found: Sequence[str], needed: Sequence[str], stage: str) -> None:
    """Raise `UserInputError` unless all `needed` columns are among those `found`."""
    missing = [name for name in needed if name not in found]
    if missing:
        raise UserInputError(
            f"'{where}' has no column {', '.join(missing)} (it has {', '.join(found)}); "
            f"type the folder that synclr {stage} wrote"
        )


def check_complete(folder: Path, stage: str) -> None:
    """Refuse a run folder of another stage, or one with shards left to make; other folders are read as they are."""
    if not (folder / RUN_FILE).is_file():
        return
    record = read_record(folder)
    if record.get("stage") != stage:
        raise UserInputError(
            f"'{folder}' holds {record.get('stage')}, not {stage}; type the folder that synclr {stage} wrote"
        )
    size = RunSize.of(record)
    done = sum(1 for _ in noted_shards(folder, size))
    if done < size.num_shards:
        raise UserInputError(
            f"'{folder}' is not finished: {done} of {size.num_shards} shards; "
            f"finish it first: type {record.get('command')}"
        )


def unreadable(where: str, folder: Path, stage: str, error: Exception) -> UserInputError:
    """Return the error for a set that a library could not read, with the reason of that library."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    reason = f"{type(cause).__name__}: {cause}"[:200]
    if isinstance(cause, OSError) and cause.errno in DISK_FULL:
        return UserInputError(
            f"the disk is full while '{where}' is prepared in the cache of datasets; make room there, "
            "or set HF_HOME to a folder on another disk"
        )
    if not folder.is_dir():
        return UserInputError(
            f"there is no folder '{where}', and it cannot be loaded from the Hub ({reason}); "
            f"make it first: type synclr {stage} --output-dir {where}"
        )
    if not (folder / DATA_FOLDER).is_dir():
        return UserInputError(
            f"'{where}' holds no rows ({reason}); make them first: type synclr {stage} --output-dir {where}"
        )
    return UserInputError(
        f"'{where}' cannot be read ({reason}); run the command that made it again: damaged shards are made again"
    )
