import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_evaluation import coloured, tiny_context, tiny_encoder

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext, EvaluationData
from synclr_hf.evaluation.protocols.linear_probe import Config, evaluate, linear_probe
from synclr_hf.evaluation.protocols.rate_choice import best_rate, validation_split

CONFIG = Config(base_learning_rates=(0.001, 0.01, 0.1, 1.0), epochs=10, batch_size=64)


def clusters(count, seed, num_classes=6, spread=2.0):
    means = torch.randn(num_classes, 16, generator=torch.Generator().manual_seed(9)) * 3
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (count,), generator=generator)
    return means[labels] + spread * torch.randn(count, 16, generator=generator), labels


def test_the_defaults_are_the_papers():
    config = Config()
    assert config.base_learning_rates == tuple(base / 100 for base in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50))
    assert (config.batch_size, config.epochs, config.augmented) == (1024, 90, False)


def test_separable_classes_are_told_apart():
    train, labels = clusters(400, 0, spread=0.5)
    test, test_labels = clusters(200, 1, spread=0.5)
    result = linear_probe(train, labels, test, seed=0, config=CONFIG)
    assert (result.predictions == test_labels).float().mean() > 0.98
    assert result.base_learning_rate in CONFIG.base_learning_rates


def test_labels_without_relation_give_chance():
    train, _ = clusters(400, 0)
    test, test_labels = clusters(300, 1)
    shuffled = torch.randint(6, (400,), generator=torch.Generator().manual_seed(3))
    result = linear_probe(train, shuffled, test, seed=0, config=CONFIG)
    assert (result.predictions == test_labels).float().mean() < 0.35


def test_same_seed_same_result_and_global_generator_untouched():
    train, labels = clusters(300, 0)
    test, _ = clusters(100, 1)
    state = torch.get_rng_state()
    first = linear_probe(train, labels, test, seed=4, config=CONFIG)
    second = linear_probe(train, labels, test, seed=4, config=CONFIG)
    assert torch.equal(first.scores, second.scores)
    assert first.validation_scores == second.validation_scores
    assert torch.equal(torch.get_rng_state(), state)


def test_scale_of_single_features_does_not_matter():
    train, labels = clusters(300, 0)
    test, _ = clusters(100, 1)
    scales = torch.logspace(-2, 2, 16)
    plain = linear_probe(train, labels, test, seed=0, config=CONFIG)
    scaled = linear_probe(train * scales, labels, test * scales, seed=0, config=CONFIG)
    assert (plain.predictions == scaled.predictions).float().mean() > 0.98


def test_few_rows_and_one_row_a_class():
    features, labels = torch.eye(3), torch.arange(3)
    result = linear_probe(features, labels, features, seed=0, groups=np.arange(3), config=CONFIG)
    assert result.predictions.tolist() == [0, 1, 2]
    assert (result.batch_size, result.steps) == (3, 10)  # one step an epoch with all rows


def test_an_incomplete_last_batch_is_left_out():
    train, labels = clusters(100, 0)
    result = linear_probe(train, labels, train, seed=0, config=replace(CONFIG, batch_size=40))
    assert (result.batch_size, result.steps) == (40, 20)


def test_the_best_rate_is_the_smallest_among_equals_and_never_one_that_diverged():
    assert best_rate([0.3, 0.1, 0.2], [0.5, 0.5, 0.4], [True] * 3) == (0.1, ())
    assert best_rate([0.3, 0.1], [0.9, 0.5], [False, True]) == (0.1, (0.3,))
    with pytest.raises(UserInputError, match="diverged with every base learning rate"):
        best_rate([0.1], [0.9], [False])


def test_a_diverging_rate_is_reported_and_harms_no_other():
    train, labels = clusters(120, 0)
    config = replace(CONFIG, base_learning_rates=(0.1,))
    alone = linear_probe(train, labels, train, seed=0, config=config)
    beside = linear_probe(train, labels, train, seed=0, config=replace(config, base_learning_rates=(0.1, 1e38)))
    assert beside.diverged == (1e38,) and alone.diverged == ()
    assert beside.base_learning_rate == 0.1
    assert beside.validation_scores[0.1] == alone.validation_scores[0.1]
    assert torch.equal(beside.scores, alone.scores)


def test_validation_keeps_groups_whole_and_a_single_example_is_learned_from():
    labels = torch.tensor([0] * 20 + [1] * 20 + [2])
    groups = np.arange(41) // 2
    fit, held_out = validation_split(labels, groups, 0.2, seed=0)
    assert sorted([*fit, *held_out]) == list(range(41)) and 40 in fit
    assert not set(groups[fit]) & set(groups[held_out])
    assert np.bincount(labels[held_out]).tolist() == [4, 4]


def test_a_row_with_several_classes_counts_to_the_rarest():
    labels = torch.zeros(30, 2)
    labels[:, 0] = 1
    labels[:10, 1] = 1
    _, held_out = validation_split(labels, None, 0.2, seed=0)
    assert (held_out < 10).sum() == 2 and len(held_out) == 6


def test_the_protocol_tells_colours_apart_and_says_what_it_chose(caplog):
    context = tiny_context()
    with caplog.at_level(logging.WARNING):
        outcome = evaluate(context, replace(CONFIG, batch_size=1024))
    assert "an epoch is one batch of 60 pictures, so 10 steps in all" in caplog.text
    assert outcome.primary == "accuracy" and outcome.metrics["accuracy"] > 0.9
    rate = outcome.details["base_learning_rate"]
    assert outcome.details["learning_rate"] == rate * 60 / 256
    assert outcome.config["chosen_on"] == "part of train" and outcome.config["num_validation"] == 6
    assert set(outcome.details["validation_scores"]) == {"0.001", "0.01", "0.1", "1.0"}
    assert outcome.details["chosen_at_edge"] == (rate in (0.001, 1.0))
    assert 0 < outcome.details["train_loss"] < np.log(3)
    assert outcome.details["diverged_base_learning_rates"] == []


def test_test_pictures_of_classes_without_a_train_picture_are_counted():
    whole, test = coloured(60, 0), coloured(30, 1)
    train = whole.rows(np.flatnonzero(whole.labels != 1))  # a class below the largest one
    outcome = evaluate(tiny_context(tiny_encoder(model=None), train=train), CONFIG)
    assert outcome.details["unseen_labels"] == (test.labels == 1).sum() == 10
    assert outcome.metrics["accuracy"] == pytest.approx(2 / 3)


def test_a_sweep_that_ends_too_early_says_so(caplog):
    too_small = replace(CONFIG, base_learning_rates=(1e-50, 0.1), epochs=2, batch_size=60)  # the first learns nothing
    with caplog.at_level(logging.WARNING):
        outcome = evaluate(tiny_context(train=coloured(120, 0)), too_small)
    assert outcome.details["base_learning_rate"] == 0.1 and outcome.details["chosen_at_edge"]
    assert "the largest base learning rate, 0.1, was best; add larger ones" in caplog.text


def test_raw_pixels_and_a_validation_split():
    data = EvaluationData("coloured", coloured(60, 0), coloured(30, 1), coloured(12, 2))
    outcome = evaluate(EvaluationContext(tiny_encoder(model=None), data), CONFIG)
    assert outcome.metrics["accuracy"] > 0.9
    assert outcome.config["chosen_on"] == "validation split" and outcome.config["num_validation"] == 12
    assert "validation_fraction" not in outcome.config


def test_the_layer_learns_from_the_validation_rows_too():
    train, labels = clusters(80, 0)
    config = replace(CONFIG, base_learning_rates=(0.1,), batch_size=80)
    drawn = linear_probe(train, labels, train, seed=0, config=config)
    given = linear_probe(train, labels, train, seed=0, config=config, validation_rows=np.arange(40))
    assert given.num_validation == 40 and torch.equal(given.scores, drawn.scores)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_learning_rates": ()}, "linear.base_learning_rates is .*different numbers above 0"),
        ({"base_learning_rates": (0.1, 0.1)}, "linear.base_learning_rates is .*different numbers above 0"),
        ({"epochs": 0}, "linear.epochs is 0; allowed: 1 or more; type linear.epochs=90"),
        ({"batch_size": 1}, "linear.batch_size is 1; allowed: 2 or more"),
        ({"validation_fraction": 1.0}, "linear.validation_fraction is 1.0; allowed: between 0 and 1"),
        ({"crop_scale": (0.5, 0.1)}, "linear.crop_scale is .*smaller first"),
        ({"flip_probability": 2}, "linear.flip_probability is 2; allowed: 0 to 1"),
    ],
)
def test_settings_that_cannot_be_used_say_so(settings, message):
    with pytest.raises(UserInputError, match=message):
        Config(**settings)


def test_features_that_are_not_finite_say_so():
    features = torch.ones(4, 2)
    features[1, 0] = torch.nan
    with pytest.raises(UserInputError, match="the features of 1 of 4 train pictures hold values that are not finite"):
        linear_probe(features, torch.arange(4), torch.ones(2, 2), seed=0)


def test_a_rate_that_diverges_on_all_rows_only_is_not_taken():
    features, labels = clusters(40, 0)
    config = replace(CONFIG, base_learning_rates=(1e-50, 1.2e37))  # finite on 20 rows a step, infinite on 40
    result = linear_probe(features, labels, features, seed=0, config=config, validation_rows=np.arange(20))
    assert result.validation_scores[1.2e37] > result.validation_scores[1e-50]
    assert result.base_learning_rate == 1e-50 and result.diverged == (1.2e37,)


def test_a_single_picture_says_so():
    with pytest.raises(UserInputError, match="the linear probe would learn from 1 pictures; needed: 2 or more"):
        linear_probe(torch.ones(1, 2), torch.zeros(1, dtype=torch.int64), torch.ones(1, 2), seed=0)
