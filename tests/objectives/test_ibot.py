"""Sinkhorn-Knopp and the masked patch loss against plain loops."""

import pytest
import torch

from synclr_hf.objectives import Features, IBOTObjective
from synclr_hf.objectives.ibot import PrototypeHead, masked_patch_loss, sinkhorn_knopp
from synclr_hf.views import masked_positions_of


def plain_sinkhorn(logits, temperature, iterations):
    """The textbook form in float64, safe for the mild logits of these tests only."""
    scores = (logits.double() / temperature).exp()
    for _ in range(iterations):
        scores = scores / scores.sum(dim=0, keepdim=True)
        scores = scores / scores.sum(dim=1, keepdim=True)
    return scores


@pytest.mark.parametrize("iterations", [1, 3, 10])
@pytest.mark.parametrize("temperature", [0.04, 0.07])
def test_sinkhorn_equals_the_plain_form(temperature, iterations):
    logits = torch.randn(24, 16, generator=torch.Generator().manual_seed(0)) * 0.3
    found = sinkhorn_knopp(logits, temperature=temperature, iterations=iterations)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), plain_sinkhorn(logits, temperature, iterations), atol=2e-6, rtol=0)


def test_sinkhorn_survives_huge_logits_and_dead_prototypes():
    logits = torch.randn(12, 8, generator=torch.Generator().manual_seed(1)) * 1e4
    logits[:, 3] = -1e4
    found = sinkhorn_knopp(logits, temperature=0.04)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.sum(1), torch.ones(12))


def test_sinkhorn_uses_prototypes_equally():
    logits = torch.randn(64, 8, generator=torch.Generator().manual_seed(2)) * 0.2 + torch.arange(8) * 0.1
    found = sinkhorn_knopp(logits, temperature=0.1, iterations=50)
    torch.testing.assert_close(found.sum(0), torch.full((8,), 8.0), atol=0.05, rtol=0)


def test_masked_patch_loss_is_a_mean_over_pictures_of_means_over_patches():
    generator = torch.Generator().manual_seed(3)
    logits, targets = torch.randn(5, 7, generator=generator), torch.rand(5, 7, generator=generator).softmax(-1)
    images = [[0, 1], [2, 3, 4]]
    means = []
    for rows in images:
        losses = [-(targets[r] * (logits[r] / 0.1).log_softmax(-1)).sum() for r in rows]
        means.append(sum(losses) / len(losses))
    expected = sum(means) / len(means)
    weights = torch.tensor([1 / 2] * 2 + [1 / 3] * 3)
    assert masked_patch_loss(logits, targets, weights, 2).item() == pytest.approx(expected.item(), rel=1e-6)


def test_unmasked_patches_do_not_matter():
    torch.manual_seed(0)
    objective = IBOTObjective(6, num_prototypes=5, head_hidden_size=8, head_bottleneck_size=4)
    masks = torch.tensor([[True, False, True], [False, False, False]])
    patches = torch.randn(2, 3, 6)
    changed = patches.clone()
    changed[~masks] += 1

    def loss(values):
        batch = {"bool_masked_pos": masks, "masked_positions": masked_positions_of(masks)}
        features = Features(values[:, 0], values[masks])
        return objective({"global": features}, objective.targets(features, batch), batch)["loss"].item()

    assert loss(patches) == loss(changed) > 0


def test_prototypes_have_unit_length_and_features_too():
    torch.manual_seed(0)
    head = PrototypeHead(6, 8, 4, 5)
    torch.nn.init.normal_(head.weight_v)
    assert head(torch.randn(20, 6) * 100).abs().max() <= 1 + 1e-6


def test_teacher_temperature_warms_up_linearly_then_stays():
    objective = IBOTObjective(
        4, num_prototypes=3, head_hidden_size=4, head_bottleneck_size=2, teacher_temperature_warmup_steps=10
    )
    assert [round(objective.temperature_at(step), 6) for step in (0, 5, 10, 99)] == [0.04, 0.055, 0.07, 0.07]
