import numpy as np
import torch
from sklearn.decomposition import PCA

from synclr_hf.evaluation.pca import pca_maps
from synclr_hf.evaluation.protocols.retrieval import nearest_neighbours


def random_patches(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 5, 6, 10, generator=generator) * torch.linspace(3, 0.2, 10) + 1.5


def test_common_basis_equals_sklearn_up_to_sign():
    patches = random_patches()
    maps = pca_maps(patches)
    reference = PCA(n_components=3).fit(patches.flatten(0, 2).numpy())
    for ours, theirs in zip(maps.basis.numpy(), reference.components_, strict=True):
        assert abs(np.dot(ours, theirs)) > 0.9999
    np.testing.assert_allclose(maps.explained, reference.explained_variance_ratio_, rtol=1e-4)


def test_colours_are_common_bounded_and_repeatable():
    patches = random_patches()
    patches[3] = patches[0]  # the same features in two pictures
    maps = pca_maps(patches)
    assert maps.rgb.shape == (4, 5, 6, 3)
    assert maps.rgb.min() == 0 and maps.rgb.max() == 1
    assert torch.equal(maps.rgb[0], maps.rgb[3])
    assert torch.equal(maps.rgb, pca_maps(patches.clone()).rgb)
    largest = maps.basis.abs().argmax(dim=1)
    assert (maps.basis[torch.arange(3), largest] > 0).all()


def test_constant_features_give_finite_maps():
    assert torch.isfinite(pca_maps(torch.ones(2, 3, 3, 4)).rgb).all()


def test_nearest_neighbours_by_cosine():
    gallery = torch.tensor([[1.0, 0.0], [0.0, 5.0], [1.0, 1.0]])
    rows, similarity = nearest_neighbours(torch.tensor([[0.1, 0.0]]), gallery, count=5)
    assert rows.tolist() == [[0, 2, 1]]
    np.testing.assert_allclose(similarity[0].numpy(), [1, 0.5**0.5, 0], atol=1e-6)
