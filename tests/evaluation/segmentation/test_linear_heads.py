import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from synclr_hf.evaluation.segmentation.linear_heads import fit_linear_heads


@pytest.fixture(scope="module")
def table():
    """Three classes that overlap, features of different scales, rows that do not count at the end."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (600,), generator=generator)
    centres = torch.randn(3, 8, generator=generator)
    scales = torch.tensor([0.1, 1, 10, 1, 1, 1, 1, 1])
    features = (centres[labels] + 1.5 * torch.randn(600, 8, generator=generator)) * scales + 3
    features[500:] = 100.0
    return features, labels, torch.arange(500)


def fitted(table, rates, **changes):
    settings = {
        "num_classes": 4,
        "weight_decay": 0.0,
        "steps": 300,
        "batch_size": 250,
        "seed": 0,
        "description": "heads",
    }
    return fit_linear_heads(*table, learning_rates=rates, **{**settings, **changes})


def test_the_fit_comes_to_the_optimum_of_logistic_regression(table):
    features, labels, rows = table
    best = LogisticRegression(C=1e6, max_iter=500).fit(features[rows].numpy(), labels[rows].numpy())
    optimum = F.nll_loss(torch.from_numpy(best.predict_log_proba(features[rows].numpy())), labels[rows]).item()
    logits = fitted(table, [0.1]).logits(features[rows], 0)
    assert logits.shape == (500, 4)
    assert F.cross_entropy(logits, labels[rows]).item() == pytest.approx(optimum, rel=0.01)
    assert (logits.argmax(dim=1) < 3).all()  # the class that never occurs


def test_heads_side_by_side_are_as_if_alone(table):
    together = fitted(table, [0.01, 0.1], steps=20)
    for head, rate in enumerate((0.01, 0.1)):
        alone = fitted(table, [rate], steps=20)
        torch.testing.assert_close(together.weights[head], alone.weights[0])
        torch.testing.assert_close(together.biases[head], alone.biases[0])
