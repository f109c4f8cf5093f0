"""Captions in a csv file and pictures in folders: the layout of the authors' code, or one picture a row."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from synclr_hf.errors import UserInputError
from synclr_hf.images.import_index import (
    CAPTION_NAMES,
    LARGEST_FILE,
    PICTURE_SUFFIXES,
    Entry,
    FoundPicture,
    Index,
    OpenFiles,
    one_line,
    seed_of,
)

PATH_NAMES = ("path", "file_name", "image", "filename", "image_path", "file", "filepath", "relative_path")
"""Names that a column of paths goes by, the likeliest first."""

_LONGEST_LINE = 2**20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class CsvPictures:
    """A csv file with (relative path, caption) in each row, and folders that each hold a picture of that path.

    The first line may name the columns; without names the first column is the path and the second the caption.
    Columns `concept`, `source` and `seed` are read where there are such names.

    Args:
        path: the csv file, UTF-8; tabs stand between the columns of a `.tsv`.
        folders: the folders; none: the one that the csv file lies in.
        image_column: name of the column of paths; `None`: one of `PATH_NAMES`.
        caption_column: name of the column of captions; `None`: one of `CAPTION_NAMES`.
        concept_column: name of the column of concepts; `None`: `concept`, if there is one.

    Raises:
        UserInputError: a folder is missing, or the file is no such csv file.
    """

    def __init__(
        self,
        path: Path,
        folders: Sequence[Path] = (),
        image_column: str | None = None,
        caption_column: str | None = None,
        concept_column: str | None = None,
    ) -> None:
        self.name, self.folders = path.name, list(folders) or [path.parent]
        self._told_folders = [folder.name for folder in folders]
        self._delimiter = "\t" if path.suffix == ".tsv" else ","
        self._files = OpenFiles([path])
        for folder in self.folders:
            if not folder.is_dir():
                raise UserInputError(f"--folders {folder} is no folder; type the folders that hold the pictures")
        with closing(self._files):
            self._columns, self._has_names = self._find_columns(image_column, caption_column, concept_column)

    def index(self, index: Index) -> None:
        """Read the file from end to end and note where its rows start."""
        needed = max(self._columns["image"], self._columns["caption"])
        for number, (offset, record) in enumerate(self._records(0)):
            if (number == 0 and self._has_names) or not record:
                continue
            if len(record) <= needed or not record[self._columns["image"]].strip():
                index.counts["incomplete_row"] += 1
                continue
            caption = one_line(record[self._columns["caption"]])
            index.add(caption, (offset,), (record[self._columns["image"]], self._told_folders), len(self.folders))

    def read(self, place: Sequence[int]) -> Entry:
        """Read the row that starts at `place`."""
        _, record = next(self._records(place[0]), (0, []))
        if len(record) <= max(self._columns["image"], self._columns["caption"]):
            raise OSError("it has changed")
        cells = {name: record[column].strip() for name, column in self._columns.items() if column < len(record)}
        path = PurePosixPath(cells["image"])
        pictures = [
            FoundPicture(f"{folder.name}/{path}", partial(_read, folder, path), seed_of(cells.get("seed")))
            for folder in self.folders
        ]
        return Entry(one_line(cells["caption"]), pictures, cells.get("concept") or None, cells.get("source") or None)

    def close(self) -> None:
        """Close what is open."""
        self._files.close()

    def _records(self, start: int) -> Iterator[tuple[int, list[str]]]:
        """Yield (offset, cells) of the rows from `start` on; a row of a quoted caption may have several lines."""
        file = self._files[0]
        file.seek(start)
        lines = _Lines(file, start)
        reader = csv.reader(lines, delimiter=self._delimiter)
        offset = start
        try:
            for record in reader:
                yield offset, record
                offset = lines.offset
        except UnicodeDecodeError as error:
            raise UserInputError(
                f"'{self._files.paths[0]}' is not in UTF-8 (the row at byte {offset}: {error.reason}); save it as "
                "UTF-8, e.g. type iconv -f latin1 -t utf-8"
            ) from None
        except csv.Error as error:
            raise UserInputError(
                f"'{self._files.paths[0]}' is no csv file (the row at byte {offset}: {error}); needed: rows of path "
                'and caption, a caption with commas in double quotes: "..."'
            ) from None

    def _find_columns(
        self, image: str | None, caption: str | None, concept: str | None
    ) -> tuple[dict[str, int], bool]:
        """Return the number of each column, and whether the first row is one of names."""
        first = next(self._records(0), (0, []))[1]
        names = [cell.strip().lower() for cell in first]
        if not any(names):
            raise UserInputError(f"'{self._files.paths[0]}' has no first row; needed: rows of path and caption")
        wanted = {
            "image": PATH_NAMES if image is None else (image.lower(),),
            "caption": CAPTION_NAMES if caption is None else (caption.lower(),),
            "concept": ("concept",) if concept is None else (concept.lower(),),
            "source": ("source",),
            "seed": ("seed",),
        }
        found = {
            what: names.index(name)
            for what, likely in wanted.items()
            if (name := next((name for name in likely if name in names), None)) is not None
        }
        typed = {"image": image, "caption": caption, "concept": concept}
        required = {"image", "caption"} | {what for what, name in typed.items() if name is not None}
        if required <= found.keys():
            return found, True
        if len(first) >= 2 and not any(typed.values()) and first[0].strip().lower().endswith(PICTURE_SUFFIXES):
            return {"image": 0, "caption": 1}, False
        missing = next(what for what in ("image", "caption", "concept") if what in required - found.keys())
        raise UserInputError(
            f"'{self._files.paths[0]}' has no column {' or '.join(wanted[missing][:3])} (it has "
            f"{', '.join(first)[:200]}); type --{missing}-column with the name of the column"
        )


class _Lines(Iterator[str]):
    """The lines of a file, and where the next one starts."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self._file, self.offset = file, offset

    def __next__(self) -> str:
        line = self._file.readline(_LONGEST_LINE)
        if not line:
            raise StopIteration
        if len(line) == _LONGEST_LINE:
            raise csv.Error("a line is longer than a megabyte")
        if self.offset == 0:
            line, self.offset = line.removeprefix(_BYTE_ORDER_MARK), len(line)
        else:
            self.offset += len(line)
        return line.decode("utf-8")


def _read(folder: Path, path: PurePosixPath) -> bytes:
    """Read a picture; a path never leads out of its folder."""
    if path.is_absolute() or ".." in path.parts:
        raise OSError("the path leads out of the folder")
    with open(folder / path, "rb") as file:
        if os.fstat(file.fileno()).st_size > LARGEST_FILE:
            raise OSError("the file is too large")
        return file.read()
