import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.neighbours import nearest_rows, neighbours_within
from synclr_hf.evaluation.seeing.pca import PcaBasis, fit_pca_basis
from synclr_hf.evaluation.seeing.principal_components import principal_components


def random_patches(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 5, 6, 10, generator=generator) * torch.linspace(3, 0.2, 10) + 1.5


def test_common_basis_equals_sklearn_up_to_sign():
    patches = random_patches()
    components = fit_pca_basis(patches).components
    reference = PCA(n_components=3).fit(patches.flatten(0, 2).numpy())
    for ours, theirs in zip(components.directions.numpy(), reference.components_, strict=True):
        assert abs(np.dot(ours, theirs)) > 0.9999
    np.testing.assert_allclose(components.explained, reference.explained_variance_ratio_, rtol=1e-4)


def test_colours_are_common_bounded_and_repeatable():
    patches = random_patches()
    patches[3] = patches[0]  # the same features in two pictures
    basis = fit_pca_basis(patches)
    rgb = basis.colours(patches)
    assert rgb.shape == (4, 5, 6, 3) and rgb.dtype == torch.float32
    assert rgb.min() == 0 and rgb.max() == 1
    assert torch.equal(rgb[0], rgb[3])
    assert torch.equal(rgb, fit_pca_basis(patches.clone()).colours(patches))
    directions = basis.components.directions
    assert (directions[torch.arange(3), directions.abs().argmax(dim=1)] > 0).all()


def test_pictures_of_other_shapes_share_a_basis():
    patches = random_patches()
    pieces = [patches[0, :2], patches[0, 2:], *patches[1:]]
    together = fit_pca_basis(patches)
    torch.testing.assert_close(fit_pca_basis(pieces).colours(patches), together.colours(patches))
    assert torch.equal(together.colours(pieces[0]), together.colours(patches)[0, :2])


def test_constant_features_give_finite_colours():
    ones = torch.ones(2, 3, 3, 4)
    assert torch.isfinite(fit_pca_basis(ones).colours(ones)).all()


@pytest.mark.parametrize("threshold", [None, "otsu", -0.2])
def test_a_saved_basis_gives_the_same_colours_and_the_same_foreground(tmp_path, threshold):
    basis = fit_pca_basis(random_patches(), threshold=threshold, model="org/encoder")
    basis.save(tmp_path / "basis.safetensors")
    again = PcaBasis.load(tmp_path / "basis.safetensors")
    others = random_patches(1)
    assert torch.equal(again.colours(others), basis.colours(others))
    assert again.components.explained == basis.components.explained
    assert (again.model, again.width) == ("org/encoder", 10)
    assert (again.foreground is None) == (threshold is None)
    if threshold is not None:
        assert torch.equal(again.foreground.is_foreground(others), basis.foreground.is_foreground(others))


def test_colours_of_the_foreground_are_fitted_on_it_alone():
    patches = random_patches()
    split = fit_pca_basis(patches, threshold=0.5).foreground
    flat = patches.flatten(0, 2)
    alone = principal_components(flat[split.is_foreground(flat)], 3)
    assert 3 < int(split.is_foreground(flat).sum()) < len(flat) / 2
    torch.testing.assert_close(fit_pca_basis(patches, threshold=0.5).components.directions, alone.directions)


def test_what_cannot_be_a_basis_is_named(tmp_path):
    (tmp_path / "other.safetensors").write_bytes(b"something else")
    for name in ("other.safetensors", "missing.safetensors"):
        with pytest.raises(UserInputError, match=f"--basis '.*{name}' is no basis.*pca_basis.safetensors"):
            PcaBasis.load(tmp_path / name)
    with pytest.raises(UserInputError, match="--threshold 99 leaves 0 foreground patches.*type a lower number"):
        fit_pca_basis(random_patches(), threshold="99")


def test_nearest_neighbours_by_cosine():
    gallery = torch.tensor([[1.0, 0.0], [0.0, 5.0], [1.0, 1.0]])
    similarity, rows = nearest_rows(torch.tensor([[0.1, 0.0]]), gallery, 5)
    assert rows.tolist() == [[0, 2, 1]]
    np.testing.assert_allclose(similarity[0].numpy(), [1, 0.5**0.5, 0], atol=1e-6)


def test_neighbours_within_a_set_leave_the_query_out_and_keep_its_copies():
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    rows, values = neighbours_within(features, [3, 5, 0], count=2)
    for query, found in zip([3, 5, 0], rows.tolist(), strict=True):
        assert query not in found and len(set(found)) == 2
    assert set(rows[0].tolist()) <= {0, 1, 2} and rows[1, 0] == 4
    np.testing.assert_allclose(values.numpy(), [[1, 1], [0.5**0.5, 0], [1, 1]], atol=1e-6)
    assert neighbours_within(features, [0], count=99)[0].shape == (1, 5)


def test_neighbours_within_equal_a_plain_loop():
    features = torch.randn(40, 7, generator=torch.Generator().manual_seed(3))
    rows, values = neighbours_within(features, range(40), count=4)
    for query in range(40):
        cosine = torch.cosine_similarity(features[query], features)
        cosine[query] = -2
        best = cosine.sort(descending=True)
        assert rows[query].tolist() == best.indices[:4].tolist()
        torch.testing.assert_close(values[query], best.values[:4])
