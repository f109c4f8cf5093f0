"""The contrastive loss against a loop that reads like the paper, and its corner cases."""

import math

import pytest
import torch
from torch import nn

from synclr_hf.objectives import Features, MultiPositiveObjective
from synclr_hf.objectives.multi_positive import multi_positive_losses


def naive_loss(anchor, candidates, positive, excluded, temperature):
    """Paper eq. 1-3 for one anchor, in plain Python floats."""
    norm = lambda v: [x / math.sqrt(sum(y * y for y in v)) for x in v]  # noqa: E731
    anchor = norm(anchor)
    scores = [math.exp(sum(a * b for a, b in zip(anchor, norm(c), strict=True)) / temperature) for c in candidates]
    total = sum(s for s, out in zip(scores, excluded, strict=True) if not out)
    wanted = [i for i, is_positive in enumerate(positive) if is_positive and not excluded[i]]
    return -sum(math.log(scores[i] / total) / len(wanted) for i in wanted)


def test_equals_the_loop_of_the_paper():
    generator = torch.Generator().manual_seed(0)
    anchors, candidates = torch.randn(9, 5, generator=generator), torch.randn(7, 5, generator=generator)
    anchor_ids, candidate_ids = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2]), torch.tensor([2, 0, 1, 0, 2, 1, 0])
    exclude = torch.rand(9, 7, generator=generator) < 0.2
    losses, counted = multi_positive_losses(
        anchors, candidates, anchor_ids, candidate_ids, temperature=0.08, exclude=exclude
    )
    assert counted.all()
    for i in range(9):
        positive = (candidate_ids == anchor_ids[i]).tolist()
        expected = naive_loss(anchors[i].tolist(), candidates.tolist(), positive, exclude[i].tolist(), 0.08)
        assert losses[i].item() == pytest.approx(expected, rel=1e-5)


def test_hand_placed_vectors():
    # Two candidates at cosine 1 and -1, temperature 1: softmax of (1, -1).
    losses, _ = multi_positive_losses(
        torch.tensor([[3.0, 0.0]]),
        torch.tensor([[0.5, 0.0], [-2.0, 0.0]]),
        torch.tensor([7]),
        torch.tensor([7, 8]),
        temperature=1.0,
    )
    assert losses.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)


def test_anchor_without_a_positive_adds_nothing_and_no_gradient():
    anchors = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    losses, counted = multi_positive_losses(
        anchors, torch.eye(4), torch.tensor([0, 5, 1]), torch.tensor([0, 0, 1, 2]), temperature=0.1
    )
    assert counted.tolist() == [True, False, True]
    losses.sum().backward()
    assert losses[1] == 0 and anchors.grad[1].abs().sum() == 0 and anchors.grad[0].abs().sum() > 0


def test_everything_excluded_is_not_nan():
    anchors = torch.ones(2, 3, requires_grad=True)
    losses, counted = multi_positive_losses(
        anchors,
        torch.ones(2, 3),
        torch.zeros(2, dtype=torch.long),
        torch.zeros(2, dtype=torch.long),
        temperature=0.04,
        exclude=torch.ones(2, 2, dtype=torch.bool),
    )
    losses.sum().backward()
    assert not counted.any() and losses.tolist() == [0, 0] and torch.isfinite(anchors.grad).all()


@pytest.fixture
def objective():
    torch.manual_seed(0)
    return MultiPositiveObjective(6, temperature=0.08, head_hidden_size=8, head_output_size=4)


def batch_of(captions, images):
    ids = torch.arange(captions * images)
    return {"caption_ids": ids // images, "view_ids": ids}


def test_global_anchor_never_meets_its_own_crop_and_local_anchor_does(objective):
    batch = batch_of(captions=2, images=2)
    features = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    local = torch.randn(8, 6, generator=torch.Generator().manual_seed(3))
    targets = objective.targets(Features(features), batch)
    student = {"global": Features(features), "local": Features(local)}
    parts = objective(student, targets, batch)
    keys = nn.functional.normalize(targets["keys"].result(), dim=-1)

    def logits(x):
        return nn.functional.normalize(objective.predictor(objective.projector(x)), dim=-1) @ keys.T / 0.08

    rows = logits(features).masked_fill(torch.eye(4, dtype=torch.bool), -torch.inf).log_softmax(-1)
    other = [1, 0, 3, 2]
    assert parts["contrastive_global"].item() == pytest.approx(-rows[range(4), other].mean().item(), rel=1e-5)
    rows = logits(local).log_softmax(-1).view(2, 4, 2, 2)  # caption of anchor, anchor, caption of candidate, candidate
    expected = -torch.stack([rows[0, :, 0].mean(), rows[1, :, 1].mean()]).mean()
    assert parts["contrastive_local"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert parts["loss"].item() == pytest.approx((parts["contrastive_global"] + parts["contrastive_local"]).item())


def test_order_of_the_rows_does_not_matter(objective):
    batch = batch_of(captions=3, images=2)
    features = torch.randn(6, 6, generator=torch.Generator().manual_seed(4))
    order = torch.tensor([3, 0, 5, 1, 4, 2])

    def loss(rows):
        shuffled = {name: ids[rows] for name, ids in batch.items()}
        stream = Features(features[rows])
        return objective({"global": stream}, objective.targets(stream, shuffled), shuffled)["loss"].item()

    assert loss(order) == pytest.approx(loss(torch.arange(6)), rel=1e-6)


def test_bfloat16_features_are_compared_in_float32(objective):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses, _ = multi_positive_losses(
            torch.randn(2, 4).bfloat16(),
            torch.randn(3, 4),
            torch.tensor([0, 1]),
            torch.tensor([0, 1, 1]),
            temperature=0.1,
        )
    assert losses.dtype == torch.float32
