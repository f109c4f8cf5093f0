import math

import pytest
import torch
import torch.nn.functional as F

from synclr_hf.evaluation.protocols.parallel_heads import HeadTraining, head_losses, validation_scores
from synclr_hf.evaluation.scoring import score_predictions


def batches(count=6, multi_label=False):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        features = torch.randn(16, 5, generator=generator)
        labels = torch.randint(3, (16,), generator=generator)
        yield features + labels[:, None], F.one_hot(labels, 3).float() if multi_label else labels


def trained(rates, multi_label=False):
    training = HeadTraining(5, 3, rates, batch_size=16, total_steps=6)
    training.start_epoch()
    for features, labels in batches(multi_label=multi_label):
        training.step(features, labels)
    return training


@pytest.mark.parametrize("multi_label", [False, True])
def test_heads_side_by_side_learn_what_each_learns_alone(multi_label):
    rates = (0.1, 1.0, 10.0)
    together = trained(rates, multi_label)
    weights = together.heads.weight.unflatten(1, (3, 3))
    for place, rate in enumerate(rates):
        alone = trained((rate,), multi_label)
        torch.testing.assert_close(weights[:, place], alone.heads.weight, rtol=1e-5, atol=1e-6)
        assert together.train_losses()[place] == pytest.approx(alone.train_losses()[0], rel=1e-5)


def test_a_head_is_plain_sgd_behind_plain_batch_norm():
    norm, layer = torch.nn.BatchNorm1d(5, affine=False, eps=1e-6), torch.nn.Linear(5, 3)
    torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=2.0 * 16 / 256, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
    for features, labels in batches():
        optimizer.zero_grad()
        F.cross_entropy(layer(norm(features)), labels).backward()
        optimizer.step()
        schedule.step()
    heads = trained((2.0,)).heads
    torch.testing.assert_close(heads.weight, layer.weight.T)
    torch.testing.assert_close(heads.bias, layer.bias)
    torch.testing.assert_close(heads.norm.running_var, norm.running_var)


def test_a_diverging_head_does_no_harm():
    beside, alone = trained((1.0, 1e38)), trained((1.0,))
    assert beside.finite() == [True, False] and alone.finite() == [True]
    torch.testing.assert_close(beside.heads.weight[:, :3], alone.heads.weight)


def test_losses_are_those_of_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(4, 2, 3, generator=generator), torch.tensor([0, 2, 1, 1])
    classes = [F.cross_entropy(logits[:, head], labels) for head in range(2)]
    torch.testing.assert_close(head_losses(logits, labels), torch.stack(classes))
    hot = torch.randint(2, (4, 3), generator=generator).float()
    binary = [3 * F.binary_cross_entropy_with_logits(logits[:, head], hot) for head in range(2)]
    torch.testing.assert_close(head_losses(logits, hot), torch.stack(binary))
    hot[0, 1], hot[2, 0] = -1, torch.nan  # counts for nothing
    losses = F.binary_cross_entropy_with_logits(logits, hot.nan_to_num(0)[:, None].expand(-1, 2, -1), reduction="none")
    losses[0, :, 1] = losses[2, :, 0] = 0
    torch.testing.assert_close(head_losses(logits, hot), losses.sum(dim=2).mean(dim=0))


def test_predictions_and_scores_agree_and_are_scored():
    training = trained((0.1, 1.0))
    features, labels = next(batches(1))
    predicted = training.heads.predict(features)
    for head in range(2):
        assert torch.equal(training.heads.scores(features, head).argmax(dim=1), predicted[head])
    expected = [(predicted[head] == labels).double().mean().item() for head in range(2)]
    assert validation_scores(training.heads, features, labels, "accuracy", [True, True]) == expected
    marked = validation_scores(training.heads, features, labels, "accuracy", [False, True])
    assert math.isnan(marked[0]) and marked[1] == expected[1]


@pytest.mark.parametrize("metric", ["accuracy", "mean_per_class_accuracy", "map_11point"])
def test_a_head_is_chosen_by_the_number_that_is_reported(metric):
    multi_label = metric == "map_11point"
    training = trained((0.1, 1.0), multi_label)
    features, labels = next(batches(1, multi_label))
    scores = [training.heads.scores(features, head) for head in range(2)]
    reported = [score_predictions(one, labels, metric=metric, seed=0).metrics[metric] for one in scores]
    assert validation_scores(training.heads, features, labels, metric, [True, True]) == reported
    if multi_label:  # no class has a positive row
        assert validation_scores(training.heads, features, labels * 0, metric, [True, True]) == [0.0, 0.0]


def test_a_training_goes_on_where_its_state_was_taken():
    whole, first, second = trained((0.1, 1.0)), *(HeadTraining(5, 3, (0.1, 1.0), batch_size=16, total_steps=6),) * 2
    second = HeadTraining(5, 3, (0.1, 1.0), batch_size=16, total_steps=6)
    first.start_epoch()
    for place, (features, labels) in enumerate(batches()):
        if place == 3:
            second.load_state_dict(first.state_dict())
            second.heads.train()
        (first if place < 3 else second).step(features, labels)
    assert torch.equal(second.heads.weight, whole.heads.weight)
    assert second.train_losses() == whole.train_losses()
