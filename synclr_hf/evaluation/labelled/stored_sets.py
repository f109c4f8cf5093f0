"""Loading whatever `datasets` reads, a folder or a data set on the Hub, with errors that say what to type."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synclr_hf.data.reading import read_images
from synclr_hf.data.runs import RUN_FILE, content_fingerprint
from synclr_hf.errors import UserInputError

if TYPE_CHECKING:
    from datasets import Dataset

_HUB_ID = re.compile(r"\w[\w.-]*(/[\w.-]+)?(@[\w./-]+)?")
_TOY = "toy"
"""Name of the toy world's back end in a provenance."""
_READ_WHOLE, _ENDS, _MOST_FILES = 2**30, 2**16, 20_000
"""Bytes of a folder up to which all of it goes into its checksum; bytes at each end of a file of a larger one; number
of files up to which they are opened at all."""


def load_splits(
    path_or_id: str | Path,
    option: str,
    *,
    config_name: str | None = None,
    revision: str | None = None,
    data_dir: str | None = None,
    copy_of: str | None = None,
) -> dict[str, Dataset]:
    """Load all splits of a data set.

    Args:
        path_or_id: a folder, or a name on the Hub, also `ORG/NAME@REVISION`.
        option: the option that names it, for the errors.
        config_name: configuration of a data set on the Hub.
        revision: of a data set on the Hub.
        data_dir: folder inside the data set.
        copy_of: name of the benchmark that it is a copy of, for the errors.

    Raises:
        UserInputError: nothing there, nothing that can be read, or no rows.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

    name = str(Path(path_or_id).expanduser()) if str(path_or_id).startswith("~") else str(path_or_id)
    is_here = bool(name) and Path(name).exists()
    if not is_here and not _HUB_ID.fullmatch(name):
        raise UserInputError(
            f"no data set at '{name}'; allowed: an existing folder or the name of a data set on the Hub; "
            f"type {option} FOLDER or {option} ORG/NAME"
        )
    if (Path(name) / RUN_FILE).is_file():  # made by our images stage: complete, or an error says what to type
        return {"train": read_images(name)}
    where: dict[str, Any] = {"data_dir": data_dir}
    if is_here:
        inside = data_dir if data_dir and (Path(name) / data_dir).is_dir() else None
        where = {"cache_dir": _cache_of(Path(name)), "data_dir": inside}
    else:
        name, _, typed_revision = name.partition("@")
        where |= {"revision": typed_revision or revision, "name": config_name}
    try:
        splits = dict(load_dataset(name, **where))
    except (OSError, ValueError, RuntimeError, DatasetNotFoundError, DatasetGenerationError) as error:
        raise loading_error(name, error, option, is_here=is_here, copy_of=copy_of) from error
    if not any(len(split) for split in splits.values()):
        raise UserInputError(f"the data set '{name}' has no rows; give one with pictures and labels")
    return {split: rows for split, rows in splits.items() if len(rows)}


def loading_error(
    name: str, error: Exception, option: str, *, is_here: bool, copy_of: str | None = None
) -> UserInputError:
    """Turn an error of `datasets` into one line that says what to do.

    Args:
        name: of the data set.
        error: what `load_dataset` raised.
        option: the option that names the data set.
        is_here: whether it is a folder of this machine.
        copy_of: name of the benchmark that it is a copy of.
    """
    other = f"{option} {copy_of}=" if copy_of else f"{option} "
    reason = (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0][:200]
    told = f"{error} {error.__cause__ or ''}"
    if "scripts are no longer supported" in told:
        export = f"{'ORG/NAME' if is_here else name}@refs/convert/parquet"
        return UserInputError(
            f"'{name}' is made by a loading script, which datasets no longer runs ({reason}); needed: Parquet files "
            f"or class folders; type {other}{export} (the Hub's own export), or another copy"
        )
    if empty := re.search(r'Instruction "([^"]+)" corresponds to no data', told):
        return UserInputError(
            f"the split '{empty[1]}' of '{name}' is empty; remove its files or fill them, and type {option} again"
        )
    if "gated dataset" in told:
        return UserInputError(
            f"the data set '{name}' is gated; accept its terms at https://huggingface.co/datasets/{name} and type "
            f"hf auth login, or give a copy of your own: {other}FOLDER"
        )
    what = f"the folder '{name}'" if is_here else f"'{name}', which is no folder here, from the Hub"
    return UserInputError(
        f"cannot load {what} ({reason}); allowed: whatever datasets.load_dataset reads; "
        f"type {other}FOLDER or {other}ORG/NAME"
    )


def state_of(folder: Path) -> str:
    """Return a checksum of the path of a folder and of the names, sizes and times of its files."""
    digest = blake2b(str(folder.resolve()).encode(), digest_size=8)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        state = file.stat()
        digest.update(repr((str(file.relative_to(folder)), state.st_size, state.st_mtime_ns)).encode())
    return digest.hexdigest()


def content_state(path_or_id: str | Path) -> str:
    """Return a checksum of what a folder holds, the same wherever it lies; empty for a name on the Hub.

    Of large folders the names and sizes of the files are taken, with the beginning and the end of each; of very many
    files the names and sizes alone.
    """
    folder = Path(path_or_id).expanduser()
    if not folder.is_dir():
        return ""
    if (folder / RUN_FILE).is_file():
        return content_fingerprint(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    sizes = [file.stat().st_size for file in files]
    digest = blake2b(digest_size=16)
    for file, size in zip(files, sizes, strict=True):
        digest.update(repr((file.relative_to(folder).as_posix(), size)).encode())
        if len(files) > _MOST_FILES:
            continue
        with file.open("rb") as stream:
            if sum(sizes) <= _READ_WHOLE:
                while block := stream.read(1 << 20):
                    digest.update(block)
            else:
                digest.update(stream.read(_ENDS))
                stream.seek(max(size - _ENDS, 0))
                digest.update(stream.read(_ENDS))
    return digest.hexdigest()


def set_fingerprint(dataset: Dataset, state: str, facts: object) -> str:
    """Return a checksum of rows and of what is read out of them.

    Args:
        dataset: the rows, a whole split.
        state: of their files, from `content_state`; empty for a name on the Hub, where the fingerprint of datasets is
            made of the commit. That of a folder would hold its path and the times of its files.
        facts: what else decides the labels, plain values.
    """
    rows = f"{state}-{dataset.split}-{len(dataset)}" if state else dataset._fingerprint
    return blake2b(repr((rows, facts)).encode(), digest_size=16).hexdigest()


def is_images_set(dataset: Dataset) -> bool:
    """Tell whether the rows are those of our images stage: a caption with all its pictures."""
    return {"images", "concept", "caption_id"} <= set(dataset.column_names)


def is_toy_set(splits: Mapping[str, Dataset]) -> bool:
    """Tell whether any row says that the toy world drew it or wrote its caption.

    The columns `provenance` (JSON, `back_end`) and `language_model` of our own sets say so, also on the Hub.
    """
    return any(_is_toy_split(split) for split in splits.values())


def _is_toy_split(dataset: Dataset) -> bool:
    from datasets import Value

    def distinct(column: str) -> list[str]:
        is_text = isinstance(feature := dataset.features.get(column), Value) and "string" in feature.dtype
        return [value for value in dataset.unique(column) if value] if is_text else []

    return any(map(_names_toy, distinct("provenance"))) or any(
        name.startswith(_TOY) for name in distinct("language_model")
    )


def _names_toy(provenance: str) -> bool:
    """Tell whether a provenance names the toy world, also where it drew only the first pictures of a row."""
    try:
        told = json.loads(provenance)
    except ValueError:
        return False
    parts = [told, *told.values()] if isinstance(told, dict) else []
    return any(isinstance(part, dict) and part.get("back_end") == _TOY for part in parts)


def _cache_of(folder: Path) -> str:
    """Return a cache folder for one state of a local data set.

    The cache of `datasets` takes folders of the same name, and a folder that was made anew, for the same data set
    where a card names the files.
    """
    from datasets import config

    return str(Path(config.HF_DATASETS_CACHE) / "synclr_hf" / state_of(folder))
