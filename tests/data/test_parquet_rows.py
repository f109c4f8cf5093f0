"""Rows out of Parquet files, a block at a time: what comes back, what is kept, what is refused."""

import os
import pickle
import subprocess
import sys
from multiprocessing import get_context

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Image
from image_sets import CONCEPTS, write_images

from synclr_hf.data.parquet_rows import WINDOW_BLOCKS, ParquetRows
from synclr_hf.data.reading import PRETRAINING_COLUMNS, concept_names, read_images
from synclr_hf.data.runs import content_fingerprint
from synclr_hf.errors import UserInputError


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "images", rows=38)


class CountedBlocks(ParquetRows):
    """Remembers which blocks were read."""

    def __init__(self, *args):
        self.read = []
        super().__init__(*args)

    def _read_block(self, block):
        self.read.append(block)
        return super()._read_block(block)


def test_rows_are_those_that_the_stage_wrote(folder):
    rows, whole = ParquetRows(folder), read_images(folder, PRETRAINING_COLUMNS)
    assert len(rows) == 38 and rows.block_lengths.tolist() == [5, 5, 5, 5, 5, 5, 5, 3]
    for mine, theirs in zip(rows, whole, strict=True):
        assert mine == {"caption_id": theirs["caption_id"], "images": theirs["images"]}
    with pytest.raises(IndexError):
        rows[38]


def test_a_process_keeps_a_few_blocks(folder):
    rows = CountedBlocks(folder)
    assert rows.read == [], "opening reads footers only"
    for _ in range(3):
        assert [rows[index]["caption_id"] for index in (0, 24, 3, 12)] == [0, 24, 3, 12]
    assert rows.read == [0, 4, 2]
    for index in range(38):
        rows[index]
    assert len(rows._cache) == WINDOW_BLOCKS + 1 and rows.read == [0, 4, 2, 1, 3, 5, 6, 7]
    rows[0]
    assert rows.read[-1] == 0, "the block unused for longest was forgotten"


def test_only_the_columns_asked_for_are_read(folder):
    assert set(ParquetRows(folder, ["caption_id", "concept"])[7]) == {"caption_id", "concept"}


def test_no_library_is_needed_that_a_gpu_machine_lacks(folder):
    code = f"""
import sys
sys.modules["datasets"] = None
from synclr_hf.data.parquet_rows import ParquetRows
print(ParquetRows({str(folder)!r})[3]["caption_id"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"


def ask(rows, index, answers):
    answers.put((rows[index]["caption_id"], os.getpid()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_copies_in_other_processes_read_on_their_own(folder, method):
    rows = ParquetRows(folder)
    rows[0]
    context = get_context(method)
    answers = context.Queue()
    process = context.Process(target=ask, args=(rows, 33, answers))
    process.start()
    caption_id, pid = answers.get(timeout=60)
    process.join()
    assert caption_id == 33 and pid != os.getpid()
    assert len(pickle.dumps(rows)) < 5_000, "a copy takes no blocks along"


def test_concepts_are_classes(folder):
    assert concept_names(ParquetRows(folder, ["caption_id", "concept"])) == sorted(CONCEPTS)
    assert concept_names(read_images(folder)) == sorted(CONCEPTS)
    with pytest.raises(UserInputError, match=r"no column concept \(it has caption_id, images\)"):
        concept_names(ParquetRows(folder))


def test_the_fingerprint_is_that_of_the_contents(folder, tmp_path):
    assert ParquetRows(folder).fingerprint == content_fingerprint(folder)
    copies = [tmp_path / "a", tmp_path / "b"]
    for copy, names in zip(copies, ((0, 1), (0,)), strict=True):
        copy.mkdir()
        for index in names:
            (copy / f"{index}.parquet").write_bytes((folder / f"data/train-0000{index}.parquet").read_bytes())
    first, second = (ParquetRows(copy).fingerprint for copy in copies)
    assert first != second and first == ParquetRows(copies[0]).fingerprint


def test_train_files_are_told_from_those_of_other_splits(folder, tmp_path):
    content = (folder / "data/train-00000.parquet").read_bytes()
    for names, expected in (
        (("data/train-0.parquet", "data/test-0.parquet", "other.parquet"), 1),
        (("a.parquet", "latest/b.parquet", "validation.parquet", ".cache/c.parquet"), 2),
        (("train/0.parquet", "train/1.parquet", "test/0.parquet"), 2),
    ):
        place = tmp_path / names[0].replace("/", "-")
        for name in names:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
        assert len(ParquetRows(place)) == 10 * expected, names


def test_missing_columns_are_named_with_those_found(tmp_path):
    pq.write_table(pa.table({"id": [1], "image": ["a"]}), tmp_path / "train.parquet")
    message = r"no column caption_id, images \(it has id, image\); type the folder that synclr images wrote"
    with pytest.raises(UserInputError, match=message):
        ParquetRows(tmp_path)
    with pytest.raises(UserInputError, match=message):
        read_images(tmp_path, PRETRAINING_COLUMNS)


def test_read_images_asks_other_callers_columns_as_before(tmp_path):
    pq.write_table(pa.table({"caption_id": [1], "images": [[b"x"]]}), tmp_path / "train.parquet")
    with pytest.raises(UserInputError, match="no column caption, concept, source, seeds, guidance_scale, provenance"):
        read_images(tmp_path)


@pytest.mark.parametrize("reader", [read_images, ParquetRows])
def test_both_readers_refuse_alike(reader, folder, tmp_path):
    (folder / "shards/00001.json").unlink()
    with pytest.raises(UserInputError, match="is not finished: 3 of 4 shards; finish it first: type synclr images"):
        reader(folder)
    with pytest.raises(UserInputError, match="'no/such/folder' does not exist; make it first: type synclr images"):
        reader("no/such/folder")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserInputError, match="no rows .*type synclr images"):
        reader(tmp_path / "empty")


def test_a_damaged_file_is_named_with_the_reason(folder):
    path = folder / "data/train-00002.parquet"
    rows = ParquetRows(folder)
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)
    path.write_bytes(content)
    with pytest.raises(UserInputError, match=r"train-00002.parquet' cannot be read \(\w+: .*mend the file"):
        rows[20]
    path.write_bytes(b"PAR1 rubbish")
    with pytest.raises(UserInputError, match="train-00002.parquet' cannot be read"):
        ParquetRows(folder)


@pytest.mark.parametrize("read", [ParquetRows, lambda folder: read_images(folder, ("caption_id", "images"))])
def test_one_picture_a_row_is_told_apart_from_a_list(tmp_path, read):
    rows = Dataset.from_dict({"caption_id": [0, 1], "images": [{"bytes": b"x", "path": None}] * 2})
    rows.cast_column("images", Image(decode=False)).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(UserInputError, match="column 'images' of .* is no list; needed: one row a caption"):
        read(tmp_path)
