"""Data sets that `datasets` loads, from the Hub or a folder: one picture a row, or several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synclr_hf.data.shards import DISK_FULL
from synclr_hf.errors import UserInputError
from synclr_hf.images.import_index import (
    CAPTION_NAMES,
    UNKNOWN_SEED,
    Entry,
    FoundPicture,
    Index,
    one_line,
    seed_of,
)

if TYPE_CHECKING:
    from datasets import Dataset, Features

IMAGE_NAMES = ("image", "images", "jpg", "jpeg", "png", "webp", "img", "picture", "pixels")
"""Names that a column of pictures goes by, the likeliest first."""

_READ_AT_ONCE = 1_000


class RowPictures:
    """A data set with a picture, or a list of them, and a caption in each row.

    Columns `concept`, `source` and `seed` (or `seeds`, one a picture) are read where there are such names. Entries of
    a column of structures are columns too: `json.prompt`.

    Args:
        where: a folder of Parquet files or of pictures with metadata, a Parquet file, or `org/name` or
            `org/name@revision` on the Hub.
        split: the split to read.
        image_column: name of the column of pictures; `None`: one of `IMAGE_NAMES`, or the only one that holds any.
        caption_column: name of the column of captions; `None`: one of `CAPTION_NAMES`.
        concept_column: name of the column of concepts; `None`: `concept`, if there is one.

    Raises:
        UserInputError: it cannot be loaded, or a column is missing or holds other things.
    """

    def __init__(
        self,
        where: str,
        split: str = "train",
        image_column: str | None = None,
        caption_column: str | None = None,
        concept_column: str | None = None,
    ) -> None:
        path = Path(where).expanduser()
        self._where, self.name = where, path.resolve().name if path.exists() else where
        rows = _load(where, path, split)
        image = self._image_column(rows.features, image_column)
        self._folder = path if path.is_dir() else None
        told = rows.remove_columns(image).flatten()
        names = {
            "caption": self._named(told.column_names, "caption", caption_column, CAPTION_NAMES),
            "concept": self._named(told.column_names, "concept", concept_column, ("concept",), required=False),
            "source": self._named(told.column_names, "source", None, ("source",), required=False),
            "seeds": self._named(told.column_names, "seed", None, ("seeds", "seed"), required=False),
        }
        self._names = {what: name for what, name in names.items() if name is not None}
        self._check_texts(told.features)
        self._classes = getattr(told.features.get(self._names.get("concept")), "names", None)
        self._told = told.select_columns(list(set(self._names.values()))).with_format("arrow")
        self._pictures = rows.select_columns([image]).with_format("arrow")
        self._image = image

    def index(self, index: Index) -> None:
        """Read the captions, and how many pictures each row has."""
        row = 0
        captions = self._told.select_columns([self._names["caption"]])
        for start in range(0, len(captions), _READ_AT_ONCE):
            texts = captions[start : start + _READ_AT_ONCE][self._names["caption"]].to_pylist()
            counts = _counts(self._pictures[start : start + _READ_AT_ONCE][self._image])
            for text, count in zip(texts, counts, strict=True):
                index.add(one_line(text), (row,), (self._image, self._pictures.info.dataset_size), count)
                row += 1

    def read(self, place: Sequence[int]) -> Entry:
        """Read a row."""
        row = int(place[0])
        columns = self._told[row]
        told = {what: columns[name][0].as_py() for what, name in self._names.items()}
        values = self._pictures[row][self._image][0].as_py()
        several = isinstance(values, list)
        values = values if several else [values]
        seeds = told.get("seeds")
        seeds = seeds if isinstance(seeds, list) else [seeds] * len(values)
        seeds = [seed_of(seed) for seed in seeds] + [UNKNOWN_SEED] * (len(values) - len(seeds))
        pictures = [
            FoundPicture(self._name(row, value, number if several else None), partial(_bytes, value), seed)
            for number, (value, seed) in enumerate(zip(values, seeds[: len(values)], strict=True))
        ]
        concept = told.get("concept")
        if self._classes is not None and concept is not None:
            concept = self._classes[concept] if 0 <= concept < len(self._classes) else None
        return Entry(
            one_line(told["caption"]), pictures, one_line(concept) or None, one_line(told.get("source")) or None
        )

    def close(self) -> None:
        """Do nothing: the rows are mapped into memory."""

    def _name(self, row: int, value: Any, number: int | None) -> str:
        path = value.get("path") if isinstance(value, dict) and value.get("bytes") is None else None
        if path and self._folder is not None and Path(path).is_relative_to(self._folder.resolve()):
            return str(Path(path).relative_to(self._folder.resolve()))
        return f"row {row}" if number is None else f"row {row}, picture {number}"

    def _image_column(self, features: Features, typed: str | None) -> str:
        holding = [name for name, feature in features.items() if _holds_pictures(feature)]
        if typed is not None and typed in features and typed not in holding:
            raise UserInputError(
                f"column '{typed}' of '{self._where}' holds no pictures ({_kind(features[typed])}); allowed: "
                f"{', '.join(holding) or 'none of its columns holds any'}; type --image-column with another name"
            )
        likely = IMAGE_NAMES if len(holding) != 1 else (*IMAGE_NAMES, *holding)
        found = self._named(list(features), "image", typed, [name for name in likely if name in holding])
        assert found is not None
        return found

    def _named(
        self, names: Iterable[str], what: str, typed: str | None, likely: Sequence[str], required: bool = True
    ) -> str | None:
        """Return the column that was typed, or the likeliest one, or what stands in a structure under that name."""
        names = list(names)
        wanted = likely if typed is None else (typed,)
        found = [name for one in wanted for name in names if name == one or name.endswith(f".{one}")]
        found.sort(key=lambda name: "." in name)
        if found or (typed is None and not required):
            return found[0] if found else None
        told = f"'{typed}'" if typed is not None else f"of {what}s"
        raise UserInputError(
            f"'{self._where}' has no column {told} (it has {', '.join(names)[:300]}); type --{what}-column with the "
            f"name of the column of {what}s"
        )

    def _check_texts(self, features: Features) -> None:
        name = self._names["caption"]
        if getattr(features[name], "dtype", None) not in ("string", "large_string"):
            raise UserInputError(
                f"column '{name}' of '{self._where}' holds no texts ({_kind(features[name])}); type --caption-column "
                "with the name of the column of captions"
            )


def _load(where: str, path: Path, split: str) -> Dataset:
    """Load a split, memory-mapped; a folder by what lies in it, since a card there would name other files."""
    from datasets import get_dataset_split_names, load_dataset

    name, _, revision = where.partition("@")
    if path.is_file():
        arguments: dict[str, Any] = {"path": "parquet", "data_files": str(path)}
    elif path.is_dir():
        tables = [file for file in path.rglob("*.parquet") if file.name != "metadata.parquet"]
        kind = "parquet" if tables else "imagefolder"
        arguments = {"path": kind, "data_dir": str(path.resolve())}
    else:
        arguments = {"path": name, "revision": revision or None}
    try:
        rows = load_dataset(**arguments, split=split)
    except Exception as error:  # datasets and what it calls raise dozens of kinds
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, OSError) and cause.errno in DISK_FULL:
            raise UserInputError(
                f"the disk is full while '{where}' is prepared in the cache of datasets; make room there, or set "
                "HF_HOME to a folder on another disk"
            ) from error
        if "split" in str(error).lower():
            try:
                known = ", ".join(get_dataset_split_names(**arguments))
            except Exception:  # the same ones
                known = "nobody knows which"
            raise UserInputError(
                f"'{where}' has no split '{split}' ({known}); type --split with one of them"
            ) from error
        reason = next((line.strip() for line in str(cause).splitlines() if line.strip()), "")
        raise UserInputError(
            f"'{where}' cannot be loaded ({type(cause).__name__}: {reason[:200]}); type --source with a csv file, "
            "tar files, a folder of Parquet files or of pictures with metadata, or ORG/NAME on the Hub"
        ) from error
    if len(rows) == 0:
        raise UserInputError(f"split '{split}' of '{where}' has no rows; type --split with another one")
    return rows


def _holds_pictures(feature: Any) -> bool:
    """Tell whether a column holds pictures or lists of pictures: as such, as bytes, or as bytes with a path."""
    from datasets import Image, LargeList, List

    if isinstance(feature, List | LargeList):
        feature = feature.feature
    if isinstance(feature, dict):
        return feature.keys() == {"bytes", "path"}
    return isinstance(feature, Image) or getattr(feature, "dtype", None) in ("binary", "large_binary")


def _kind(feature: Any) -> str:
    return str(getattr(feature, "dtype", None) or type(feature).__name__)


def _counts(pictures: Any) -> list[int]:
    """Return the number of pictures of each row of an Arrow column; the pictures are not read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(pictures.type) or pa.types.is_large_list(pictures.type):
        return pc.fill_null(pc.list_value_length(pictures), 0).to_pylist()
    return [1] * len(pictures)


def _bytes(value: Any) -> bytes:
    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else value.get("path")
    if value is None:
        raise OSError("the row holds no picture")
    return value if isinstance(value, bytes) else Path(value).read_bytes()
