"""Stand-in until the count of the arithmetic is there; a multiply-add is two operations."""

from __future__ import annotations

from typing import Any


def step_flops(
    config: Any,
    *,
    images: int,
    global_crop_size: int,
    local_crop_size: int,
    local_crops: int,
    masked_patches: int,
    candidates: int,
) -> dict[str, float]:
    """Return the floating point operations of a step: `total`."""
    encoder = config.encoder_config
    width, depth = encoder.hidden_size, encoder.num_hidden_layers

    def forward(crops: int, size: int) -> float:
        tokens = (size // encoder.patch_size) ** 2 + 1
        return crops * depth * (24 * tokens * width**2 + 4 * tokens**2 * width)

    prototypes = next(o.get("num_prototypes", 65536) for o in config.objectives if o["name"] == "ibot")
    head = masked_patches * 2 * (width * 2048 + 2048**2 + 2048 * 256 + 256 * prototypes)
    globals_ = forward(images, global_crop_size)
    return {"total": 4 * globals_ + 3 * forward(images * local_crops, local_crop_size) + 4 * head}
