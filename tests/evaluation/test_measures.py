"""Measures beside scikit-learn's and beside literal loops of their definitions."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, balanced_accuracy_score, jaccard_score, top_k_accuracy_score

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.measures import (
    average_precision,
    class_iou,
    confusion_matrix,
    eleven_point_average_precision,
    label_ranks,
    mean_iou,
    mean_per_class_accuracy,
    per_class_accuracy,
    pixel_accuracy,
    recall_at,
    retrieval_precisions,
    top_k_accuracy,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def multi_label(ties=False, ignored=False, rows=80, classes=5):
    targets = (torch.rand(rows, classes, generator=generator()) < 0.25).float()
    scores = torch.randn(rows, classes, generator=generator(1)) + targets
    if ties:
        scores = (scores * 2).round() / 2
    if ignored:
        targets[torch.rand(rows, classes, generator=generator(2)) < 0.2] = -1
        targets[torch.rand(rows, classes, generator=generator(3)) < 0.1] = torch.nan
    return scores, targets


def literal_eleven_points(scores, target, counts):
    """The definition word by word: precision and recall at every threshold, the best at 0, 0.1, ..., 1 or beyond."""
    points = []
    for threshold in scores:
        right = sum(n for s, t, n in zip(scores, target, counts, strict=True) if s >= threshold and t == 1)
        wrong = sum(n for s, t, n in zip(scores, target, counts, strict=True) if s >= threshold and t == 0)
        if right + wrong:
            points.append((right, right / (right + wrong)))
    positives = sum(n for t, n in zip(target, counts, strict=True) if t == 1)
    return sum(max((p for r, p in points if 10 * r >= level * positives), default=0) for level in range(11)) / 11


@pytest.mark.parametrize("k", [1, 2, 5, 7])
def test_top_k_accuracy_equals_sklearn(k):
    scores, labels = torch.randn(200, 7, generator=generator()), torch.randint(7, (200,), generator=generator(1))
    expected = top_k_accuracy_score(labels.numpy(), scores.numpy(), k=k, labels=range(7)) if k < 7 else 1.0
    assert top_k_accuracy(scores, labels, k) == pytest.approx(expected)


def test_ranks_of_ties_and_of_unseen_classes(monkeypatch):
    scores = torch.tensor([[0.5, 0.5, 0.1], [0.5, 0.5, 0.1], [0.0, 0.0, 0.0], [0.3, 0.2, 0.1]])
    labels = torch.tensor([0, 1, 2, 9])
    assert label_ranks(scores, labels).tolist() == [0, 1, 2, 3]
    assert ((label_ranks(scores, labels) == 0) == (scores.argmax(dim=1) == labels)).all()
    assert top_k_accuracy(scores, labels, 3) == 0.75 == top_k_accuracy(scores, labels, 100)
    monkeypatch.setattr("synclr_hf.evaluation.measures._CELLS_AT_ONCE", 6)  # two pictures at once
    assert label_ranks(scores, labels).tolist() == [0, 1, 2, 3]


def test_mean_per_class_accuracy_equals_sklearn():
    labels = torch.randint(6, (300,), generator=generator()) * 2  # odd classes do not occur
    predicted = torch.where(torch.rand(300, generator=generator(1)) < 0.6, labels, 0)
    expected = balanced_accuracy_score(labels.numpy(), predicted.numpy())
    assert mean_per_class_accuracy(predicted, labels) == pytest.approx(expected)
    by_class = per_class_accuracy(predicted == labels, labels, 12)
    assert by_class.isnan().tolist() == [False, True] * 6 and by_class[0] == 1


@pytest.mark.parametrize("ties", [False, True])
def test_eleven_points_equal_the_definition(ties):
    scores, targets = multi_label(ties, ignored=True)
    counts = torch.randint(3, (2, len(scores)), generator=generator(4))
    alone = eleven_point_average_precision(scores, targets)
    drawn = eleven_point_average_precision(scores, targets, counts)
    assert alone.dtype == torch.float64 and drawn.shape == (2, 5)
    for column in range(5):
        rows = scores[:, column].tolist(), targets[:, column].tolist()
        assert alone[column].item() == pytest.approx(literal_eleven_points(*rows, [1] * 80))
        for sample in range(2):
            expected = literal_eleven_points(*rows, counts[sample].tolist())
            assert drawn[sample, column].item() == pytest.approx(expected)


def test_eleven_points_by_hand():
    # right, wrong, right: recall 0.5 at precision 1, recall 1 at precision 2/3
    scores, target = torch.tensor([[0.9], [0.8], [0.7]]), torch.tensor([[1], [0], [1]])
    assert eleven_point_average_precision(scores, target).item() == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    tied = torch.tensor([[0.9], [0.9], [0.7]])  # recall 0.5 at precision 1/2 only
    assert eleven_point_average_precision(tied, target).item() == pytest.approx(2 / 3)
    # a recall of exactly 3/10 counts for the level 0.3, which is 0.30000000000000004 as a product
    many = torch.tensor([[1.0]] * 3 + [[0.0]] * 7 + [[1.0]] * 7)
    precision = [1] * 4 + [10 / 17] * 7
    got = eleven_point_average_precision(torch.arange(17, 0, -1.0)[:, None], many).item()
    assert got == pytest.approx(sum(precision) / 11)


def test_classes_without_positives_have_no_average_precision():
    scores, targets = multi_label()
    targets[:, 1], targets[:, 3] = 0, -1
    found = eleven_point_average_precision(scores, targets)
    assert found.isnan().tolist() == [False, True, False, True, False]
    drawn = eleven_point_average_precision(scores, targets, torch.stack([1 - targets[:, 0], targets[:, 0] + 1]))
    assert drawn[0, 0].isnan() and not drawn[1, 0].isnan()  # no positive was drawn


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_equals_sklearn(ties):
    scores, targets = multi_label(ties)
    expected = average_precision_score(targets.numpy(), scores.numpy(), average=None)
    np.testing.assert_allclose(average_precision(scores, targets), expected)
    weights = torch.randint(3, (1, 80), generator=generator(4))
    expected = average_precision_score(targets.numpy(), scores.numpy(), average=None, sample_weight=weights[0].numpy())
    np.testing.assert_allclose(average_precision(scores, targets, weights)[0], expected)


def test_iou_equals_sklearn_and_leaves_out_what_occurs_nowhere():
    target = torch.randint(4, (3, 20, 30), generator=generator())
    predicted = torch.where(torch.rand(3, 20, 30, generator=generator(1)) < 0.5, target, 1)
    ignored = torch.rand(3, 20, 30, generator=generator(2)) < 0.1
    confusion = confusion_matrix(predicted, torch.where(ignored, 255, target), 6)
    right, found = target[~ignored].numpy(), predicted[~ignored].numpy()
    expected = jaccard_score(right, found, average=None, labels=range(4))
    np.testing.assert_allclose(class_iou(confusion)[:4], expected)
    assert class_iou(confusion)[4:].isnan().all()
    assert mean_iou(confusion) == pytest.approx(expected.mean())
    assert pixel_accuracy(confusion) == pytest.approx((right == found).mean())
    assert confusion[2, 1] == ((right == 2) & (found == 1)).sum()  # rows are the right classes
    assert mean_iou(torch.zeros(3, 3)) != mean_iou(torch.zeros(3, 3))  # NaN


@pytest.mark.parametrize(
    ("predicted", "target", "ignore", "message"),
    [
        ([0, 3], [0, 1], 255, "a predicted class is 3; allowed: 0 to 2, 255 in masks"),
        ([0, 1], [0, -1], 255, "a right class is -1; allowed: 0 to 2, 255 in masks"),
        ([0, 1], [0, 255], None, "a right class is 255; allowed: 0 to 2$"),
        ([0], [0, 1], 255, r"shape \(1,\), the right ones \(2,\)"),
    ],
)
def test_confusion_of_what_is_no_class(predicted, target, ignore, message):
    with pytest.raises(UserInputError, match=message):
        confusion_matrix(torch.tensor(predicted), torch.tensor(target), 3, ignore)


@pytest.mark.parametrize("ties", [False, True])
def test_retrieval_precision_equals_sklearn_and_a_loop(ties):
    similarity = torch.rand(60, generator=generator())
    similarity = (similarity * 10).round() if ties else similarity
    relevant = torch.rand(60, generator=generator(1)) < 0.2
    whole, at_r = retrieval_precisions(similarity, relevant)
    assert whole.item() == pytest.approx(average_precision_score(relevant.numpy(), similarity.numpy()))
    if not ties:
        ranked = relevant[similarity.argsort(descending=True)].tolist()
        count = sum(ranked)
        expected = sum(sum(ranked[: i + 1]) / (i + 1) for i in range(count) if ranked[i]) / count
        assert at_r.item() == pytest.approx(expected) and 0 < expected < 1
    assert all(value.isnan() for value in retrieval_precisions(similarity, torch.zeros(60).bool()))


def test_recall_is_one_hit_among_k():
    relevant = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 0]]).bool()
    assert [recall_at(relevant, k).tolist() for k in (1, 2, 9)] == [[0, 0, 1], [1, 0, 1], [1, 0, 1]]
