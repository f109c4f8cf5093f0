"""Two encoders side by side: what is counted is right, and what is said is honest."""

import pytest
import torch
from tiny_index import picture, write_tiny_index

from synclr_hf.errors import UserInputError
from synclr_hf.explorer.comparison import compare, random_row
from synclr_hf.explorer.config import ExplorerConfig
from synclr_hf.explorer.session import Explorer


def plain_rows(explorer, number, row, count):
    rows = torch.cat(list(explorer.index.embeddings(number))).double()
    rows /= rows.norm(dim=1, keepdim=True)
    order = (rows @ rows[row]).argsort(descending=True, stable=True).tolist()
    return [one for one in order if one != row][:count]


def test_counts_are_those_of_plain_code(explorer):
    found = compare(explorer, 7, (0, 1), 10)
    plain = [plain_rows(explorer, number, 7, 10) for number in (0, 1)]
    assert [[one.row for one in side.found] for side in found.sides] == plain
    assert found.shared == len(set(plain[0]) & set(plain[1]))
    for side, rows in zip(found.sides, plain, strict=True):
        others = [row for row in rows if row not in (4, 5, 6)]
        assert side.others == len(others)
        assert side.of_concept == sum(explorer.index.picture(row).concept == "green hat" for row in others)
    assert found.chance == pytest.approx(8 / 32)  # of 32 pictures of other captions, 8 show a green hat


def test_the_words_are_honest(explorer):
    found = compare(explorer, 7, (0, 1), 10)
    assert "By chance 25.0%" in found.words and "One query proves nothing" in found.words
    assert "cannot be compared" in found.words and "toy" not in found.words
    assert "(no encoder: the picture itself" in found.sides[1].words
    assert found.told()["sides"][0]["results"][0]["row"] == found.sides[0].found[0].row


def test_a_strangers_picture_has_no_concept(explorer):
    found = compare(explorer, picture(3), (1, 0), 5)
    assert found.chance is None and found.sides[0].of_concept is None and "By chance" not in found.words
    assert found.sides[0].name == "pixels" and found.sides[0].found[0].row == 3


def test_what_cannot_be_compared(explorer, tmp_path):
    with pytest.raises(UserInputError, match="'pixels' is on both sides; choose two encoders"):
        compare(explorer, 0, (1, 1))
    with pytest.raises(UserInputError, match="there is no picture 99"):
        compare(explorer, 99)
    model = explorer.config.model
    alone = Explorer(ExplorerConfig(model, write_tiny_index(tmp_path / "alone", model, captions=2, others=())))
    alone.start()
    with pytest.raises(UserInputError, match="holds one encoder; build one with two: type synclr index --model"):
        compare(alone, 0)


def test_any_row_by_seed(explorer):
    rows = [random_row(explorer, seed) for seed in range(50)]
    assert rows == [random_row(explorer, seed) for seed in range(50)]
    assert len(set(rows)) > 15 and set(rows) <= set(range(36))
