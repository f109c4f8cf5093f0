"""Numbers of the authors' reference code (commit 45f451b, random inputs) and plain float64 loops; extreme inputs."""

import pytest
import torch

from synclr_hf.models import SynCLRConfig, SynCLRModel
from synclr_hf.objectives import Features, IBOTObjective
from synclr_hf.objectives.ibot import masked_patch_loss, sinkhorn_knopp
from synclr_hf.objectives.multi_positive import multi_positive_losses
from synclr_hf.training.schedules import cosine
from synclr_hf.views import masked_positions_of

# One masked patch of a picture with nine, in a batch of six masked pictures; student temperature 0.1.
# fmt: off
STUDENT_LOGITS = torch.tensor([
    0.41894904, -0.17844722, 0.45426279, -0.046183787, -0.31531617, -0.42216051, 0.37524745, 0.067055002,
    -0.22177377, -0.039625801, -0.34360555, -0.27456528, 0.10883271, 0.38875556, -0.49210763, 0.32872063,
    0.55124462, -0.020629548, -0.92201483, 0.20418267, -0.26890847, 0.0416224, 0.16991477, 0.011435709,
    0.11026738, -0.33621863, 0.090863533, 0.3276321, -0.30911198, -0.19404131, 0.087658837, -0.28745562,
    0.26934162, -0.073191643, 0.14118007, 0.064724185, -0.60150111, 0.2633158, 0.19088855, 0.41432747,
    0.054272529, -0.34056202, 0.27843481, 0.062366806, 0.34177798, -0.16484451, -0.58194214, 0.10869635,
])
TEACHER_ASSIGNMENT = torch.tensor([
    0.00014334563, 1.1969189e-06, 4.0165869e-06, 0.00074859423, 0.0005238977, 0.003319856, 0.00084545382,
    0.0060434486, 0.0001713064, 0.0010926877, 0.00058368733, 0.007807978, 0.0010485826, 0.0010770545,
    0.0012456307, 0.041856576, 0.0095377751, 0.0011739593, 7.1043716e-05, 0.0018160309, 0.0010207364,
    0.00043320024, 0.00012756078, 0.00023695357, 0.00020366744, 0.00024980545, 3.4177765e-07, 0.00052591786,
    2.8290544e-05, 0.00079794216, 4.2633728e-05, 3.4861172e-05, 0.68066037, 4.9005786e-05, 1.3077826e-07,
    0.00028353924, 8.9232126e-06, 0.0019726332, 0.0014471227, 0.0014397058, 0.0088101886, 7.072201e-05,
    0.13317618, 1.3551347e-08, 0.00038059865, 0.087500721, 0.0013779574, 8.2240949e-06,
])
STUDENT_GRADIENT = torch.tensor([
    0.016436007, 4.166142e-05, 0.023434142, 1.8570903e-05, -8.6361353e-05, -0.00061112712, 0.010477608,
    -0.00063135836, -4.566919e-06, -3.449545e-05, -0.00010005933, -0.0014299039, 0.00054658065, 0.011972731,
    -0.00022885334, -0.0010733142, 0.060042437, -1.4429984e-05, -1.3131539e-05, 0.0015858101, -0.00017207525,
    0.000298036, 0.0013408199, 0.00023581766, 0.00071375078, -3.7613656e-05, 0.00061886437, 0.0065082153,
    6.0998545e-06, -0.00011193151, 0.0005915123, 7.6248225e-06, -0.12236048, 0.00011091826, 0.0010236505,
    0.00042405349, -1.0432761e-06, 0.0031067859, 0.0014148552, 0.015452429, -0.0012022497, -4.8175734e-06,
    -0.02062346, 0.00046545526, 0.00753887, -0.01615585, -0.00025443651, 0.00073823007,
])
# fmt: on

# Steps of 1,500,000 (the teacher's temperature warms up in 100,000): EMA decay, temperature, weight decay.
SCHEDULES = [
    (0, 0.994, 0.04, 0.04),
    (1_000, 0.9940000065797339, 0.0403, 0.04000017545956966),
    (75_000, 0.9940369349782145, 0.0625, 0.040984932752388986),
    (330_000, 0.9946884602716727, 0.07, 0.05835894057793686),
    (1_400_000, 0.9999344428022015, 0.07, 0.19825180805870446),
    (1_500_000, 1.0, 0.07, 0.2),
]

# The upper left 3 x 3 of a 14 x 14 grid of positions, three channels, and the first position of other grids.
POSITIONS = torch.tensor(
    [
        [
            [-0.015351286, -0.01573503, 0.018109681],
            [0.03456486, -0.017805209, -0.0037330098],
            [-0.009247569, 0.003548927, 0.0033557948],
        ],
        [
            [-0.03956045, -0.0013337013, -0.04781443],
            [0.0010601452, -0.0074671255, 0.025456445],
            [0.0075759296, -0.020703418, -0.0014094912],
        ],
        [
            [0.012231091, 0.03834656, 0.019857626],
            [0.0019159266, -0.033383422, 0.02581131],
            [0.009986685, 0.013040177, 0.002028624],
        ],
    ]
)
FIRST_POSITION = {
    6: torch.tensor([-0.0078029912, -0.0079436516, -0.012632716]),
    32: torch.tensor([-0.02136966, -0.04871278, 0.009778389]),
}


def waves(rows, columns, phase):
    """Mild numbers by a formula, in float64."""
    places = torch.arange(rows * columns, dtype=torch.float64).view(rows, columns)
    return torch.sin(places * 12.9898 + phase) + 0.5 * torch.cos(places * 0.37 + 2 * phase)


def test_gradient_of_a_masked_patch_is_the_reference_s():
    logits = STUDENT_LOGITS[None].requires_grad_()
    masked_patch_loss(logits, TEACHER_ASSIGNMENT[None], torch.tensor([1 / 9]), 6, temperature=0.1).backward()
    torch.testing.assert_close(logits.grad[0], STUDENT_GRADIENT, atol=1e-7, rtol=0)


@pytest.mark.parametrize(("step", "ema_decay", "temperature", "weight_decay"), SCHEDULES)
def test_schedules_are_the_reference_s(step, ema_decay, temperature, weight_decay):
    ibot = IBOTObjective(4, num_prototypes=3, head_hidden_size=4, teacher_temperature_warmup_steps=100_000)
    found = (cosine(0.994, 1.0, step, 1_500_000), ibot.temperature_at(step), cosine(0.04, 0.2, step, 1_500_000))
    assert found == pytest.approx((ema_decay, temperature, weight_decay), abs=1e-12)


@pytest.mark.parametrize("grid", FIRST_POSITION)
def test_positions_are_interpolated_as_in_the_reference_s_training(grid):
    config = SynCLRConfig(hidden_size=3, num_hidden_layers=1, num_attention_heads=1, interpolate_offset=0.1)
    embeddings = SynCLRModel(config).embeddings
    positions = torch.zeros(14, 14, 3)
    positions[:3, :3] = POSITIONS.permute(1, 2, 0)
    embeddings.position_embeddings.data[0, 1:] = positions.flatten(0, 1)
    found = embeddings.interpolated_positions(grid, grid)[0, 1]
    torch.testing.assert_close(found, FIRST_POSITION[grid], atol=1e-7, rtol=0)


def contrast_in_float64(anchors, candidates, anchor_ids, candidate_ids, temperature, exclude):
    """Paper eq. 1-3, anchor by anchor."""
    losses = []
    for anchor, own_id, out in zip(anchors, anchor_ids, exclude, strict=True):
        cosines = torch.stack([anchor @ c / anchor.norm() / c.norm() for c in candidates])
        scores = (cosines / temperature).exp() * ~out
        positive = (candidate_ids == own_id) & ~out
        losses.append(-(scores[positive] / scores.sum()).log().mean())
    return torch.stack(losses)


@pytest.mark.parametrize("temperature", [0.04, 0.08, 0.1])
def test_contrast_and_its_gradient_equal_float64(temperature):
    ids = torch.arange(12) % 3
    anchors, candidates = waves(12, 10, 0.0).requires_grad_(), waves(12, 10, 1.0)
    own = torch.eye(12, dtype=torch.bool)
    expected = contrast_in_float64(anchors, candidates, ids, ids, temperature, own)
    (gradient,) = torch.autograd.grad(expected.mean(), anchors)
    mine = anchors.detach().float().requires_grad_()
    losses, counted = multi_positive_losses(mine, candidates.float(), ids, ids, temperature=temperature, exclude=own)
    losses.mean().backward()
    assert counted.all() and expected.std() > 0.1
    torch.testing.assert_close(losses.double(), expected.detach(), atol=1e-5, rtol=0)
    torch.testing.assert_close(mine.grad.double(), gradient, atol=1e-6, rtol=0)


def test_bfloat16_is_computed_in_float32():
    anchors, candidates = waves(8, 6, 0.0).bfloat16(), waves(8, 6, 1.0).bfloat16()
    ids = torch.arange(8) % 2
    own = torch.eye(8, dtype=torch.bool)
    assignments = waves(8, 6, 2.0).softmax(-1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = [
            multi_positive_losses(anchors, candidates, ids, ids, temperature=0.08, exclude=own)[0],
            sinkhorn_knopp(anchors, temperature=0.04),
            masked_patch_loss(anchors, assignments, torch.full((8,), 0.25), 2),
        ]
    a, c = anchors.double(), candidates.double()
    expected = [
        contrast_in_float64(a, c, ids, ids, 0.08, own),
        sinkhorn_in_float64(a, 0.04, 3),
        -(assignments * (a / 0.1).log_softmax(-1)).sum() * 0.25 / 2,
    ]
    for mine, reference in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine.double(), reference, atol=1e-5, rtol=1e-6)


def test_contrast_of_huge_and_of_tiny_features_is_finite():
    ids = torch.arange(8) % 2
    expected, _ = multi_positive_losses(waves(8, 6, 0.0).float(), waves(8, 6, 1.0).float(), ids, ids, temperature=0.04)
    for scale in (1e18, 1e-8):
        anchors = (waves(8, 6, 0.0) * scale).float().requires_grad_()
        losses, _ = multi_positive_losses(anchors, waves(8, 6, 1.0).float() * scale, ids, ids, temperature=0.04)
        losses.sum().backward()
        torch.testing.assert_close(losses, expected, atol=1e-4, rtol=1e-5)
        assert torch.isfinite(anchors.grad).all()


def sinkhorn_in_float64(logits, temperature, iterations):
    """The textbook form, shifted by the largest logit so that float64 suffices."""
    scores = ((logits - logits.max()) / temperature).exp()
    for _ in range(iterations):
        scores = scores / scores.sum(dim=0, keepdim=True)
        scores = scores / scores.sum(dim=1, keepdim=True)
    return scores


@pytest.mark.parametrize(("samples", "prototypes"), [(24, 64), (40, 8), (6, 256)])
@pytest.mark.parametrize("iterations", [1, 2, 3, 10])
def test_assignments_equal_float64(samples, prototypes, iterations):
    logits = waves(samples, prototypes, 0.5)
    found = sinkhorn_knopp(logits.float(), temperature=0.04, iterations=iterations)
    torch.testing.assert_close(found.double(), sinkhorn_in_float64(logits, 0.04, iterations), atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_assignments_at_the_lowest_temperature_are_finite(scale):
    found = sinkhorn_knopp((waves(16, 32, 0.0) * scale).float(), temperature=0.04)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.sum(1), torch.ones(16), atol=1e-5, rtol=0)


def test_pictures_weigh_the_same_whatever_their_number_of_masked_patches():
    torch.manual_seed(0)
    objective = IBOTObjective(6, num_prototypes=5, head_hidden_size=8, head_bottleneck_size=4)
    masks = torch.zeros(4, 9, dtype=torch.bool)
    for picture, count in enumerate((9, 1, 0, 4)):
        masks[picture, :count] = True
    patches = waves(36, 6, 0.0).float().view(4, 9, 6)
    features = Features(patches[:, 0], patches[masks])
    batch = {"bool_masked_pos": masks, "masked_positions": masked_positions_of(masks)}
    targets = objective.targets(features, batch)
    found = objective({"global": features}, targets, batch)["loss"]
    log_probabilities = (objective.head(patches[masks]).double() / 0.1).log_softmax(-1)
    losses = -(targets["assignments"].double() * log_probabilities).sum(-1)
    expected = torch.stack([part.mean() for part in losses.split([9, 1, 4])]).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
