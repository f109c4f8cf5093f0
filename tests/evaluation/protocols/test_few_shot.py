import dataclasses

import numpy as np
import pytest
import torch

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.protocols.few_shot import Config, draw_shots, evaluate
from synclr_hf.evaluation.protocols.logistic import fit_logistic
from tests.evaluation.protocols.test_logistic import clusters, context_of
from tests.tiny_evaluation import tiny_context


def test_draws_so_many_of_each_class_all_of_a_smaller_one_and_repeats():
    labels = np.array([0] * 10 + [1] * 3 + [2])
    rows = draw_shots(labels, np.arange(14), 5, seed=1)
    assert np.bincount(labels[rows]).tolist() == [5, 3, 1] and (np.diff(rows) > 0).all()
    assert rows.tolist() == draw_shots(labels, np.arange(14), 5, seed=1).tolist()
    assert set(draw_shots(labels, np.arange(14), 2, seed=1)) < set(rows)
    drawn = [draw_shots(labels, np.arange(14), 1, seed=seed)[0] for seed in range(200)]
    assert set(drawn) == set(range(10))


def test_pictures_of_different_groups_come_first():
    labels, groups = np.zeros(9, dtype=np.int64), np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    for seed in range(20):
        assert sorted(groups[draw_shots(labels, groups, 3, seed=seed)]) == [0, 1, 2]
        assert sorted(groups[draw_shots(labels, groups, 6, seed=seed)]) == [0, 0, 1, 1, 2, 2]


def test_mean_over_draws_equals_fits_one_by_one():
    train, test = clusters(100, 0, noise=1.5), clusters(80, 1, noise=1.5)
    context = context_of(train, test, seed=2)
    outcome = evaluate(context, Config(draws=3, shots=(1, 5)))
    assert outcome.primary == "accuracy_5shot" and set(outcome.metrics) == {"accuracy_1shot", "accuracy_5shot"}
    for k in (1, 5):
        values = outcome.details["draws"][str(k)]
        assert outcome.metrics[f"accuracy_{k}shot"] == pytest.approx(np.mean(values))
        assert outcome.details["standard_deviation"][str(k)] == pytest.approx(np.std(values, ddof=1))
        low, high = outcome.intervals[f"accuracy_{k}shot"]
        # at least as wide as the t interval over three draws and as that of 80 pictures
        p = np.mean(values)
        assert high - low >= 2 * 4.303 * np.std(values, ddof=1) / 3**0.5 - 1e-9 or (low, high)[0] == 0 or high == 1
        assert high - low > 3 * (p * (1 - p) / 80) ** 0.5
    assert outcome.details["pictures"] == {"1": 5, "5": 25}
    assert outcome.metrics["accuracy_5shot"] > outcome.metrics["accuracy_1shot"] > 0.2
    again = evaluate(context, Config(draws=3, shots=(1, 5)))
    assert again.metrics == outcome.metrics and again.intervals == outcome.intervals


def test_all_pictures_are_drawn_where_a_class_has_no_more():
    train, test = clusters(20, 0), clusters(50, 1)
    outcome = evaluate(context_of(train, test), Config(draws=2, shots=(5,), l2=0.5))
    (fit,) = fit_logistic(*train, [0.5])
    accuracy = (fit.scores(test[0], 5).argmax(dim=1) == test[1]).double().mean().item()
    assert outcome.metrics["accuracy_5shot"] == pytest.approx(accuracy)
    assert outcome.details["classes_with_fewer_pictures"] == {"5": 5}
    assert outcome.details["pictures"] == {"5": 20}


def test_unseen_class_is_counted_and_the_benchmarks_metric_is_used():
    train, test = clusters(50, 0, noise=0.1), clusters(50, 1, noise=0.1)
    kept = train[1] != 4
    context = context_of((train[0][kept], train[1][kept]), test, metric="mean_per_class_accuracy", num_classes=5)
    outcome = evaluate(context, Config(draws=2, shots=(5,)))
    assert outcome.primary == "mean_per_class_accuracy_5shot"
    assert outcome.metrics[outcome.primary] == pytest.approx(0.8)
    assert outcome.details["unseen_labels"] == 10


def test_pictures_through_an_encoder():
    assert evaluate(tiny_context(), Config(draws=2)).metrics["accuracy_10shot"] == 1.0


def test_bad_input_is_refused_with_what_to_do():
    with pytest.raises(UserInputError, match="leave few_shot out of --protocols"):
        evaluate(tiny_context(metric="map_11point"), Config())
    with pytest.raises(UserInputError, match="all of one class"):
        train = clusters(20, 0)[0], torch.zeros(20, dtype=torch.int64)
        evaluate(context_of(train, clusters(20, 1)), Config(draws=2))
    for wrong in ({"shots": (0, 1)}, {"draws": 1}, {"draws": 11}, {"l2": 0.0}):
        with pytest.raises(UserInputError, match="type few_shot"):
            dataclasses.replace(Config(), **wrong)
