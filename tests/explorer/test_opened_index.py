"""Opening and searching: exact, memory-mapped, with an error for whatever can be wrong."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from tiny_index import write_tiny_index

from synclr_hf.errors import UserInputError
from synclr_hf.explorer.index import faiss_file
from synclr_hf.explorer.index.facts import FAISS_FILE, IndexedEncoder, IndexFacts
from synclr_hf.explorer.index.faiss_file import check_factory, prepare_faiss
from synclr_hf.explorer.index.opened import PictureIndex, check_finite
from synclr_hf.explorer.index.opening import open_index
from synclr_hf.explorer.index.schema import index_features
from synclr_hf.explorer.search import nearest

WIDTH = 24


def index_of(features, **columns):
    encoder = IndexedEncoder("some", "embedding", features.shape[1], "f")
    count = len(features)
    told = {"embedding": list(features.astype(np.float16)), "image": [{"bytes": b"", "path": None}] * count}
    nothing = {"caption_id": None, "place": 0, "caption": None, "concept": None, "source": None, "template": None}
    told |= {name: columns.get(name, [value] * count) for name, value in nothing.items()}
    rows = Dataset.from_dict(told, features=index_features([encoder]))
    return PictureIndex(rows, IndexFacts((encoder,), count), "some")


def unit(count, seed, width=WIDTH):
    rows = np.random.default_rng(seed).standard_normal((count, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def large():
    features = unit(3000, 0)
    features[1200] = features[77]  # a copy: the smaller row is nearer
    return index_of(features, concept=[f"c{k % 5}" for k in range(3000)])


def plain(index, query, rows, count):
    stored = torch.cat(list(index.embeddings())).double().numpy()
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    scores = (stored[rows] @ (query / np.linalg.norm(query))).round(9)
    order = np.lexsort((rows, -scores))[:count]
    return [int(rows[place]) for place in order], scores[order].clip(-1, 1)


@pytest.mark.parametrize("among", ["all", "concept", "some"])
def test_nearest_is_what_a_plain_search_finds(large, among):
    rows = {"all": np.arange(3000), "concept": large.rows_of_concepts(["c1", "c3"]), "some": np.array([5, 77, 1200])}
    rows = rows[among]
    queries = unit(7, 1)
    queries[0] = np.concatenate(list(large.embeddings()))[77]
    found = nearest(large, torch.tensor(queries * 3), 12, rows=None if among == "all" else rows)
    for query, hits in zip(queries, found, strict=True):
        wanted, scores = plain(large, query, rows, 12)
        assert [hit.row for hit in hits] == wanted
        assert np.allclose([hit.similarity for hit in hits], scores, atol=1e-5)
    if among != "concept":
        assert [hit.row for hit in found[0][:2]] == [77, 1200]


def test_excluded_rows_and_small_indexes(large):
    query = large.embedding(77)[None]
    assert nearest(large, query, 1, excluded=[77])[0][0].row == 1200
    assert len(nearest(large, query, 5000, excluded=[3])[0]) == 2999
    assert max(hit.similarity for hit in nearest(large, query, 5)[0]) <= 1


@pytest.mark.parametrize(
    ("query", "options", "words"),
    [
        (torch.ones(1, 5), {}, "the query has 5 numbers, 'some' describes pictures of 'some' by 24"),
        (torch.full((1, WIDTH), float("nan")), {}, "NaN or infinite"),
        (torch.ones(1, WIDTH), {"rows": []}, "nothing fits the filter"),
    ],
)
def test_queries_that_cannot_be_answered(large, query, options, words):
    with pytest.raises(UserInputError, match=words):
        nearest(large, query, 3, **options)


def test_features_are_a_map_of_the_file(tiny_index_folder):
    index = open_index(tiny_index_folder)
    (piece,) = index.embeddings()
    chunk = index.table.column("embedding").chunks[0]
    assert piece.data_ptr() == chunk.flatten().buffers()[1].address  # nothing was copied
    assert index.rows.cache_files  # and the rows lie in a file


def test_what_is_known_about_a_picture(tiny_index_folder):
    index = open_index(tiny_index_folder)
    told = index.picture(5)
    assert (told.row, told.caption_id, told.place, told.concept) == (5, 1, 1, "green hat")
    assert index.concepts == ["blue bell", "green hat", "red mug"] and index.number_of("pixels") == 1
    assert index.rows_of_concepts(["green hat"]).tolist() == [*range(4, 8), *range(16, 20), *range(28, 32)]
    with pytest.raises(UserInputError, match="unknown encoder 'pixel'.*did you mean 'pixels'"):
        index.number_of("pixel")


def test_an_index_that_was_made_anew_is_not_taken_for_the_old_one(tmp_path, tiny_encoder_folder):
    folder = write_tiny_index(tmp_path / "index", tiny_encoder_folder, captions=3, others=())
    assert len(open_index(folder)) == 12
    shutil.rmtree(folder)
    write_tiny_index(tmp_path / "index", tiny_encoder_folder, captions=5, others=())
    assert len(open_index(folder)) == 20


def damaged(folder, change):
    file = Path(folder) / "index.json"
    told = json.loads(file.read_text())
    change(told)
    file.write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: told.update(num_pictures=99), "is damaged: it should have 99 pictures .* but 36 rows are there"),
        (lambda told: told["encoders"][0].update(width=17), "column embedding is missing or of another type"),
        (lambda told: told["encoders"][0].update(column="other"), "column other is missing"),
        (lambda told: told.update(version=2), r"another version of synclr_hf \(index version 2, readable: 1\)"),
        (lambda told: told.update(kind="else"), "is no index of pictures"),
        (lambda told: told.pop("encoders"), "is no index of pictures"),
    ],
)
def test_facts_that_do_not_fit_the_rows(tmp_path, tiny_index_folder, change, words):
    shutil.copytree(tiny_index_folder, tmp_path / "index")
    damaged(tmp_path / "index", change)
    with pytest.raises(UserInputError, match=words):
        open_index(tmp_path / "index")


def test_folders_that_are_no_index(tmp_path, tiny_index_folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserInputError, match="is no index of pictures .* type synclr index"):
        open_index(tmp_path / "empty")
    with pytest.raises(UserInputError, match="there is no index '.*nothing'; make one"):
        open_index(tmp_path / "nothing")
    shutil.copytree(tiny_index_folder, tmp_path / "cut")
    (file,) = (tmp_path / "cut" / "data").iterdir()
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(UserInputError, match="the index '.*cut' cannot be read"):
        open_index(tmp_path / "cut")
    file.unlink()
    with pytest.raises(UserInputError, match="has no pictures; run the command that made it again"):
        open_index(tmp_path / "cut")


def test_damaged_features_are_named(tmp_path):
    features = unit(50, 2)
    features[33] = np.nan
    with pytest.raises(UserInputError, match=r"features of 'some' .* are damaged \(row 33 is not of length one\)"):
        check_finite(index_of(features))
    check_finite(index_of(unit(50, 2)))


def test_a_damaged_row_is_told_by_the_first_search_wherever_it_lies():
    features = unit(9000, 3)
    features[4001] = np.nan  # the sample of `check_finite` does not meet it
    index = index_of(features)
    check_finite(index)
    with pytest.raises(UserInputError, match=r"are damaged \(row 4001 is not of length one\)"):
        nearest(index, torch.ones(1, WIDTH), 3)


def test_a_picture_of_one_grey_is_like_nothing():
    features = unit(20, 4)
    features[7] = 0  # raw pixels of a picture of one grey
    index = index_of(features)
    check_finite(index)
    (hits,) = nearest(index, torch.ones(1, WIDTH), 20)
    assert {hit.row: hit.similarity for hit in hits}[7] == 0 and all(hit.similarity == hit.similarity for hit in hits)


def test_too_few_candidates_of_faiss_are_not_the_answer(tiny_index_folder, monkeypatch):
    index = open_index(tiny_index_folder)
    index.faiss_file = "prepared"
    monkeypatch.setattr(faiss_file, "has_faiss", lambda: True)
    monkeypatch.setattr(type(index.rows), "is_index_initialized", lambda *_: True)
    for found in ([], [3, 5]):
        monkeypatch.setattr(faiss_file, "_asked", lambda *_, found=found: np.array(found, dtype=np.int64))
        assert len(nearest(index, index.embedding(3)[None], 6)[0]) == 6


def test_an_index_of_another_model_says_which(explorer, tiny_index_folder):
    index = open_index(tiny_index_folder)
    encoder = explorer.encoder()
    assert index.encoder_number(encoder) == 0 and index.encoder_number(explorer.encoder(1)) == 1
    other = dataclasses.replace(encoder, image_size=64)
    with pytest.raises(UserInputError, match=r"other settings of '.*' \(image_size 32 there, 64 here\); type synclr"):
        index.encoder_number(other)
    with pytest.raises(UserInputError, match="was made with '.*', 'pixels', not with 'org/else'"):
        index.encoder_number(dataclasses.replace(other, name="org/else"))


def with_faiss(tmp_path, folder, factory):
    shutil.copytree(folder, tmp_path / "index")
    prepare_faiss(tmp_path / "index", factory)
    return open_index(tmp_path / "index")


@pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")  # faiss
def test_faiss_answers_as_the_exact_search_does(tmp_path, tiny_index_folder, monkeypatch):
    pytest.importorskip("faiss")
    index = with_faiss(tmp_path, tiny_index_folder, "Flat")
    assert index.facts.faiss == {"factory": "Flat", "recall_at_10": 1.0}
    exact = open_index(tiny_index_folder)
    asked = []
    plain_asked = faiss_file._asked
    monkeypatch.setattr(faiss_file, "_asked", lambda *given: asked.append(1) or plain_asked(*given))
    for row in (0, 17, 35):
        query = exact.embedding(row)[None]
        found, wanted = (nearest(one, query, 6, excluded=[row])[0] for one in (index, exact))
        assert [hit.row for hit in found] == [hit.row for hit in wanted]
        assert np.allclose([hit.similarity for hit in found], [hit.similarity for hit in wanted], atol=1e-5)
    assert len(asked) == 3
    rows = index.rows_of_concepts(["red mug"])
    assert {hit.row for hit in nearest(index, query, 12, rows=rows)[0]} == set(rows.tolist()) and len(asked) == 3
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(faiss_file, "has_faiss", lambda: False)
    assert [hit.row for hit in nearest(index, query, 6, excluded=[35])[0]] == [hit.row for hit in wanted]
    assert len(asked) == 3


@pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")
def test_what_faiss_cannot_build(tmp_path, tiny_index_folder, monkeypatch):
    pytest.importorskip("faiss")
    check_factory("HNSW32")
    with pytest.raises(UserInputError, match="--faiss 'Sharp' is no factory string of faiss"):
        check_factory("Sharp")
    with pytest.raises(UserInputError, match="--faiss IVF100,Flat cannot be built .* type another, e.g. HNSW32"):
        with_faiss(tmp_path, tiny_index_folder, "IVF100,Flat")
    assert not (tmp_path / "index" / FAISS_FILE).exists()
    monkeypatch.setattr(faiss_file, "has_faiss", lambda: False)
    with pytest.raises(UserInputError, match="--faiss needs faiss; type pip install faiss-cpu"):
        check_factory("Flat")


def test_the_file_is_what_datasets_reads(tiny_index_folder):
    (file,) = Path(tiny_index_folder).glob("data/*")
    rows = Dataset.from_parquet(str(file))
    assert rows.features == index_features(open_index(tiny_index_folder).facts.encoders)
    assert pq.read_schema(file).field("embedding").type.value_type == "halffloat"
    assert rows[0]["image"].size == (40, 40)
