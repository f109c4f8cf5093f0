"""What the class token looks at: its attention to the patches in the last layer (Caron et al. 2021, Figure 1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.encoders import Encoder, evaluating
from synclr_hf.evaluation.encoding.vision_outputs import patch_size, run_once, vision_part


def attention_maps(encoder: Encoder, pixel_values: Tensor) -> Tensor:
    """Return how the class token of the last layer divides its attention, (B, heads, h, w) float32 on the CPU.

    The numbers of a head sum to at most 1: what is missing goes to the class token itself and to registers.

    Args:
        encoder: a vision transformer with a class token.
        pixel_values: (B, 3, H, W) float32, normalised; H and W are multiples of the patch size.

    Raises:
        UserInputError: the model has no class token, or does not tell its attention.
    """
    if encoder.model is None:
        raise without_class_token(encoder)
    side = patch_size(encoder.model)
    rows, columns = pixel_values.shape[-2] // side, pixel_values.shape[-1] // side
    with evaluating(encoder.model), eager_attention(encoder.model):
        attention = _first_row_of_last_layer(encoder.model, pixel_values)
    special = 0 if attention is None else attention.shape[-1] - rows * columns
    if attention is None or special < 1:
        raise without_class_token(encoder)
    return attention[:, :, special:].unflatten(-1, (rows, columns)).float().cpu()


def has_class_token(encoder: Encoder) -> bool:
    """Tell whether an encoder can show what its class token attends to, by one look at a grey picture."""
    size = encoder.image_size
    try:
        attention_maps(encoder, torch.zeros(1, 3, size, size))
    except UserInputError:
        return False
    return True


@contextmanager
def eager_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let a model tell its attention in a block, which the fast kernels cannot, then give it back its kernels."""
    before: dict[str, str] = {"": model.config._attn_implementation}
    for name in model.config.sub_configs:
        if (part := getattr(model.config, name, None)) is not None:
            before[name] = part._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def without_class_token(encoder: Encoder) -> UserInputError:
    """Return the error for an encoder whose attention of the class token cannot be drawn."""
    what = "raw pixels" if encoder.model is None else type(encoder.model).__name__
    return UserInputError(
        f"'{encoder.name}' ({what}) has no class token whose attention could be drawn; allowed: SynCLR, DINOv2, "
        "DINOv3, CLIP, ViT and other transformers with one; type --kinds pca,neighbours,map"
    )


def _first_row_of_last_layer(model: PreTrainedModel, pixel_values: Tensor) -> Tensor | None:
    """Return the attention of the first token in the last layer, (B, heads, T); `None`: the model does not tell it.

    Attention modules hand out their weights: all but one row of the latest is dropped at once. Asking the model to
    gather them (`output_attentions=True`) would hold layers x heads x T^2 numbers: 10 GB for ViT-B/16 and one picture
    of 1,024 pixels.
    """
    latest: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
        if isinstance(weights, Tensor) and weights.dim() == 4 and weights.shape[-1] == weights.shape[-2]:
            latest[:] = [weights[:, :, 0].clone()]

    modules = [module for module in vision_part(model).modules() if "attention" in type(module).__name__.lower()]
    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        run_once(model, pixel_values)
    finally:
        for hook in hooks:
            hook.remove()
    return latest[0] if latest else None
