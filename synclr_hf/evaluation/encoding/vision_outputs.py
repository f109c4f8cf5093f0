"""What a vision model of transformers says of pictures: one vector each, and one a patch, of its last layers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from synclr_hf.errors import UserInputError

_CLIP_LIKE = ("clip", "metaclip_2", "chinese_clip", "altclip")
"""Beginnings of the model types whose last norm is only given the class token, in the pooler."""
_PICTURE_FROM_POOLER = (*_CLIP_LIKE, "siglip", "aimv2", "timm_wrapper")
"""Beginnings of the model types whose pooler gives the picture's vector; elsewhere the pooler adds a layer or nothing:
a random one in a ViT that was saved without it."""
_NORM_NAMES = ("layernorm", "post_layernorm", "norm", "rms_norm")
"""Names of the norm behind the last layer, as the vision models of transformers have them."""


@dataclass(frozen=True)
class LayerOutput:
    """One layer of a model, as if the model ended there: behind the last norm, before any projection.

    Attributes:
        picture: (B, D), what describes a picture: the class token where there is one.
        patches: (B, h, w, D) in reading order, without special tokens; `None`: the model has no patch tokens.
    """

    picture: Tensor
    patches: Tensor | None


def vision_config(model: PreTrainedModel) -> Any:
    """Return the part of a model's configuration that is about pictures."""
    return getattr(model.config, "vision_config", model.config)


def vision_part(model: PreTrainedModel) -> PreTrainedModel:
    """Return the part of a model that sees pictures; a model of pictures alone is that part itself."""
    return getattr(model, "vision_model", model) if hasattr(model.config, "vision_config") else model


def patch_size(model: PreTrainedModel) -> int:
    """Return the side of a model's patches in pixels.

    Raises:
        UserInputError: the model has no patch tokens, such as a convolutional network.
    """
    side = _patch_side(model)
    if side is None:
        raise without_patches(model.config._name_or_path or type(model).__name__, model)
    return side


def layer_outputs(model: PreTrainedModel, pixel_values: Tensor, num_layers: int = 1) -> list[LayerOutput]:
    """Run a model and return its last layers, the last one at the end; all stay on the model's device.

    Inner layers go through the model's last norm and its way to a picture's vector, as DINOv2 does in its linear
    evaluation (`get_intermediate_layers(norm=True)`): what comes out is what the network would give if it ended there.

    Args:
        model: in evaluation mode; runs where it is.
        pixel_values: (B, 3, H, W) float32, normalised, on any device.
        num_layers: how many.

    Raises:
        UserInputError: there are not so many layers of one width, or the model does not take this size.
    """
    part = vision_part(model)
    grid = _grid(model, pixel_values)
    output = _forward(model, pixel_values, grid, with_layers=num_layers > 1)
    kind = vision_config(model).model_type
    last, pooled = output.last_hidden_state, getattr(output, "pooler_output", None)
    outputs = []
    if num_layers > 1:
        hidden = output.hidden_states or ()
        norm = _last_norm(part)
        if norm is None or last.dim() != 3 or not 1 <= num_layers < len(hidden):
            most = 1 if norm is None or last.dim() != 3 or len(hidden) < 2 else len(hidden) - 1
            raise UserInputError(
                f"{_named(model)} cannot give its last {num_layers} layers; allowed: 1 to {most}; type {most}"
            )
        for tokens in hidden[-num_layers:-1]:
            normed = norm(tokens)
            outputs.append(LayerOutput(_picture(kind, normed, _pooled(part, normed), grid), _patches(normed, grid)))
    normed = last
    if kind.startswith(_CLIP_LIKE) and (norm := _last_norm(part)) is not None:
        normed = norm(last)
    outputs.append(LayerOutput(_picture(kind, normed, pooled, grid), _patches(normed, grid)))
    return outputs


def run_once(model: PreTrainedModel, pixel_values: Tensor) -> None:
    """Run the picture side of a model as `layer_outputs` does, for the hooks on its modules."""
    _forward(model, pixel_values, _grid(model, pixel_values), with_layers=False)


def without_patches(name: str, model: PreTrainedModel | None) -> UserInputError:
    """Return the error for a model that has no patch tokens where some are needed."""
    what = "raw pixels" if model is None else type(model).__name__
    return UserInputError(
        f"'{name}' ({what}) has no patch tokens; allowed: a plain vision transformer (SynCLR, DINOv2, DINOv3, CLIP, "
        "SigLIP, ViT, ...); type --model FOLDER_OR_HUB_ID of one"
    )


def _named(model: PreTrainedModel) -> str:
    return f"'{model.config._name_or_path or type(model).__name__}' ({type(model).__name__})"


def _patch_side(model: PreTrainedModel) -> int | None:
    """Return the side of the patches that become tokens of one width; `None` for networks of stages."""
    part = vision_part(model)
    timm_model = getattr(part, "timm_model", None)
    if timm_model is not None:
        embedding = getattr(timm_model, "patch_embed", None) if hasattr(timm_model, "num_prefix_tokens") else None
        size = getattr(embedding, "patch_size", None)
    else:
        config = vision_config(model)
        size = None if hasattr(config, "depths") else getattr(config, "patch_size", None)
    if size is None:
        return None
    return size if isinstance(size, int) else size[0]


def _grid(model: PreTrainedModel, pixel_values: Tensor) -> tuple[int, int] | None:
    """Return the rows and columns of patches."""
    side = _patch_side(model)
    return None if side is None else (pixel_values.shape[-2] // side, pixel_values.shape[-1] // side)


def _patches(tokens: Tensor, grid: tuple[int, int] | None) -> Tensor | None:
    """Return the patch tokens as a map; special tokens (class, distillation, registers) come first in all models."""
    if grid is None or tokens.dim() != 3 or tokens.shape[1] < grid[0] * grid[1]:
        return None
    return tokens[:, tokens.shape[1] - grid[0] * grid[1] :].unflatten(1, grid)


def _picture(kind: str, tokens: Tensor, pooled: Tensor | None, grid: tuple[int, int] | None) -> Tensor:
    """Return what describes a picture: the pooler's vector, the mean of a map (B, D, h, w), or the class token."""
    if kind.startswith(_PICTURE_FROM_POOLER) and pooled is not None:
        return pooled.flatten(1)
    if tokens.dim() == 4:
        return tokens.mean(dim=(2, 3))
    if grid is None and pooled is not None:  # a network of stages: Swin, DINOv3's ConvNeXt
        return pooled.flatten(1)
    if grid is None or tokens.shape[1] == grid[0] * grid[1]:  # no class token
        return tokens.mean(dim=1)
    return tokens[:, 0]


def _pooled(part: PreTrainedModel, normed: Tensor) -> Tensor | None:
    """Return what the pooler would give for an inner layer, of the models whose pooler is used."""
    if getattr(part, "head", None) is not None:  # attention pooling of SigLIP and AIMv2
        return part.head(normed)
    return normed[:, 0] if part.config.model_type.startswith(_CLIP_LIKE) else None


def _last_norm(part: PreTrainedModel) -> nn.Module | None:
    """Return the norm behind the last layer: a module of one of the usual names, not inside a layer."""
    for holder in (part, getattr(part, "vision_model", None)):
        for name in _NORM_NAMES:
            if isinstance(norm := getattr(holder, name, None), nn.Module):
                return norm
    return None


@contextmanager
def _all_patches(part: PreTrainedModel) -> Iterator[None]:
    """Let MAE see whole pictures in a block: it would hide three quarters of the patches."""
    before = getattr(part.config, "mask_ratio", None)
    if before is not None:
        part.config.mask_ratio = 0.0
    try:
        yield
    finally:
        if before is not None:
            part.config.mask_ratio = before


def _forward(model: PreTrainedModel, pixel_values: Tensor, grid: tuple[int, int] | None, *, with_layers: bool) -> Any:
    """Run the picture side of a model, positions interpolated where it can do that."""
    part = vision_part(model)
    takes = inspect.signature(part.forward).parameters
    options: dict[str, Any] = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}
    if with_layers:
        options["output_hidden_states"] = True
    if "noise" in takes:  # MAE puts the patches in the order of a noise
        options["noise"] = torch.arange(grid[0] * grid[1], device=part.device).expand(len(pixel_values), -1).float()
    pixel_values = pixel_values.to(part.device, part.dtype)
    if "spatial_shapes" in takes:  # SigLIP2 of any aspect ratio takes patches in a row
        side, (rows, columns) = part.config.patch_size, grid
        patches = pixel_values[..., : rows * side, : columns * side].unflatten(-1, (columns, side))
        patches = patches.unflatten(-3, (rows, side)).permute(0, 2, 4, 3, 5, 1)  # (B, rows, columns, side, side, 3)
        pixel_values = patches.flatten(3).flatten(1, 2)
        shape = torch.tensor([[rows, columns]], device=part.device).expand(len(pixel_values), 2)
        mask = torch.ones(pixel_values.shape[:2], dtype=torch.int64, device=part.device)
        options = {**options, "spatial_shapes": shape, "pixel_attention_mask": mask}
    try:
        with _all_patches(part):
            return part(pixel_values=pixel_values, **options)
    except (ValueError, AssertionError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith("The size of tensor"):
            raise  # out of memory and the like
        height, width = pixel_values.shape[-2:]
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserInputError(
            f"{_named(part)} does not take pictures of {height} x {width} pixels ({reason}); allowed: the size "
            "that it was made for, or multiples of its patches where positions are interpolated"
        ) from error
