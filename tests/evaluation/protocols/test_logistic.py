import dataclasses
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext, EvaluationData
from synclr_hf.evaluation.encoding.features import FeatureTable
from synclr_hf.evaluation.labelled.splits import stratified_group_split
from synclr_hf.evaluation.protocols import lbfgs, logistic, logistic_problem
from synclr_hf.evaluation.protocols.lbfgs import Path as L2Path
from synclr_hf.evaluation.protocols.lbfgs import solve_paths
from synclr_hf.evaluation.protocols.logistic import L2_VALUES, Config, evaluate, fit_logistic
from synclr_hf.evaluation.protocols.logistic_problem import LogisticProblems, principal_axes
from tests.tiny_evaluation import tiny_context, tiny_encoder


def clusters(count, seed, *, num_classes=5, width=12, noise=1.0):
    """Classes around means; dimensions correlated, of very different scale and mean."""
    fixed = torch.Generator().manual_seed(7)
    means = torch.randn(num_classes, width, generator=fixed)
    mixing = torch.randn(width, width, generator=fixed) * torch.logspace(0, -2, width)
    shift = 10 * torch.randn(width, generator=fixed)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % num_classes
    features = means[labels] + noise * torch.randn(count, width, generator=generator)
    return features @ mixing + shift, labels


def several_labels(count, seed):
    """Three classes a picture can have, of different frequency."""
    features, _ = clusters(count, seed)
    standard = (features - features.mean(0)) / features.std(0)
    noise = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed + 1))
    return features, (standard[:, :3] + 0.5 * noise > torch.tensor([0.0, 0.5, 1.0])).float()


def context_of(train, test, *, validation=None, metric="accuracy", groups=None, num_classes=None, seed=0):
    """A context whose features are given."""
    parts = {"train": train, "test": test} | ({"validation": validation} if validation else {})
    sides = {}
    for side, (features, labels) in parts.items():
        own = torch.arange(len(labels)) if groups is None or side != "train" else groups
        width = labels.shape[1] if labels.dim() == 2 else num_classes or int(labels.max()) + 1
        names = tuple(str(number) for number in range(width))
        sides[side] = FeatureTable(features, labels, own, torch.arange(len(labels)), names)
    data = EvaluationData("tables", *(sides.get(side) for side in ("train", "test", "validation")), metric=metric)
    return EvaluationContext(tiny_encoder(model=None), data, seed=seed, _tables=sides)


def scikit_learn(features, labels, l2):
    features = features.double().numpy()
    standard = (features - features.mean(0)) / features.std(0)
    return LogisticRegression(C=1 / l2, tol=1e-12, max_iter=5000).fit(standard, labels.numpy()), standard


def test_equals_scikit_learn_with_strong_and_weak_regularisation():
    features, labels = clusters(150, 0)
    test, _ = clusters(200, 1)
    mean, scale = features.double().mean(0), features.double().std(0, unbiased=False)
    for found in fit_logistic(features, labels, (1e5, 1.0, 1e-6)):
        reference, _ = scikit_learn(features, labels, found.l2)
        coefficients, bias = found.axes.coefficients(found.weights)
        scale_of = np.abs(reference.coef_).max()
        np.testing.assert_allclose(coefficients, reference.coef_, atol=2e-3 * scale_of)
        np.testing.assert_allclose(bias - bias.mean(), reference.intercept_, atol=2e-3 * max(scale_of, 1e-2))
        probabilities = found.scores(test, 5).softmax(dim=1)
        np.testing.assert_allclose(
            probabilities, reference.predict_proba(((test.double() - mean) / scale).numpy()), atol=1e-2
        )
        assert found.converged and found.gap < 1e-9


def test_float64_reaches_the_smallest_value_that_scikit_learn_finds_or_a_smaller_one():
    features, labels = clusters(150, 0)
    for found in fit_logistic(features.double(), labels, (10.0, 1e-4), tolerance=1e-14):
        reference, standard = scikit_learn(features, labels, found.l2)
        own, bias = found.axes.coefficients(found.weights)
        values = []
        for weights, shift in ((own.numpy(), bias.numpy()), (reference.coef_, reference.intercept_)):
            logits = torch.from_numpy(standard @ weights.T + shift)
            loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            values.append(loss + found.l2 / 2 * float((weights**2).sum()))
        assert values[0] <= values[1] * (1 + 1e-9)
        np.testing.assert_allclose(own, reference.coef_, rtol=1e-3, atol=1e-4 * np.abs(reference.coef_).max())


def test_float32_is_within_1e_6_of_the_optimum_from_the_largest_to_the_smallest_value(monkeypatch):
    features, labels = clusters(150, 0)
    exact = {found.l2: found for found in fit_logistic(features, labels, L2_VALUES[::4], tolerance=1e-12)}
    monkeypatch.setattr(logistic, "_IN_FLOAT64", 0)
    for found in fit_logistic(features, labels, L2_VALUES[::4]):
        problems = LogisticProblems(found.axes.turned(features).double(), labels, 5)
        values = []
        for fit in (found, exact[found.l2]):
            coefficients, bias = (part.double() for part in fit.axes.coefficients(fit.weights))
            turned = torch.cat([coefficients @ found.axes.axes.double(), bias[:, None]], dim=1)
            values.append(value_of(problems, turned, found.l2))
        assert found.weights.dtype == torch.float32
        assert values[0] / values[1] - 1 < 1e-6
        assert found.converged


def value_of(problems, weights, l2):
    l2, which = torch.tensor([l2], dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    return problems.evaluate(weights[None], l2, which)[0].item()


def test_paths_side_by_side_equal_one_by_one():
    features, labels = clusters(120, 0)
    problems = LogisticProblems(principal_axes(features).turned(features).double(), labels, 5)
    values = L2_VALUES[-1:8:-4]
    together = solve_paths(problems, [L2Path(0, values[start : start + 3]) for start in range(0, len(values), 3)])
    found = {solution.l2: solution for solution in together}
    assert set(found) == set(values)
    for l2 in values:
        (alone,) = solve_paths(problems, [L2Path(0, (l2,))])
        assert found[l2].converged and alone.converged
        assert found[l2].value == pytest.approx(alone.value, rel=1e-7)
        assert (found[l2].weights - alone.weights).abs().max() < 1e-3 * alone.weights.abs().max()


def test_several_classes_a_picture_equal_binary_regressions_of_scikit_learn():
    features, labels = several_labels(150, 0)
    for found in fit_logistic(features, labels, (10.0, 0.1)):
        coefficients, bias = found.axes.coefficients(found.weights)
        for column in range(3):
            reference, _ = scikit_learn(features, labels[:, column], found.l2)
            np.testing.assert_allclose(coefficients[column], reference.coef_[0], atol=1e-3)
            assert bias[column].item() == pytest.approx(reference.intercept_[0], abs=1e-3)


def test_pictures_that_count_for_nothing_in_a_class_are_left_out_of_its_regression():
    features, labels = several_labels(150, 0)
    marked = labels.clone()
    marked[::3, 1] = -1.0
    marked[1::10, 2] = torch.nan
    axes = principal_axes(features)
    (found,) = fit_logistic(features, marked, (1.0,))
    for column, kept in ((1, marked[:, 1] >= 0), (2, marked[:, 2] >= 0)):
        problems = LogisticProblems(axes.turned(features[kept]).double(), labels[kept][:, [column]])
        (alone,) = solve_paths(problems, [L2Path(0, (1.0,))])
        torch.testing.assert_close(found.weights[[column]], alone.weights, atol=1e-3, rtol=1e-3)


def test_small_blocks_of_rows_change_nothing(monkeypatch):
    features, labels = clusters(150, 0)
    axes = principal_axes(features.double())
    problems = LogisticProblems(axes.turned(features.double()), labels, 5)
    weights = torch.randn(2, 5, axes.axes.shape[1] + 1, generator=torch.Generator().manual_seed(0)).double()
    l2, which = torch.tensor([1.0, 0.1], dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    whole = problems.evaluate(weights, l2, which, curvature=True)
    monkeypatch.setattr(logistic_problem, "_LOGITS_AT_ONCE", {"cpu": 1})
    monkeypatch.setattr(logistic_problem, "_ROWS_AT_ONCE", {"cpu": 64})
    for expected, found in zip(whole, problems.evaluate(weights, l2, which, curvature=True), strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        principal_axes(features.double()).turned(features.double()).abs().sum(0),
        axes.turned(features.double()).abs().sum(0),
    )


@pytest.mark.parametrize("kind", ["one class", "several classes"])
def test_gradient_and_curvature_are_the_derivatives(kind):
    features, labels = clusters(40, 0) if kind == "one class" else several_labels(40, 0)
    turned = principal_axes(features.double()).turned(features.double())
    problems = LogisticProblems(turned, labels, 5)
    which = torch.arange(problems.num_problems)
    weights = torch.randn(len(which), problems.num_classes, 13, generator=torch.Generator().manual_seed(0)).double()
    l2 = torch.full((len(which),), 0.3, dtype=torch.float64)
    value, gradient, curvature = problems.evaluate(weights, l2, which, curvature=True)
    slope = torch.zeros_like(weights)
    for place in ((0, 0, 3), (0, 0, 12), (len(which) - 1, problems.num_classes - 1, 1)):
        slope.zero_()[place] = 1e-4
        up, up_gradient, _ = problems.evaluate(weights + slope, l2, which)
        down, down_gradient, _ = problems.evaluate(weights - slope, l2, which)
        assert ((up - down).sum() / 2e-4).item() == pytest.approx(gradient[place].item(), rel=1e-5)
        second = (up_gradient - down_gradient)[place] / 2e-4 - (0.3 if place[2] < 12 else 0.0)
        assert second.item() == pytest.approx(curvature[place].item(), rel=1e-5)


def test_certain_predictions_make_no_subnormal_numbers_and_no_infinities():
    features, labels = clusters(30, 0)
    problems = LogisticProblems(principal_axes(features).turned(features), labels, 5)
    weights = 1e4 * torch.randn(1, 5, 13, generator=torch.Generator().manual_seed(0))
    logits = (weights[0] @ problems.features.T)[None]
    value = torch.zeros(1, dtype=torch.float64)
    residual = logistic_problem._softmax_residual(logits.clone(), labels, value)
    tiny = torch.finfo(torch.float32).tiny
    assert ((residual == 0) | (residual.abs() >= tiny)).all() and residual.isfinite().all()
    exact = torch.nn.functional.cross_entropy(logits[0].T.double(), labels, reduction="sum").item()
    assert value.item() == pytest.approx(exact, rel=1e-6)


def test_more_dimensions_than_pictures_and_constant_dimensions():
    features, labels = clusters(24, 0, width=40, num_classes=3)
    features[:, 5] = 0.1
    axes = principal_axes(features)
    assert axes.axes.shape == (40, 23) and axes.scale[5] == 1.0
    torch.testing.assert_close(axes.axes.T @ axes.axes, torch.eye(23), atol=1e-5, rtol=0)
    (found,) = fit_logistic(features.double(), labels, (1.0,), tolerance=1e-13)
    spread = features.std(0, unbiased=False).double()
    spread[5] = 1.0
    standard = (features.double() - features.double().mean(0)) / spread
    reference = LogisticRegression(C=1.0, tol=1e-12, max_iter=5000).fit(standard.numpy(), labels.numpy())
    np.testing.assert_allclose(found.axes.coefficients(found.weights)[0], reference.coef_, atol=1e-5)


def test_bounds_on_iterations_and_precision_are_told_not_hidden():
    features, labels = clusters(150, 0)
    (short,) = fit_logistic(features, labels, (1e-4,), max_iterations=3)
    assert short.iterations == 3 and not short.converged and short.gap > 1e-9
    (deepest,) = fit_logistic(features, labels, (1e-4,), tolerance=1e-30)
    assert deepest.gap < 1e-15 and deepest.iterations < lbfgs.MAX_ITERATIONS


def test_value_is_chosen_on_the_validation_pictures_and_the_fit_uses_all():
    train, test, validation = clusters(60, 0, noise=2), clusters(200, 1, noise=2), clusters(100, 2, noise=2)
    outcome = evaluate(context_of(train, test, validation=validation), Config(l2_values=(1e-2, 10.0, 1e4)))
    details = outcome.details
    expected = []
    for l2 in (1e4, 10.0, 1e-2):
        model, standard = scikit_learn(*train, l2)
        mean, scale = train[0].double().mean(0), train[0].double().std(0, unbiased=False)
        expected.append(
            float((model.predict(((validation[0] - mean) / scale).numpy()) == validation[1].numpy()).mean())
        )
    assert details["l2_values"] == [1e4, 10.0, 1e-2]
    assert details["validation_scores"] == expected
    assert details["chosen_l2"] == [1e4, 10.0, 1e-2][int(np.argmax(expected))] and details["chosen_on"] == "validation"
    both = torch.cat([train[0], validation[0]]), torch.cat([train[1], validation[1]])
    model, _ = scikit_learn(*both, details["chosen_l2"])
    mean, scale = both[0].double().mean(0), both[0].double().std(0, unbiased=False)
    accuracy = (model.predict(((test[0] - mean) / scale).numpy()) == test[1].numpy()).mean()
    assert outcome.metrics["accuracy"] == pytest.approx(accuracy, abs=1e-9)
    assert outcome.intervals["accuracy"][0] < accuracy < outcome.intervals["accuracy"][1]
    assert details["last_fit"]["num_pictures"] == 160 and details["not_converged"] == []


def test_without_a_validation_split_a_part_of_train_is_held_out_in_whole_groups():
    train, test = clusters(100, 0, noise=2), clusters(100, 1, noise=2)
    groups = torch.arange(100) // 10 * 5 + torch.arange(100) % 5  # two pictures of a class each
    config = Config(l2_values=(1e3, 1.0))
    outcome = evaluate(context_of(train, test, groups=groups, seed=3), config)
    fit, held_out = stratified_group_split(
        train[1].numpy(), groups.numpy(), held_out=0.2, seed=seed_for(3, "logistic split")
    )
    assert not set(groups[fit].tolist()) & set(groups[held_out].tolist())
    rows = (train[0][fit], train[1][fit]), (train[0][held_out], train[1][held_out])
    explicit = evaluate(context_of(rows[0], test, validation=rows[1], seed=3), config)
    assert outcome.details["validation_scores"] == explicit.details["validation_scores"]
    assert (outcome.details["num_fitted"], outcome.details["num_validation"]) == (80, 20)
    assert outcome.metrics == pytest.approx(explicit.metrics)
    assert outcome.details["chosen_on"] == "part of train" and outcome.config["validation_fraction"] == 0.2


def test_among_equal_scores_the_largest_l2_wins():
    train, test = clusters(100, 0, noise=0.01), clusters(50, 1, noise=0.01)
    outcome = evaluate(context_of(train, test), Config(l2_values=(0.01, 0.1, 1.0)))
    assert outcome.details["validation_scores"] == [1.0, 1.0, 1.0]
    assert outcome.details["chosen_l2"] == 1.0 and outcome.details["at_edge_of_grid"]


def test_benchmark_with_several_classes_a_picture():
    train, test = several_labels(150, 0), several_labels(100, 1)
    outcome = evaluate(context_of(train, test, metric="map_11point"), Config(l2_values=(1e4, 1.0)))
    assert outcome.primary == "map_11point" and outcome.metrics["map_11point"] > 0.8
    lonely = train[1].clone()
    lonely[:, 2] = 0.0
    outcome = evaluate(context_of((train[0], lonely), test, metric="map_11point"), Config(l2_values=(1.0,)))
    assert outcome.details["unseen_labels"] == int((test[1][:, 2] > 0).sum())


def test_a_class_unseen_in_training_counts_as_wrong_and_one_picture_of_a_class_is_enough():
    train, test = clusters(100, 0, noise=0.1), clusters(50, 1, noise=0.1)
    kept = (train[1] != 2) & ((train[1] != 3) | (torch.arange(100) == 3))  # none of class 2, one of class 3
    last = torch.where(torch.arange(50) == 0, 9, test[1])  # beyond every train label
    context = context_of((train[0][kept], train[1][kept]), (test[0], last), num_classes=5)
    outcome = evaluate(context, Config(l2_values=(0.1,)))
    assert outcome.details["unseen_labels"] == 11
    assert outcome.metrics["accuracy"] == 39 / 50
    single = clusters(5, 0, noise=0.1)
    outcome = evaluate(context_of(single, test), Config(l2_values=(1.0, 0.1)))
    assert outcome.details["chosen_on"] == "train" and outcome.metrics["accuracy"] == 1.0
    assert outcome.details["last_fit"]["num_pictures"] == 5


def test_pictures_through_an_encoder():
    outcome = evaluate(tiny_context(), Config(l2_values=(1.0, 100.0)))
    assert outcome.metrics["accuracy"] == 1.0
    assert outcome.config["l2_values"] == [1.0, 100.0] and outcome.config["max_iterations"] == 1000


def test_bad_input_is_refused_with_what_to_do():
    train, test = clusters(20, 0), clusters(20, 1)
    broken = train[0].clone()
    broken[3, 2] = math.nan
    with pytest.raises(UserInputError, match="features of 1 of 20 train pictures hold NaN"):
        evaluate(context_of((broken, train[1]), test), Config())
    with pytest.raises(UserInputError, match="all of one class.*more classes"):
        evaluate(context_of((train[0], torch.zeros(20, dtype=torch.int64)), test), Config())
    with pytest.raises(UserInputError, match="test side of tables is empty"):
        evaluate(context_of(train, (test[0][:0], test[1][:0]), num_classes=5), Config())
    with pytest.raises(UserInputError, match="one class each.*type --metric accuracy"):
        evaluate(context_of(train, test, metric="map_11point"), Config())
    for wrong in ({"l2_values": ()}, {"l2_values": (0.0, 1.0)}, {"validation_fraction": 1.0}, {"tolerance": 0.0}):
        with pytest.raises(UserInputError, match="type logistic"):
            dataclasses.replace(Config(), **wrong)


def test_the_45_values_are_those_of_the_reference():
    np.testing.assert_allclose(L2_VALUES, np.logspace(-6, 5, 45))
    assert logistic.Config().l2_values == L2_VALUES


@pytest.mark.parametrize("kind", ["one class", "several classes"])
def test_a_fit_to_similar_pictures_is_a_good_start_and_changes_no_optimum(kind):
    features, labels = clusters(150, 0) if kind == "one class" else several_labels(150, 0)
    part = torch.arange(150) % 5 != 4 if kind == "one class" else torch.arange(150) < 120
    (before,) = fit_logistic(features[part], labels[part], [1.0])  # one class fewer, where there is one a picture
    (cold,) = fit_logistic(features, labels, [1.0], tolerance=1e-12)
    (warm,) = fit_logistic(features, labels, [1.0], tolerance=1e-12, start=before)
    torch.testing.assert_close(warm.weights, cold.weights, atol=1e-4, rtol=1e-4)
    test, _ = clusters(50, 1)
    moved = before.moved(cold.axes, before.classes)
    expected = before.axes.turned(test.double()) @ before.weights.T
    torch.testing.assert_close(cold.axes.turned(test.double()) @ moved.T, expected, atol=1e-3, rtol=1e-3)
    (again,) = fit_logistic(features, labels, [1.0], tolerance=1e-9, start=cold)
    assert again.iterations <= 1


def test_a_class_that_only_the_validation_pictures_have_is_learned_in_the_end():
    train, test = clusters(80, 0, noise=0.1), clusters(50, 1, noise=0.1)
    kept = train[1] != 4
    outcome = evaluate(
        context_of((train[0][kept], train[1][kept]), test, validation=clusters(50, 2, noise=0.1)),
        Config(l2_values=(0.1, 1.0)),
    )
    assert outcome.details["validation_scores"] == [0.8, 0.8]
    assert outcome.metrics["accuracy"] == 1.0 and outcome.details["unseen_labels"] == 0
