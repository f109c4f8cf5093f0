"""Two encoders on the same query: counts, ranks and percentiles against plain code."""

import numpy as np
import pytest
import torch
from tiny_index import picture, write_tiny_index

from synclr_hf.errors import UserInputError
from synclr_hf.explorer.comparison import (
    compare,
    compare_picture,
    compare_row,
    one_encoder_words,
    random_row,
    told_name,
    two_encoders,
)
from synclr_hf.explorer.comparison_words import answer_words, comparison_words, hit_words, pictures_words
from synclr_hf.explorer.index.facts import IndexFacts
from synclr_hf.explorer.index.opening import open_index
from synclr_hf.explorer.search import nearest


def plain_cosines(index, column, row):
    """Of a row to all as they are stored, in float64 by numpy."""
    features = np.array(index.rows[column], dtype=np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features @ features[row]


def test_hits_are_those_of_the_search(explorer):
    index = explorer.index
    comparison = compare_row(index, 5, (0, 1), 7)
    for number, answer in enumerate(comparison.answers):
        query = index.embeddings(number)[0][5].float()[None]
        (expected,) = nearest(index, query, 7, encoder=number, excluded=[5])
        assert [hit.row for hit in answer.hits] == [hit.row for hit in expected]
        assert [hit.similarity for hit in answer.hits] == pytest.approx([hit.similarity for hit in expected], abs=1e-5)
        assert [hit.rank for hit in answer.hits] == list(range(1, 8))
    assert comparison.searched == len(index) - 1


def test_percentiles_ranks_and_shared_against_plain_code(explorer):
    index, row = explorer.index, 14
    comparison = compare_row(index, row, (0, 1), 9)
    both = [plain_cosines(index, column, row) for column in ("embedding", "embedding_1")]
    orders = [[other for other in np.argsort(-values, kind="stable") if other != row] for values in both]
    assert comparison.shared == len(set(orders[0][:9]) & set(orders[1][:9])) > 0
    for side, answer in enumerate(comparison.answers):
        others = np.delete(both[side], row)
        assert answer.median == pytest.approx(np.sort(others)[(len(others) - 1) // 2], abs=1e-3)
        for hit in answer.hits:
            lower = sum(value < both[side][hit.row] for value in others)
            assert hit.percentile == pytest.approx(100 * lower / len(others), abs=1e-3)
            assert hit.rank_of_other == orders[1 - side].index(hit.row) + 1
            assert hit.is_shared == (hit.rank_of_other <= 9)


def test_concepts_count_siblings_apart(explorer):
    index, row = explorer.index, 14  # caption 3 is rows 12 to 15; its concept is that of captions 0, 3 and 6
    comparison = compare_row(index, row, (0, 1), 10)
    for answer in comparison.answers:
        siblings = [hit for hit in answer.hits if hit.row in (12, 13, 15)]
        same = [hit for hit in answer.hits if hit.row // 4 in (0, 6)]
        share = answer.concept
        assert (share.concept, share.siblings, share.same) == ("red mug", len(siblings), len(same))
        assert share.others == 10 - len(siblings)
        assert share.chance == pytest.approx(8 / 32)
        assert [hit.row for hit in answer.hits if hit.is_sibling] == [hit.row for hit in siblings]


def test_an_uploaded_picture_is_seen_by_both_as_the_stored_one(explorer):
    uploaded = compare_picture(explorer, picture(20), (0, 1), 6)
    assert uploaded.row is None and uploaded.searched == len(explorer.index)
    assert all(answer.concept is None for answer in uploaded.answers)
    stored = compare_row(explorer.index, 20, (0, 1), 5)
    for seen, expected in zip(uploaded.answers, stored.answers, strict=True):
        assert seen.hits[0].row == 20 and seen.hits[0].similarity == pytest.approx(1, abs=1e-3)
        assert [hit.row for hit in seen.hits[1:]] == [hit.row for hit in expected.hits]


def test_the_scale_of_a_query_does_not_matter(explorer):
    index = explorer.index
    queries = [index.embeddings(number)[0][3].float() for number in (0, 1)]
    one, other = (compare(index, [scale * query for query in queries], (0, 1), 5) for scale in (1, 100))
    assert [hit.row for answer in one.answers for hit in answer.hits] == [
        hit.row for answer in other.answers for hit in answer.hits
    ]


def test_random_rows_repeat_for_a_visitor_and_differ_between_them(explorer):
    rows = [random_row(explorer.index, "a visitor", press) for press in range(20)]
    assert rows == [random_row(explorer.index, "a visitor", press) for press in range(20)]
    assert rows != [random_row(explorer.index, "another", press) for press in range(20)]
    assert len(set(rows)) > 8 and set(rows) <= set(range(36))


def test_what_cannot_be_compared(explorer):
    index = explorer.index
    model = index.facts.encoders[0].name
    with pytest.raises(UserInputError, match="choose two different encoders"):
        two_encoders(index, "pixels", "pixels")
    with pytest.raises(UserInputError, match="unknown encoder 'pixel' .did you mean 'pixels'"):
        two_encoders(index, model, "pixel")
    assert two_encoders(index, "pixels", model) == (1, 0)
    with pytest.raises(UserInputError, match="no picture 36 .* allowed: 0 to 35"):
        compare_row(index, 36, (0, 1), 4)
    with pytest.raises(UserInputError, match="no picture -1"):
        compare_row(index, -1, (0, 1), 4)
    with pytest.raises(UserInputError, match="choose one from 1 to 48"):
        compare_row(index, 0, (0, 1), 0)


def test_an_index_of_one_encoder_says_how_to_add_another(tmp_path):
    index = open_index(write_tiny_index(tmp_path / "index", "pixels", captions=1, others=()))
    with pytest.raises(UserInputError, match="synclr index --model pixels --model untrained:pixels"):
        two_encoders(index, "pixels", "pixels")
    assert "one encoder" in one_encoder_words(index)
    alone = compare_row(index, 0, (0, 0), 3)  # of one caption only: no other picture could show the concept
    assert alone.shared == 3 and alone.answers[0] == alone.answers[1]
    assert alone.answers[0].concept is None


def test_words_claim_no_more_than_there_is(explorer):
    comparison = compare_row(explorer.index, 14, (0, 1), 10)
    said = comparison_words(comparison)
    assert f"share **{comparison.shared} of 10**" in said and "picture 14 of the index" in said
    assert "One query proves nothing" in said and "synclr evaluate" in said
    answer = comparison.answers[1]
    assert answer_words(answer).startswith("### pixels (raw pixels, no model)")
    assert "chance 25.0%" in answer_words(answer) and "own scale" in answer_words(answer)
    words = hit_words(answer.hits[0])
    assert words.startswith("1. (other: ") and "red mug" in words
    assert "100.00%" not in words.replace("than 100.00%", "") and "closer than" in words
    assert "untrained: random weights" in told_name("untrained:some/model")
    assert told_name("some/model") == "some/model"
    assert "toy pictures" in pictures_words(IndexFacts((), 0, "x", is_toy=True))
    assert torch.is_grad_enabled()
