"""Converts an encoder of the authors' code (SynCLR, StableRep; the names of timm) to a `SynCLRModel`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from synclr_hf.errors import UserInputError
from synclr_hf.models import SynCLRConfig, SynCLRModel

from .export import WEIGHTS
from .original_checkpoint import OriginalCheckpoint, grouped, read_original
from .original_layout import ENCODER_NAME, NO_PART_OF_THE_ENCODER, NUM_ATTENTION_HEADS, expected_shapes, renamed

PREFIXES = ("visual.", "backbone.", "")
"""What stands before the names of an encoder that is alone in its file."""

LeftOut = dict[str, list[str]]
"""Reason -> names that are not converted."""


@dataclass(frozen=True)
class OriginalEncoder:
    """The encoder that was found in a checkpoint.

    Attributes:
        tensors: its weights under the bare names of timm, e.g. `blocks.0.attn.qkv.weight`.
        config: what their shapes tell.
        left_out: what lies beside it.
    """

    tensors: dict[str, torch.Tensor]
    config: SynCLRConfig
    left_out: LeftOut


def convert_original(
    checkpoint: Path | str, *, weights: str = "teacher", num_attention_heads: int | None = None
) -> SynCLRModel:
    """Convert the encoder of a released or training checkpoint of SynCLR or StableRep.

    Takes `{"model": ...}`, `{"state_dict": ...}` and bare weights, the prefixes `module.`, `visual.`, `backbone.`,
    `student.backbone.`, `teacher.backbone.` or none, as `.pth` or `.safetensors`. Every tensor must be known.

    Args:
        checkpoint: path of the file.
        weights: `teacher` (the moving average) or `student`, where a training checkpoint holds both.
        num_attention_heads: what shapes do not tell; by default that of the reference's encoder of the same width.

    Returns:
        The encoder in float32 and in evaluation mode; positions of other sizes are interpolated as in evaluation.

    Raises:
        UserInputError: the file cannot be read, holds another model, or does not tell the number of heads.
    """
    return build_encoder(find_encoder(read_original(checkpoint), weights, num_attention_heads))


def find_encoder(
    original: OriginalCheckpoint, weights: str = "teacher", num_attention_heads: int | None = None
) -> OriginalEncoder:
    """Find the encoder in a checkpoint and infer its configuration; arguments and errors of `convert_original`."""
    prefix = _encoder_prefix(original, weights)
    tensors, others = {}, []
    for name, tensor in original.tensors.items():
        if name.startswith(prefix) and ENCODER_NAME.fullmatch(name.removeprefix(prefix)):
            tensors[name.removeprefix(prefix)] = tensor
        else:
            others.append(name)
    left_out = sort_out(original, others, NO_PART_OF_THE_ENCODER, prefix)
    config = _inferred_config(original, tensors, num_attention_heads)
    check_tensors(original, tensors, expected_shapes(config))
    return OriginalEncoder(tensors, config, left_out)


def build_encoder(found: OriginalEncoder) -> SynCLRModel:
    """Make the `SynCLRModel` of an encoder that was found."""
    model = SynCLRModel(found.config)
    model.load_state_dict(renamed(found.tensors))
    return model.eval()


def sort_out(
    original: OriginalCheckpoint, names: Iterable[str], known: Iterable[tuple[str, str]], prefix: str = ""
) -> LeftOut:
    """Say of every name why it is not converted.

    Args:
        original: the checkpoint, for the error.
        names: names in the file.
        known: pairs of a pattern and a reason.
        prefix: what is taken off a name before it is compared.

    Raises:
        UserInputError: names every one that is not known.
    """
    left_out, unknown = LeftOut(), []
    for name in names:
        bare = name.removeprefix(prefix)
        reason = next((reason for pattern, reason in known if re.fullmatch(pattern, bare)), None)
        if reason is None:
            unknown.append(name)
        else:
            left_out.setdefault(reason, []).append(name)
    if unknown:
        raise UserInputError(
            f"--checkpoint '{original.path}' holds another model: the encoder of SynCLR and StableRep, a plain vision "
            f"transformer, has no {grouped(unknown)}; {_type_another()}"
        )
    return left_out


def check_tensors(
    original: OriginalCheckpoint, tensors: dict[str, torch.Tensor], expected: dict[str, tuple[int, ...]]
) -> None:
    """Check that a set of tensors is whole, of the right shapes, and made of finite numbers.

    Raises:
        UserInputError: names every tensor that is missing, too many, of another shape, or not finite.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong_shapes = [
        f"{name} {shapes[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != shape
    ]
    faults = {
        "misses": grouped(name for name in expected if name not in shapes),
        "holds besides": grouped(name for name in shapes if name not in expected),
        "has other shapes:": ", ".join(wrong_shapes),
        "holds what is no finite number in": grouped(name for name in tensors if not _is_finite(tensors[name])),
    }
    told = [f"{fault} {names}" for fault, names in faults.items() if names]
    if told:
        raise UserInputError(f"--checkpoint '{original.path}' {'; '.join(told)}; {_type_another()}")


def _is_finite(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and bool(torch.isfinite(tensor).all())


def _type_another() -> str:
    return "type --checkpoint with a file of the authors' code, e.g. synclr_vit_b_16.pth"


def _encoder_prefix(original: OriginalCheckpoint, weights: str) -> str:
    """Return what stands before the names of the encoder that is asked for."""
    if weights not in WEIGHTS:
        raise UserInputError(f"weights '{weights}'; allowed: {', '.join(WEIGHTS)}; type --weights teacher")
    names = original.tensors
    pair = [name for name in WEIGHTS if f"{name}.backbone.pos_embed" in names]
    if weights in pair:
        return f"{weights}.backbone."
    if pair:
        raise UserInputError(
            f"--weights {weights}: '{original.path}' holds the {pair[0]} alone; type --weights {pair[0]}"
        )
    prefix = next((prefix for prefix in PREFIXES if f"{prefix}pos_embed" in names), None)
    if prefix is None:
        some = ", ".join(list(names)[:4])
        raise UserInputError(
            f"--checkpoint '{original.path}' holds no encoder of SynCLR or StableRep but {len(names)} other tensors "
            f"({some}, ...); needed: cls_token, pos_embed, patch_embed.proj.weight, blocks.0.attn.qkv.weight, ..., "
            f"bare or after visual., backbone., teacher.backbone. or student.backbone.; {_type_another()}"
        )
    if weights != "teacher":
        raise UserInputError(f"--weights {weights}: '{original.path}' holds one encoder; leave --weights out")
    return prefix


def _inferred_config(
    original: OriginalCheckpoint, tensors: dict[str, torch.Tensor], num_attention_heads: int | None
) -> SynCLRConfig:
    """Read the configuration off the shapes."""
    ranks = {"pos_embed": 3, "patch_embed.proj.weight": 4, "blocks.0.attn.qkv.weight": 2, "blocks.0.mlp.fc1.weight": 2}
    unusable = [name for name, rank in ranks.items() if name not in tensors or tensors[name].ndim != rank]
    if unusable:
        raise UserInputError(
            f"--checkpoint '{original.path}' has no {', '.join(unusable)} as a vision transformer has them; "
            f"{_type_another()}"
        )
    positions, hidden_size = tensors["pos_embed"].shape[1:]
    grid = math.isqrt(positions - 1)
    if grid == 0 or grid * grid != positions - 1:
        raise UserInputError(
            f"--checkpoint '{original.path}' has {positions} positions; needed: a square grid and one for the cls "
            f"token, e.g. 197 = 14 x 14 + 1; {_type_another()}"
        )
    patch_size = tensors["patch_embed.proj.weight"].shape[-1]
    hidden = tensors["blocks.0.mlp.fc1.weight"].shape[0]
    mlp_ratio = hidden / hidden_size
    return SynCLRConfig(
        hidden_size=hidden_size,
        num_hidden_layers=sum(name.endswith(".attn.qkv.weight") for name in tensors),
        num_attention_heads=_checked_heads(hidden_size, num_attention_heads),
        mlp_ratio=mlp_ratio if int(hidden_size * mlp_ratio) == hidden else math.nextafter(mlp_ratio, math.inf),
        qkv_bias="blocks.0.attn.qkv.bias" in tensors,
        image_size=grid * patch_size,
        patch_size=patch_size,
        num_channels=tensors["patch_embed.proj.weight"].shape[1],
        use_mask_token="mask_token" in tensors,
    )


def _checked_heads(hidden_size: int, given: int | None) -> int:
    """Return the number of heads; a wrong one gives wrong features silently, so only the reference's are assumed."""
    if given is None and hidden_size not in NUM_ATTENTION_HEADS:
        raise UserInputError(
            f"the number of attention heads cannot be read off the weights, and no encoder of the reference has width "
            f"{hidden_size}; type --num-attention-heads N, the N of the training (64 dimensions a head, as most "
            f"encoders of the reference have, would be {max(hidden_size // 64, 1)})"
        )
    heads = NUM_ATTENTION_HEADS[hidden_size] if given is None else given
    if heads < 1 or hidden_size % heads:
        example = NUM_ATTENTION_HEADS.get(hidden_size, 1)
        raise UserInputError(
            f"--num-attention-heads {heads} cannot be used; allowed: a divisor of the width {hidden_size}; "
            f"type --num-attention-heads {example}"
        )
    return heads
