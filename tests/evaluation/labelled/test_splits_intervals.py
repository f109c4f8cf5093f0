import numpy as np

from synclr_hf.evaluation.intervals import bootstrap_interval
from synclr_hf.evaluation.labelled.splits import stratified_group_split


def test_groups_are_never_separated_and_classes_stay_in_proportion():
    groups = np.repeat(np.arange(90), 4)
    labels = np.repeat(np.arange(90) % 9, 4)
    order = np.random.default_rng(0).permutation(360)
    first, second = stratified_group_split(labels[order], groups[order], held_out=1 / 3, seed=1)
    assert sorted([*first, *second]) == list(range(360))
    assert not set(groups[order][first]) & set(groups[order][second])
    assert np.bincount(labels[order][second]).tolist() == [12] * 9


def test_split_depends_on_the_seed_only():
    labels = np.repeat(np.arange(5), 20)
    splits = [stratified_group_split(labels, np.arange(100), held_out=0.3, seed=seed)[1] for seed in (1, 1, 2)]
    assert np.array_equal(splits[0], splits[1])
    assert not np.array_equal(splits[0], splits[2])


def test_single_group_of_a_class_is_kept_for_training():
    first, second = stratified_group_split(np.array([0, 1, 1]), np.arange(3), held_out=0.9, seed=0)
    assert 0 in first and len(second) == 1


def test_interval_is_near_the_normal_approximation():
    correct = np.random.default_rng(0).random(1000) < 0.4
    low, high = bootstrap_interval(correct, seed=0)
    half = 1.96 * np.sqrt(correct.mean() * (1 - correct.mean()) / 1000)
    assert abs(low - (correct.mean() - half)) < 0.006 and abs(high - (correct.mean() + half)) < 0.006
    assert (low, high) == bootstrap_interval(correct, seed=0)


def test_interval_is_wider_where_pictures_come_in_groups():
    captions = np.random.default_rng(0).random(250) < 0.4
    correct, groups = np.repeat(captions, 4), np.repeat(np.arange(250), 4)
    alone, grouped = bootstrap_interval(correct, seed=0), bootstrap_interval(correct, groups, seed=0)
    ratio = (grouped[1] - grouped[0]) / (alone[1] - alone[0])
    assert 1.7 < ratio < 2.3  # four equal answers count as one: sqrt(4)
