"""The family by configuration alone: StableRep, SimCLR, supervised contrast, supervised cross-entropy."""

import pytest
import torch
from torch import nn

from synclr_hf.errors import UserInputError
from synclr_hf.objectives import CrossEntropyObjective, Features, MultiPositiveObjective

SMALL = {"head_hidden_size": 8, "head_output_size": 4}


def batch():
    """Three captions of two pictures of two crops each, in two classes; picture-major."""
    views = torch.arange(12)
    return {
        "caption_ids": views // 4,
        "image_ids": views // 2,
        "view_ids": views,
        "class_ids": torch.tensor([0] * 8 + [1] * 4),
    }


def stream(rows, seed, requires_grad=False):
    generator = torch.Generator().manual_seed(seed)
    return Features(torch.randn(rows, 6, generator=generator, requires_grad=requires_grad))


def plain_loss(projected, ids, temperature):
    """Supervised contrast (Khosla et al. 2020, "out" form) as a loop in float64; SimCLR where ids are pictures."""
    z = nn.functional.normalize(projected.double(), dim=-1)
    losses = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        scores = torch.stack([z[i] @ z[j] / temperature for j in others])
        positive = torch.tensor([bool(ids[j] == ids[i]) for j in others])
        if positive.any():
            losses.append(-scores.log_softmax(0)[positive].mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("ids", ["captions", "images", "classes"])
def test_without_a_teacher_crops_are_contrasted_with_each_other(ids):
    torch.manual_seed(0)
    objective = MultiPositiveObjective(6, ids=ids, teacher=False, temperature=0.2, **SMALL)
    features = stream(12, seed=1, requires_grad=True)
    found = objective({"global": features}, objective.targets(None, batch()), batch())
    (gradient,) = torch.autograd.grad(found["loss"], features.cls, retain_graph=True)
    expected = plain_loss(objective.projector(features.cls), batch()[objective.ids], 0.2)
    (wanted,) = torch.autograd.grad(expected, features.cls)
    assert found["contrastive_global"].item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(gradient, wanted, atol=1e-6, rtol=1e-4)


def test_settings_decide_what_is_required_and_what_is_built():
    for settings, wanted in (
        ({}, {"global", "local", "teacher"}),
        ({"teacher": False}, {"global", "local"}),
        ({"teacher": False, "ids": "classes"}, {"global", "local", "classes"}),
    ):
        objective = MultiPositiveObjective(6, **settings, **SMALL)
        assert objective.requires == MultiPositiveObjective.requirements(settings) == wanted
        assert len(objective.teacher_pairs()) == ("teacher" in wanted)
        assert (objective.predictor is None) == ("teacher" not in wanted)


def test_other_ids_change_the_positives_against_a_teacher_too():
    losses = {}
    for ids in ("captions", "images", "classes"):
        torch.manual_seed(0)
        objective = MultiPositiveObjective(6, ids=ids, **SMALL)
        targets = objective.targets(stream(12, seed=2), batch())
        losses[ids] = objective({"global": stream(12, seed=1)}, targets, batch())["loss"].item()
    assert len(set(losses.values())) == 3


def test_a_local_anchor_may_exclude_its_own_crop():
    def local_loss(**settings):
        torch.manual_seed(0)
        objective = MultiPositiveObjective(6, temperature=0.1, **settings, **SMALL)
        targets = objective.targets(stream(12, seed=2), batch())
        student = {"global": stream(12, seed=1), "local": stream(24, seed=3)}
        anchors = nn.functional.normalize(objective.anchors(student["local"].cls), dim=-1)
        logits = (anchors @ nn.functional.normalize(targets["keys"].result(), dim=-1).T / 0.1).double()
        return objective(student, targets, batch())["contrastive_local"].item(), logits

    found, logits = local_loss(local_excludes_own_crop=True)
    own = torch.arange(24)[:, None] // 2 == torch.arange(12)
    same = torch.arange(24)[:, None] // 8 == torch.arange(12) // 4
    rows = logits.masked_fill(own, -torch.inf).log_softmax(1)
    expected = -torch.stack([row[keep].mean() for row, keep in zip(rows, same & ~own, strict=True)]).mean()
    assert found == pytest.approx(expected.item(), rel=1e-5)
    assert found != pytest.approx(local_loss()[0], rel=1e-3)


def test_excluded_anchors_without_a_positive_count_nowhere():
    torch.manual_seed(0)
    objective = MultiPositiveObjective(6, local_excludes_own_crop=True, **SMALL)
    lonely = {"caption_ids": torch.tensor([0, 0, 1]), "view_ids": torch.arange(3)}
    pair = {name: ids[:2] for name, ids in lonely.items()}
    teacher, student, local = stream(3, 2), stream(3, 1), stream(3, 3)
    targets = objective.targets(teacher, lonely)
    found = objective({"global": student, "local": local}, targets, lonely)
    # The same two anchors alone, but with the third crop among the candidates.
    first = {"global": Features(student.cls[:2]), "local": Features(local.cls[:2])}
    expected = objective(first, targets, pair)
    for part in ("contrastive_global", "contrastive_local"):
        assert found[part].item() == pytest.approx(expected[part].item(), rel=1e-6)


def test_cross_entropy_is_that_of_torch_in_float32():
    torch.manual_seed(0)
    objective = CrossEntropyObjective(6, num_classes=2)
    features = stream(12, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert objective({"global": features}, {}, batch())["loss"].dtype == torch.float32
    found = objective({"global": features}, objective.targets(None, batch()), batch())
    expected = nn.functional.cross_entropy(objective.classifier(features.cls), batch()["class_ids"])
    assert found["cross_entropy"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_unknown_ids_are_one_line():
    with pytest.raises(UserInputError, match="unknown ids of objective 'multi_positive' 'caption' .did you mean"):
        MultiPositiveObjective(6, ids="caption", **SMALL)
