import json

import numpy as np
import pytest
import torch

from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation import scoring
from synclr_hf.evaluation.intervals import T_975, bootstrap_interval, bootstrap_statistic, seed_interval
from synclr_hf.evaluation.measures import eleven_point_average_precision, mean_iou
from synclr_hf.evaluation.scoring import score_masks, score_predictions


def predictions(rows=300, classes=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (rows,), generator=generator)
    labels[labels == 3] = 0  # uneven, and one class does not occur
    scores = torch.randn(rows, classes, generator=generator)
    scores[torch.arange(rows), labels] += 1.5
    return scores, labels


def plain_bootstrap(rows_of_group, statistic, seed_draws):
    """One sample after another: whole groups are drawn, their pictures put in a row, the statistic taken."""
    samples = []
    for drawn in seed_draws:
        samples.append(statistic(np.concatenate([rows_of_group[group] for group in drawn])))
    return np.quantile(samples, [0.025, 0.975])


@pytest.mark.parametrize(("degrees", "quantile"), [(9, T_975[-1]), (10, 2.228), (14, 2.145), (99, 1.984)])
def test_interval_of_any_number_of_seeds(degrees, quantile):
    values = np.arange(degrees + 1.0)
    low, high = seed_interval(list(values))
    assert (high - low) / 2 == pytest.approx(quantile * values.std(ddof=1) / len(values) ** 0.5, rel=5e-4)


@pytest.mark.parametrize("metric", ["accuracy", "mean_per_class_accuracy", "map_11point"])
def test_interval_equals_a_plain_bootstrap_over_whole_groups(metric, monkeypatch):
    scores, labels = predictions(120, 6)
    groups = np.random.default_rng(1).integers(1000, 1040, 120)  # of unequal size, ids with holes
    names, group_of_row = np.unique(groups, return_inverse=True)
    targets = labels
    if metric == "map_11point":
        targets = torch.nn.functional.one_hot(labels, 6).float()
        targets[0, 1] = -1
    draws = []

    class Generator:  # keeps what was drawn
        def __init__(self, seed):
            self.generator = np.random.Generator(np.random.PCG64(seed))

        def integers(self, high, size):
            draws.extend(drawn := self.generator.integers(high, size=size))
            return drawn.copy()

    monkeypatch.setattr("synclr_hf.evaluation.intervals.np.random.default_rng", Generator)
    monkeypatch.setattr(scoring, "_MOST_RANKED", 120 * 6 * 230)
    scored = score_predictions(scores, targets, metric=metric, seed=5, groups=groups)

    def statistic(rows):
        if metric == "map_11point":
            return eleven_point_average_precision(scores[rows], targets[rows]).nanmean()
        right = (scores[rows].argmax(dim=1) == labels[rows]).double()
        if metric == "accuracy":
            return right.mean()
        return np.mean([right[labels[rows] == label].mean() for label in labels[rows].unique()])

    draws = draws[: scored.details["bootstrap_resamples"]]
    expected = plain_bootstrap([np.flatnonzero(group_of_row == g) for g in range(len(names))], statistic, draws)
    assert scored.details["bootstrap_resamples"] == (230 if metric == "map_11point" else 2000)
    np.testing.assert_allclose(scored.intervals[metric], expected, rtol=1e-9)
    assert scored.primary == metric and list(scored.intervals) == [metric]
    low, high = scored.intervals[metric]
    assert low < scored.metrics[metric] < high


def test_every_number_of_single_labels():
    scores, labels = predictions()
    scored = score_predictions(scores, labels, metric="mean_per_class_accuracy", seed=0)
    right = scores.argmax(dim=1) == labels
    by_class = [right[labels == label].double().mean().item() if label != 3 else None for label in range(8)]
    assert scored.details["per_class_accuracy"] == pytest.approx(by_class)
    assert scored.metrics["accuracy"] == pytest.approx(right.double().mean().item())
    known = [value for value in by_class if value is not None]
    assert scored.metrics["mean_per_class_accuracy"] == pytest.approx(np.mean(known))
    top5 = (scores.topk(5, dim=1).indices == labels[:, None]).any(dim=1).double().mean().item()
    assert scored.metrics["top5_accuracy"] == pytest.approx(top5)
    assert scored.details["unseen_labels"] == 0
    json.dumps([scored.metrics, scored.intervals, scored.details])
    few = score_predictions(scores[:, :5], labels.clamp(max=4), metric="accuracy", seed=0)
    assert "top5_accuracy" not in few.metrics


def test_accuracy_has_the_interval_it_always_had():
    scores, labels = predictions()
    scored = score_predictions(scores, labels, metric="accuracy", seed=3)
    right = (scores.argmax(dim=1) == labels).numpy()
    assert scored.intervals["accuracy"] == bootstrap_interval(right, seed=3)
    draws = np.random.default_rng(seed_for(3, "bootstrap"))
    plain = np.quantile([right[draws.integers(300, size=300)].mean() for _ in range(2000)], [0.025, 0.975])
    np.testing.assert_allclose(scored.intervals["accuracy"], plain)


def test_labels_that_were_not_there_to_learn_from_are_wrong_and_counted():
    scores, labels = predictions(classes=4)
    labels[:30], labels[30] = 6, 9
    scored = score_predictions(scores, labels, metric="accuracy", seed=0)
    right = scores.argmax(dim=1) == labels
    assert scored.details["unseen_labels"] == 31
    assert scored.metrics["accuracy"] == pytest.approx(right.double().mean().item())
    assert scored.details["per_class_accuracy"][4:] == [None, None, 0.0, None, None, 0.0]


def test_multi_label_numbers():
    targets = torch.tensor([[1, 0, 0], [0, 1, 0], [1, -1, 0], [0, 1, 0]]).float()
    scores = torch.tensor([[0.9, 0.1, 0.5], [0.8, 0.7, 0.5], [0.7, 0.9, 0.5], [0.1, 0.8, 0.5]])
    scored = score_predictions(scores, targets, metric="map_11point", seed=0)
    first = (6 + 5 * 2 / 3) / 11
    assert scored.details["per_class_average_precision"] == pytest.approx([first, 1.0, None])
    assert scored.metrics["map_11point"] == pytest.approx((first + 1) / 2)
    assert scored.metrics["mean_average_precision"] == pytest.approx((5 / 6 + 1) / 2)
    assert scored.details["bootstrap_resamples"] == 2000


@pytest.mark.parametrize(
    ("scores", "labels", "metric", "message"),
    [
        (torch.zeros(0, 3), torch.zeros(0).long(), "accuracy", "no test picture to score; give a data set with"),
        (torch.tensor([[0.0, torch.nan]] * 2), torch.zeros(2).long(), "accuracy", r"2 of 2 test pictures .* \(NaN\)"),
        (torch.zeros(2, 3), torch.tensor([0, -1]), "accuracy", "smallest -1; 'accuracy' needs one class number"),
        (torch.zeros(2, 3), torch.zeros(2, 3), "accuracy", r"shape \(2, 3\).*; try map_11point"),
        (
            torch.zeros(2, 3),
            torch.zeros(2).long(),
            "map_11point",
            r"shape \(2,\) beside .*\(2, 3\).*--metric accuracy",
        ),
        (torch.zeros(2, 3), torch.zeros(2, 3), "map_11point", "no class has a positive test picture"),
        (torch.zeros(2, 3), torch.zeros(2).long(), "top1", "unknown metric 'top1'; allowed: accuracy, mean_per"),
    ],
)
def test_bad_predictions(scores, labels, metric, message):
    with pytest.raises(UserInputError, match=message):
        score_predictions(scores, labels, metric=metric, seed=0)


def test_masks_are_scored_together_and_drawn_by_picture():
    generator = torch.Generator().manual_seed(0)
    confusion = torch.randint(50, (40, 3, 3), generator=generator) + 200 * torch.eye(3).long()
    confusion[:, 2], confusion[:, :, 2] = 0, 0  # occurs nowhere
    scored = score_masks(confusion, seed=2, label_names=("sky", "road", "boat"))
    assert scored.primary == "mean_iou"
    assert scored.metrics["mean_iou"] == pytest.approx(mean_iou(confusion.sum(dim=0)))
    assert scored.details["per_class_iou"]["boat"] is None
    draws = np.random.default_rng(seed_for(2, "bootstrap"))
    plain = [mean_iou(confusion[draws.integers(40, size=40)].sum(dim=0)) for _ in range(2000)]
    np.testing.assert_allclose(scored.intervals["mean_iou"], np.quantile(plain, [0.025, 0.975]))
    with pytest.raises(UserInputError, match="2 test pictures have no pixel that counts"):
        score_masks(torch.zeros(2, 3, 3).long(), seed=0, label_names=("a", "b", "c"))


def test_samples_without_a_value_are_left_out():
    interval = bootstrap_statistic(lambda counts: np.where(counts[:, 0] > 0, 0.25, np.nan), 2, seed=0)
    assert interval == (0.25, 0.25)
    assert all(np.isnan(bootstrap_statistic(lambda counts: np.full(len(counts), np.nan), 2, seed=0)))
