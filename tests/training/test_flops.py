"""The FLOPs of a step by formula against torch's own counter, and against counts of the paper's model."""

import pytest
import torch
from tiny_pretraining import ENCODER, OBJECTIVES, build_model
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from synclr_hf.training import SynCLRPreTrainingConfig
from synclr_hf.training.flops import step_flops

GLOBAL, LOCAL, LOCAL_CROPS, IMAGES = 32, 16, 2, 6


def count_attention(query, key, value, *args, out_shape=None, **kwargs):
    return sdpa_flop_count(query, key, value)


def count_attention_backward(gradient, query, key, value, *args, out_shape=None, **kwargs):
    return sdpa_backward_flop_count(gradient, query, key, value)


FUSED_ON_A_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: count_attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: count_attention_backward,
}
"""The counter knows the fused attention of a GPU only; here the same formulas for a CPU's."""


def counted(objectives, **settings):
    """The FLOPs of forward and backward pass as torch counts them, and the number of masked patches."""
    model = build_model(objectives, **settings)
    model.set_implementation("plain")
    masks = torch.rand(IMAGES, (GLOBAL // ENCODER["patch_size"]) ** 2) < 0.4
    ids = torch.arange(IMAGES)
    batch = {
        "pixel_values": torch.randn(IMAGES, 3, GLOBAL, GLOBAL),
        "local_pixel_values": torch.randn(IMAGES * LOCAL_CROPS, 3, LOCAL, LOCAL),
        "caption_ids": ids // 2,
        "image_ids": ids // 3,
        "view_ids": ids,
        "class_ids": ids % 3,
        "bool_masked_pos": masks,
    }
    with FlopCounterMode(display=False, custom_mapping=FUSED_ON_A_CPU) as counter:
        model(**batch).loss.backward()
    return counter.get_total_flops(), int(masks.sum())


@pytest.mark.parametrize(
    "objectives",
    [
        OBJECTIVES,
        [{"name": "multi_positive", "teacher": False, "ids": "images", "head_hidden_size": 8, "projector_layers": 2}],
        [{"name": "ibot", "num_prototypes": 40, "head_hidden_size": 24}, {"name": "cross_entropy", "num_classes": 3}],
    ],
)
def test_formula_equals_the_counter(objectives):
    total, masked = counted(objectives)
    config = SynCLRPreTrainingConfig(encoder_config=dict(ENCODER), objectives=objectives)
    sizes = {"global_crop_size": GLOBAL, "local_crop_size": LOCAL, "local_crops": LOCAL_CROPS}
    found = step_flops(config, images=IMAGES, masked_patches=masked, **sizes)
    assert found["total"] == pytest.approx(total, rel=1e-5)
    assert found["total"] == sum(value for name, value in found.items() if name != "total")


def test_counts_of_the_papers_batch():
    """ViT-B/16, 64 captions x 4 pictures of each of 32 GPUs: counted once on the reference's code."""
    config = SynCLRPreTrainingConfig()
    found = step_flops(config, images=256, masked_patches=12_544, candidates=8192)
    tera = {name: round(value / 1e12, 2) for name, value in found.items()}
    heads = 1.68 + 0.63 + 0.20
    assert tera == {
        "teacher": 8.99,
        "student_global": 27.10,
        "student_local": 19.58,
        "heads": pytest.approx(heads, abs=0.011),
        "total": 58.18,
    }
    config.objectives[1]["num_prototypes"] = 8192
    fewer = step_flops(config, images=256, masked_patches=12_544, candidates=8192)
    assert fewer["total"] / 1e12 == pytest.approx(56.71, abs=0.005)


def test_passes_that_no_objective_requires_are_not_counted():
    supervised = SynCLRPreTrainingConfig(objectives=[{"name": "cross_entropy", "num_classes": 1000}])
    found = step_flops(supervised, images=2, masked_patches=0)
    assert found["teacher"] == found["student_local"] == 0
    assert found["heads"] == 2 * 3 * 2 * 768 * 1000
