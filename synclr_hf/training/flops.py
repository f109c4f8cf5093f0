"""Model FLOPs of a training step: what the algorithm asks for, whatever an implementation saves or does twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .configuration_pretraining import SynCLRPreTrainingConfig

ATTENTION_BACKWARD = 5 / 2
"""Fused attention keeps no scores, its backward pass makes them again: five matrix products after two of the forward
pass, which is how `torch.utils.flop_counter` counts it. A linear layer's backward pass has two after one."""


def step_flops(
    config: SynCLRPreTrainingConfig,
    *,
    images: int,
    global_crop_size: int = 224,
    local_crop_size: int = 96,
    local_crops: int = 4,
    masked_patches: int,
    candidates: int | None = None,
) -> dict[str, float]:
    """Count the floating-point operations of one optimizer step of one process, two a multiply-add.

    Counted are matrix products, convolutions and attention, as `torch.utils.flop_counter.FlopCounterMode` does; norms,
    activations, softmax, Sinkhorn-Knopp and the optimizer are not. This is the straightforward algorithm (`plain`):
    every token passes every block, nothing is dropped, nothing is computed again for gradient checkpointing. It is the
    convention for model FLOPs utilisation: the same number for every implementation, so that one that does less work
    shows as a faster one.

    Args:
        config: of `SynCLRForPreTraining`; its objectives decide which passes there are.
        images: global crops of the process in the step; a picture of which two are cut counts twice.
        global_crop_size: side of a global crop in pixels.
        local_crop_size: side of a local crop in pixels.
        local_crops: local crops for each global one; used where an objective requires `local`.
        masked_patches: in all global crops together; used where an objective requires `masked`.
        candidates: global crops of all processes, with which each crop is contrasted; default: `images`.

    Returns:
        `teacher` (forward pass of its encoder), `student_global` and `student_local` (forward and backward),
        `heads` (those of student and teacher, and the logits), `total`.
    """
    encoder, requires = config.encoder_config, config.requires
    local_images = images * local_crops if "local" in requires else 0
    candidates = images if candidates is None else candidates
    forward, backward = _encoder_flops(encoder, images, global_crop_size)
    parts = {
        "teacher": forward if "teacher" in requires else 0.0,
        "student_global": forward + backward,
        "student_local": sum(_encoder_flops(encoder, local_images, local_crop_size)),
        "heads": sum(
            _HEADS[settings["name"]](settings, encoder.hidden_size, images, local_images, masked_patches, candidates)
            for settings in config.objectives
        ),
    }
    return {**parts, "total": sum(parts.values())}


def _encoder_flops(encoder: Any, images: int, size: int) -> tuple[float, float]:
    """Return the FLOPs of the forward and of the backward pass of crops of `size` px."""
    width, patches = encoder.hidden_size, (size // encoder.patch_size) ** 2
    tokens = 1 + patches
    patch_layer = 2.0 * images * patches * encoder.num_channels * encoder.patch_size**2 * width
    linear = 2.0 * images * tokens * (4 * width**2 + 2 * width * int(width * encoder.mlp_ratio))
    attention = 2.0 * images * 2 * tokens**2 * width
    blocks = encoder.num_hidden_layers
    forward = patch_layer + blocks * (linear + attention)
    # Pixels have no gradient, so the patch layer's backward pass is that of its weights only.
    return forward, patch_layer + blocks * (2 * linear + ATTENTION_BACKWARD * attention)


def _projection(in_size: int, settings: Mapping[str, Any], num_layers: int) -> int:
    """Return the multiply-adds of a row in `projection_mlp`."""
    hidden, out = settings.get("head_hidden_size", 4096), settings.get("head_output_size", 256)
    if num_layers == 1:
        return in_size * out
    return in_size * hidden + (num_layers - 2) * hidden**2 + hidden * out


def _multi_positive(
    settings: Mapping[str, Any], width: int, images: int, local_images: int, masked_patches: int, candidates: int
) -> float:
    teacher, out = settings.get("teacher", True), settings.get("head_output_size", 256)
    anchors = images + local_images
    projector = _projection(width, settings, settings.get("projector_layers", 3))
    predictor = _projection(out, settings, settings.get("predictor_layers", 2)) if teacher else 0
    # The keys of a teacher have no gradient: the backward pass of the logits has one product, else two.
    logits = 2.0 * anchors * candidates * out * (2 if teacher else 3)
    return 2.0 * (3 * anchors * (projector + predictor) + images * projector * teacher) + logits


def _ibot(
    settings: Mapping[str, Any], width: int, images: int, local_images: int, masked_patches: int, candidates: int
) -> float:
    hidden, neck = settings.get("head_hidden_size", 2048), settings.get("head_bottleneck_size", 256)
    row = width * hidden + hidden**2 + hidden * neck + neck * settings.get("num_prototypes", 65536)
    return 2.0 * masked_patches * row * 4  # three times by the student, once by the teacher


def _cross_entropy(
    settings: Mapping[str, Any], width: int, images: int, local_images: int, masked_patches: int, candidates: int
) -> float:
    return 2.0 * 3 * images * width * settings.get("num_classes", 1000)


_HEADS = {"multi_positive": _multi_positive, "ibot": _ibot, "cross_entropy": _cross_entropy}
"""Objective -> FLOPs of its heads, forward and backward."""
