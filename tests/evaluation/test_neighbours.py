import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation import neighbours
from synclr_hf.evaluation.neighbours import nearest_rows


def rows(count, seed, width=16):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def plain(queries, gallery, count):
    """All similarities at once, in float64, sorted; of equal ones the smaller row number first."""
    similarity = normalize(queries.double(), dim=1) @ normalize(gallery.double(), dim=1).T
    values, places = similarity.sort(dim=1, descending=True, stable=True)
    return values[:, :count], places[:, :count]


@pytest.mark.parametrize(("pieces", "count"), [((7, 13), 20), ((100, 1000), 20), ((1, 1), 3), ((40, 30), 300)])
def test_pieces_equal_the_whole(pieces, count):
    queries, gallery = rows(40, 0), rows(200, 1) * 5
    values, places = nearest_rows(queries, gallery, count, queries_at_once=pieces[0], gallery_rows_at_once=pieces[1])
    expected = plain(queries, gallery, count)
    assert torch.equal(places, expected[1])
    np.testing.assert_allclose(values, expected[0], atol=1e-6)
    assert values.dtype == torch.float32 and values.shape == (40, min(count, 200))


def test_a_file_of_float16_rows_is_read_in_place(tmp_path):
    gallery = rows(300, 1).half()
    gallery.numpy().tofile(tmp_path / "gallery.f16")
    stored = torch.from_numpy(np.memmap(tmp_path / "gallery.f16", np.float16, mode="c").reshape(300, 16))
    places = nearest_rows(rows(20, 0), stored, 5, gallery_rows_at_once=64)[1]
    assert torch.equal(places, plain(rows(20, 0), gallery, 5)[1])


@pytest.mark.parametrize("size", [5, 37, 1000])
def test_of_equally_similar_rows_the_first_is_nearest(size):
    gallery = torch.eye(4)[torch.arange(200) % 4]  # every row stands there fifty times
    values, places = nearest_rows(torch.eye(4) * 3, gallery, 6, gallery_rows_at_once=size)
    assert places.tolist() == [[first + 4 * n for n in range(6)] for first in range(4)]
    assert (values == 1).all()


def test_a_gallery_in_pieces_is_the_same_on_a_gpu_or_here():
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = nearest_rows(rows(9, 0), rows(50, 1), 4, device=device, gallery_rows_at_once=8)
    assert found[0].device.type == found[1].device.type == device.type
    assert torch.equal(found[1].cpu(), plain(rows(9, 0), rows(50, 1), 4)[1])


def test_a_long_search_tells_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(neighbours, "_LONG", 0)
    nearest_rows(rows(3, 0), rows(50, 1), 2)
    assert "nearest neighbours: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_features_that_are_not_finite(bad):
    damaged = rows(10, 0)
    damaged[[2, 5], 3] = bad
    with pytest.raises(UserInputError, match="the features of 2 train pictures are not finite"):
        nearest_rows(rows(3, 1), damaged, 2)
    with pytest.raises(UserInputError, match="the features of 2 test pictures are not finite"):
        nearest_rows(damaged, rows(3, 1), 2)
    with pytest.raises(UserInputError, match="nothing to search"):
        nearest_rows(rows(3, 1), rows(0, 1), 2)
