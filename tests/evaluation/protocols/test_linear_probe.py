import numpy as np
import torch

from synclr_hf.evaluation.protocols.linear_probe import Config, linear_probe

CONFIG = Config(epochs=20, batch_size=64)


def clusters(count, seed, num_classes=6, spread=2.0):
    means = torch.randn(num_classes, 16, generator=torch.Generator().manual_seed(9)) * 3
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (count,), generator=generator)
    return means[labels] + spread * torch.randn(count, 16, generator=generator), labels


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
    assert torch.equal(first.predictions, second.predictions)
    assert first.validation_scores == second.validation_scores
    assert torch.equal(torch.get_rng_state(), state)


def test_parallel_heads_equal_a_head_trained_alone():
    train, labels = clusters(300, 0)
    test, _ = clusters(100, 1)
    together = linear_probe(train, labels, test, seed=0, config=Config((0.01, 0.1), 5, 64))
    for rate in (0.01, 0.1):
        alone = linear_probe(train, labels, test, seed=0, config=Config((rate,), 5, 64))
        assert alone.validation_scores[rate] == together.validation_scores[rate]


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
