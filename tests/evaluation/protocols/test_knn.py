import dataclasses
import math

import numpy as np
import pytest
import torch
from tiny_evaluation import coloured, tiny_context, tiny_encoder
from torch.nn.functional import cosine_similarity

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.protocols.knn import Config, evaluate, knn, knn_predictions, knn_votes


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


def test_neighbours_vote_for_all_their_classes():
    generator = torch.Generator().manual_seed(0)
    train, test = torch.randn(40, 8, generator=generator), torch.randn(6, 8, generator=generator)
    labels = (torch.rand(40, 5, generator=generator) < 0.3).float()
    labels[3, 2], labels[4, 1] = -1, torch.nan  # unknown: no vote
    votes = knn_votes(train, labels, test, ks=(4,), temperature=0.5)[4]
    known = labels.clamp(min=0).nan_to_num(0)
    for row, query in enumerate(test):
        weights = (cosine_similarity(query[None], train) / 0.5).exp()
        nearest = weights.argsort(descending=True)[:4]
        expected = (weights[nearest, None] * known[nearest]).sum(dim=0) / weights[nearest].sum()
        torch.testing.assert_close(votes[row], expected)


def test_votes_have_a_column_for_classes_that_nobody_has():
    votes = knn_votes(torch.eye(3), torch.tensor([0, 1, 1]), torch.eye(3), ks=(1,), num_classes=5)[1]
    assert votes.tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 1, 0, 0, 0]]


def test_protocol_reports_every_k_and_classes_without_a_train_picture():
    train = coloured(40, 0, num_classes=2)
    train = dataclasses.replace(train, label_names=("red", "green", "blue"))
    found = evaluate(tiny_context(tiny_encoder(model=None), train=train), Config(neighbour_counts=(1, 3)))
    assert found.primary == "accuracy" and found.config["neighbour_counts"] == [1, 3, 10]
    assert found.metrics["accuracy"] == found.metrics["accuracy_k10"]
    assert {"accuracy_k1", "accuracy_k3", "mean_per_class_accuracy"} < set(found.metrics)
    assert found.details["unseen_labels"] == 10  # a third of the thirty test pictures is blue
    assert found.details["per_class_accuracy"][2] == 0 and found.metrics["accuracy"] == pytest.approx(2 / 3)
    low, high = found.intervals["accuracy"]
    assert low < 2 / 3 < high
    again = evaluate(tiny_context(tiny_encoder(model=None), train=train), Config(neighbour_counts=(1, 3)))
    assert found == again


def test_protocol_of_pictures_with_several_classes():
    train, test = (np.eye(3)[coloured(count, 0).labels].astype(np.float32) for count in (60, 30))
    sides = [dataclasses.replace(coloured(60, 0), labels=train), dataclasses.replace(coloured(30, 1), labels=test)]
    context = tiny_context(tiny_encoder(model=None), metric="map_11point", train=sides[0], test=sides[1])
    found = evaluate(context, Config())
    assert found.primary == "map_11point" and found.metrics["map_11point"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(neighbour_counts=(0, 5)), "knn.neighbour_counts has 0; allowed: 1 or more; type"),
        (Config(temperature=0.0), "knn.temperature is 0.0; allowed: above 0; type"),
        (Config(temperature=math.nan), "knn.temperature is nan"),
    ],
)
def test_settings_that_cannot_be(config, message):
    with pytest.raises(UserInputError, match=message):
        evaluate(tiny_context(), config)
