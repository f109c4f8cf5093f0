"""Image rows straight from Parquet files, in a folder or on the Hub, a block at a time."""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np

from synclr_hf.data.reading import PRETRAINING_COLUMNS, check_columns, check_images_column, locate, unreadable
from synclr_hf.data.runs import RUN_FILE, content_fingerprint
from synclr_hf.errors import UserInputError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

WINDOW_BLOCKS = 4
"""Blocks among which training shuffles rows completely; a process keeps these and one more in memory."""

WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds to wait before each new attempt to read from the Hub."""

_FOOTERS_AT_ONCE = 16
_TRAIN = re.compile(r"(?:^|[^a-z0-9])train(?:ing)?(?:[^a-z0-9]|$)")
_OTHER_SPLIT = re.compile(r"(?:^|[^a-z0-9])(?:validation|valid|val|dev|test|testing|eval|evaluation)(?:[^a-z0-9]|$)")

_Result = TypeVar("_Result")


class ParquetRows(Sequence[dict[str, Any]]):
    """The rows of a train split in Parquet files, fetched when they are asked for; nothing is stored on disk.

    Row `i` is a dict of the columns asked for, pictures undecoded (`{"bytes": ..., "path": ...}`). A block is a row
    group: the least that is read. Every process keeps the last few blocks, so memory does not grow with the number of
    rows: about 30 MB a block as the images stage writes them. Copies sent to or forked for other processes work.

    Not the streaming of `datasets`: its shuffle buffer loses and repeats rows on a resume, and every row that was
    seen before is read again. Rows with numbers need neither: the order is drawn (`BlockSampler`), not buffered.

    Args:
        path_or_hub_id: a folder, or `org/name` on the Hub, `org/name@revision` for a revision other than the newest.
            A Hub data set is pinned to its commit of this moment.
        columns: the columns that each file must have, and the only ones read.

    Attributes:
        block_lengths: rows of each block, in the order of row numbers.
        column_names: the columns of a row.
        fingerprint: same contents, same fingerprint; a commit of the Hub, or a checksum.

    Raises:
        UserInputError: nothing there, no Parquet files or rows, a column is missing, or the run is not finished.
    """

    def __init__(self, path_or_hub_id: str | Path, columns: Sequence[str] = PRETRAINING_COLUMNS) -> None:
        self.column_names = list(columns)
        where = str(path_or_hub_id)
        folder = locate(where, "images")
        try:
            root, files = _local_files(folder) if folder else _hub_files(where)
        except Exception as error:  # huggingface_hub raises dozens of kinds
            raise unreadable(where, Path(where), "images", error) from error
        self._files = [f"{root}/{name}" for name in files]
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
            groups = list(pool.map(self._read_footer, self._files))
        blocks = [(file, group, rows) for file, lengths in enumerate(groups) for group, rows in enumerate(lengths)]
        blocks = np.array([block for block in blocks if block[2]], dtype=np.int64).reshape(-1, 3)
        self._block_files, self._block_groups, self.block_lengths = blocks.T.copy()
        self._ends = np.cumsum(self.block_lengths)
        if len(blocks) == 0:
            raise UserInputError(
                f"'{where}' has no rows in Parquet files of a train split; make them first: type synclr images "
                f"--output-dir {where}, or type streaming: false for files of other kinds"
            )
        self.fingerprint = self._fingerprint(folder, files) if folder else root.removeprefix("hf://datasets/")
        self._cache: OrderedDict[int, pa.Table] = OrderedDict()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        block = int(np.searchsorted(self._ends, index, side="right"))
        place = index - int(self._ends[block] - self.block_lengths[block])
        return self._block(block).slice(place, 1).to_pylist()[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": OrderedDict()}

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield all rows in order, a block at a time, with these columns alone; memory does not grow with the rows.

        Of `images` the paths alone are read: how many pictures a row has costs no reading of pictures.
        """
        blocks = range(len(self.block_lengths))
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
            for first in range(0, len(blocks), _FOOTERS_AT_ONCE):
                yield from pool.map(self._read_columns, blocks[first : first + _FOOTERS_AT_ONCE], repeat(columns))

    def picked(self, places: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Yield the rows with these numbers, which rise; one block is in memory at a time, and none is kept."""
        held, table, first = -1, None, 0
        for place in places:
            block = int(np.searchsorted(self._ends, place, side="right"))
            if block != held or table is None:
                table = None  # before the next one is read
                held, table = block, self._read_block(block)
                first = int(self._ends[block] - self.block_lengths[block])
            yield table.slice(place - first, 1).to_pylist()[0]

    def has_column(self, name: str) -> bool:
        """Tell whether the files have a further column; the first one is asked."""
        return name in _read(self._files[0], lambda parquet: parquet.schema_arrow.names)

    def unique(self, column: str) -> list[Any]:
        """Return the distinct values of a column in no order; reads this column of all files."""
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
            parts = pool.map(lambda file: _read(file, lambda parquet: _distinct(parquet, column)), self._files)
            return list(set().union(*parts))

    def _read_footer(self, file: str) -> list[int]:
        """Return the rows of each row group of a file, after a look at its columns."""

        def lengths(parquet: pq.ParquetFile) -> list[int]:
            check_columns(file, parquet.schema_arrow.names, self.column_names, "images")
            check_images_column(file, parquet.schema_arrow)
            metadata = parquet.metadata
            return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]

        return _read(file, lengths)

    def _block(self, block: int) -> pa.Table:
        """Return a block from memory, or read it and forget the one unused for longest."""
        if block not in self._cache:
            self._cache[block] = self._read_block(block)
            if len(self._cache) > WINDOW_BLOCKS + 1:
                self._cache.popitem(last=False)
        self._cache.move_to_end(block)
        return self._cache[block]

    def _read_block(self, block: int) -> pa.Table:
        file, group = self._files[self._block_files[block]], int(self._block_groups[block])
        return _read(file, lambda parquet: parquet.read_row_group(group, columns=self.column_names, use_threads=False))

    def _read_columns(self, block: int, columns: Sequence[str]) -> pa.Table:
        file, group = self._files[self._block_files[block]], int(self._block_groups[block])

        def read(parquet: pq.ParquetFile) -> pa.Table:
            leaves = [parquet.schema.column(number).path for number in range(len(parquet.schema))]
            paths = [leaf for leaf in leaves if leaf.startswith("images.") and leaf.endswith(".path")]
            light = [name for column in columns for name in (paths or [column] if column == "images" else [column])]
            return parquet.read_row_group(group, columns=light, use_threads=False)

        return _read(file, read)

    def _fingerprint(self, folder: Path, files: list[str]) -> str:
        if (folder / RUN_FILE).is_file():
            return content_fingerprint(folder)
        sizes = [(name, (folder / name).stat().st_size) for name in files]
        return hashlib.sha256(repr((sizes, self.block_lengths.tolist())).encode()).hexdigest()[:32]


def _local_files(folder: Path) -> tuple[str, list[str]]:
    """Return the absolute folder and the names of its Parquet files of the train split."""
    return str(folder.resolve()), _train_split(str(path.relative_to(folder)) for path in folder.rglob("*.parquet"))


def _hub_files(where: str) -> tuple[str, list[str]]:
    """Return `hf://datasets/org/name@sha` and the names of its Parquet files of the train split."""
    from huggingface_hub import HfApi, HfFileSystem

    name, _, revision = where.partition("@")
    root = f"datasets/{name}@{HfApi().dataset_info(name, revision=revision or None).sha}"
    paths = HfFileSystem().find(root)
    return f"hf://{root}", _train_split(path.partition("@")[2].partition("/")[2] for path in paths)


def _train_split(names: Any) -> list[str]:
    """Return the Parquet files whose name or folder says `train`; where none does, those of no other split."""
    names = sorted(name for name in names if name.endswith(".parquet") and not re.search(r"(?:^|/)\.", name))
    named = [name for name in names if _TRAIN.search(name.lower())]
    return named or [name for name in names if not _OTHER_SPLIT.search(name.lower())]


def _read(file: str, read: Callable[[pq.ParquetFile], _Result]) -> _Result:
    """Open a file and return what `read` makes of it; on the Hub attempts that fail are made again.

    Raises:
        UserInputError: it cannot be read, however often.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    waits = list(WAITS) if file.startswith("hf://") else []
    while True:
        try:
            # Arrow's own threads must not hold a file of Python's: the process may abort when it ends
            with _open(file) as stream, pq.ParquetFile(stream, pre_buffer=False) as parquet:
                return read(parquet)
        except UserInputError:
            raise
        except Exception as error:  # pyarrow, huggingface_hub and what they call raise dozens of kinds
            reason = f"{type(error).__name__}: {error}"[:200]
            if isinstance(error, pa.ArrowInvalid | FileNotFoundError) or not waits:
                raise UserInputError(
                    f"'{file}' cannot be read ({reason}); mend the file or the connection and run the same command "
                    "again: training goes on from its last checkpoint"
                ) from error
        time.sleep(waits.pop(0))


def _open(file: str) -> BinaryIO:
    if not file.startswith("hf://"):
        return open(file, "rb")
    from huggingface_hub import HfFileSystem

    return HfFileSystem().open(file, "rb", cache_type="none")  # pyarrow asks for whole columns: one request each


def _distinct(parquet: pq.ParquetFile, column: str) -> set[Any]:
    groups = range(parquet.metadata.num_row_groups)
    parts = (parquet.read_row_group(group, columns=[column], use_threads=False) for group in groups)
    return {value for part in parts for value in part[column].unique().to_pylist()}
