"""Queries, search and regions against plain code on the tiny index."""

import numpy as np
import pytest
import torch
from tiny_index import picture

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.features import encoder_features
from synclr_hf.evaluation.labelled.labelled_images import labelled_pictures
from synclr_hf.explorer.queries import combined, picture_queries
from synclr_hf.explorer.regions import query_look, search_region
from synclr_hf.explorer.retrieval import search_pair, search_picture, search_row


@pytest.mark.parametrize("number", [0, 1])
def test_queries_are_the_features_of_the_evaluation(explorer, number):
    pictures = [picture(row) for row in range(5)]
    data = labelled_pictures(pictures, np.zeros(5, dtype=np.int64), ("",), np.arange(5))
    plain = torch.nn.functional.normalize(encoder_features(explorer.encoder(number), data).features, dim=1)
    assert torch.allclose(picture_queries(explorer.encoder(number), pictures), plain, atol=1e-5)


def test_a_picture_finds_itself_and_then_what_plain_cosines_say(explorer):
    rows = torch.cat(list(explorer.index.embeddings(0))).double()
    rows /= rows.norm(dim=1, keepdim=True)
    query = picture_queries(explorer.encoder(), [picture(7)])[0].double()
    plain = (rows @ query).argsort(descending=True, stable=True)[:6].tolist()
    found = search_picture(explorer, picture(7), 6)
    assert [one.row for one in found] == plain and found[0].row == 7
    assert found[0].similarity == pytest.approx(float(rows[7] @ query), abs=1e-5)
    assert found[0].words.startswith("1.00, green hat, A green hat on table 1.")


def test_more_like_this_leaves_the_row_out_and_marks_its_siblings(explorer):
    found = search_row(explorer, 7, 35)
    assert len(found) == 35 and 7 not in [one.row for one in found]
    assert {one.row for one in found if one.same_caption} == {4, 5, 6}


def test_only_pictures_of_the_chosen_concepts(explorer):
    found = search_picture(explorer, picture(0), 36, ["blue bell"])
    assert {one.concept for one in found} == {"blue bell"} and len(found) == 12
    assert {one.concept for one in search_row(explorer, 0, 36, ["blue bell", "red mug"])} == {"blue bell", "red mug"}


def test_two_pictures_by_mean_and_difference(explorer):
    first, second = picture_queries(explorer.encoder(), [picture(0), picture(4)])
    rows = torch.cat(list(explorer.index.embeddings(0))).float()
    rows /= rows.norm(dim=1, keepdim=True)
    for how, query in (("mean", first + second), ("difference", first - second)):
        plain = (rows @ query).argsort(descending=True, stable=True)[:4].tolist()
        assert [one.row for one in search_pair(explorer, picture(0), picture(4), how, 4)] == plain
    with pytest.raises(UserInputError, match="nothing is left of the difference"):
        search_pair(explorer, picture(0), picture(0), "difference")
    with pytest.raises(UserInputError, match="unknown combination 'sum'"):
        combined(first, second, "sum")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda one: search_picture(one, picture(0), 0), "0 results cannot be shown; allowed: 1 to 100"),
        (lambda one: search_picture(one, picture(0), 101), "101 results"),
        (lambda one: search_picture(one, picture(0), 5, ["cat"]), "unknown concept 'cat'"),
        (lambda one: search_row(one, 36), "no picture 36 in .* allowed: 0 to 35"),
        (lambda one: search_row(one, -1), "no picture -1"),
    ],
)
def test_what_cannot_be_asked(explorer, call, words):
    with pytest.raises(UserInputError, match=words):
        call(explorer)


def test_a_region_finds_its_own_patch_first(explorer):
    answers = list(search_region(explorer, picture(7), 2, 3, 5))
    last = answers[-1]
    assert last.looked_at == last.total == 36
    assert last.hits[0].row == 7 and last.hits[0].place == (2, 3)
    assert last.hits[0].similarity == pytest.approx(1, abs=1e-3)
    chosen = torch.nn.functional.normalize(query_look(explorer, picture(7)).patches[2, 3], dim=0)
    for hit in last.hits:
        plain = torch.nn.functional.normalize(hit.look.patches, dim=-1) @ chosen
        assert torch.allclose(hit.values, plain, atol=1e-5) and hit.similarity == pytest.approx(float(plain.max()))
    assert [hit.similarity for hit in last.hits] == sorted((hit.similarity for hit in last.hits), reverse=True)


def test_the_second_answer_is_remembered_and_equal(explorer):
    first = list(search_region(explorer, picture(3), 1, 1, 4))[-1]
    calls = []
    forward = explorer.encoder().model.register_forward_hook(lambda *_: calls.append(1))
    second = list(search_region(explorer, picture(3), 1, 1, 4))[-1]
    forward.remove()
    assert len(calls) == 1  # the whole query alone
    assert [(hit.row, hit.similarity) for hit in first.hits] == [(hit.row, hit.similarity) for hit in second.hits]
    drawn = first.hits[0].drawn(first.scale)
    assert drawn.size == (320, 320) and np.asarray(drawn).std() > 10


def test_a_patch_that_is_not_there(explorer):
    with pytest.raises(UserInputError, match="no patch in row 8, column 0; allowed: rows 0 to 7, columns 0 to 7"):
        list(search_region(explorer, picture(0), 8, 0))
