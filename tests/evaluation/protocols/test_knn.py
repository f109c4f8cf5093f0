import math

import pytest
import torch
from torch.nn.functional import cosine_similarity

from synclr_hf.evaluation.protocols.knn import knn, knn_predictions


def naive_prediction(train, labels, query, k, temperature):
    similarities = [float(cosine_similarity(query, row, dim=0)) for row in train]
    nearest = sorted(range(len(train)), key=lambda row: -similarities[row])[:k]
    votes = {}
    for row in nearest:
        label = int(labels[row])
        votes[label] = votes.get(label, 0.0) + math.exp(similarities[row] / temperature)
    return max(sorted(votes), key=votes.__getitem__)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_equals_a_naive_loop(temperature):
    generator = torch.Generator().manual_seed(0)
    train, test = torch.randn(60, 8, generator=generator), torch.randn(25, 8, generator=generator)
    labels = torch.randint(5, (60,), generator=generator)
    found = knn_predictions(train, labels, test, ks=(1, 5, 20), temperature=temperature, chunk_size=7)
    for k, predicted in found.items():
        assert predicted.tolist() == [naive_prediction(train, labels, row, k, temperature) for row in test]


def test_hand_placed_vectors():
    # two of class 0 at 90 degrees from the query, one of class 1 at 0 degrees
    train = torch.tensor([[0.0, 1.0], [0.0, 2.0], [3.0, 0.0]])
    labels = torch.tensor([0, 0, 1])
    query = torch.tensor([[10.0, 0.0]])
    assert knn_predictions(train, labels, query, ks=(3,), temperature=0.07)[3].item() == 1  # e^14 against 2
    assert knn_predictions(train, labels, query, ks=(3,), temperature=10.0)[3].item() == 0  # e^0.1 against 2


def test_accuracy_and_more_neighbours_than_rows():
    train, labels = torch.eye(4), torch.arange(4)
    found = knn(train, labels, torch.eye(4), torch.tensor([0, 1, 2, 0]), ks=(1, 50))
    assert found == {1: 0.75, 50: 0.75}


def test_small_temperature_does_not_overflow():
    train, labels = torch.eye(4), torch.arange(4)
    assert knn(train, labels, torch.eye(4), labels, ks=(4,), temperature=1e-4) == {4: 1.0}
