"""The encoder of the authors' code in plain torch, on the original weights: what a conversion is compared with.

It shares nothing with `synclr_hf.models`: fused query-key-value weights, the names of timm, attention written out.
"""

from __future__ import annotations

import torch
from torch.nn import functional
from transformers import PreTrainedModel

LAYER_NORM_EPS = 1e-6
"""Of every layer norm of the reference's vision transformers."""
SEED = 0


@torch.no_grad()
def original_features(
    weights: dict[str, torch.Tensor], pixel_values: torch.Tensor, *, num_attention_heads: int
) -> torch.Tensor:
    """Encode pictures by the original weights, in the precision of the pictures.

    Args:
        weights: the encoder under bare names of timm (`cls_token`, `blocks.0.attn.qkv.weight`, ...).
        pixel_values: `(B, C, S, S)`, S the size that the positions are made for.
        num_attention_heads: heads of every block.

    Returns:
        `(B, 1 + P, D)` after the final norm, the cls token first.
    """
    weights = {name: tensor.to(pixel_values.dtype) for name, tensor in weights.items()}

    def linear(name: str, tokens: torch.Tensor) -> torch.Tensor:
        return functional.linear(tokens, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(name: str, tokens: torch.Tensor) -> torch.Tensor:
        shape = tokens.shape[-1:]
        return functional.layer_norm(tokens, shape, weights[f"{name}.weight"], weights[f"{name}.bias"], LAYER_NORM_EPS)

    def attention(name: str, tokens: torch.Tensor) -> torch.Tensor:
        batch, length, width = tokens.shape
        fused = linear(f"{name}.qkv", tokens).reshape(batch, length, 3, num_attention_heads, -1)
        query, key, value = fused.permute(2, 0, 3, 1, 4)  # each (B, heads, T, D / heads)
        scores = (query @ key.transpose(-1, -2)) * query.shape[-1] ** -0.5
        return linear(f"{name}.proj", (scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(batch, length, width))

    kernel = weights["patch_embed.proj.weight"]
    patches = functional.conv2d(pixel_values, kernel, weights["patch_embed.proj.bias"], stride=kernel.shape[-1])
    tokens = patches.flatten(2).transpose(1, 2)
    tokens = torch.cat([weights["cls_token"].expand(len(tokens), -1, -1), tokens], dim=1) + weights["pos_embed"]
    for block in range(sum(name.endswith(".norm1.weight") for name in weights)):
        tokens = tokens + attention(f"blocks.{block}.attn", norm(f"blocks.{block}.norm1", tokens))
        hidden = functional.gelu(linear(f"blocks.{block}.mlp.fc1", norm(f"blocks.{block}.norm2", tokens)))
        tokens = tokens + linear(f"blocks.{block}.mlp.fc2", hidden)
    return norm("norm", tokens)


@torch.no_grad()
def feature_difference(
    weights: dict[str, torch.Tensor], model: PreTrainedModel, dtype: torch.dtype = torch.float32
) -> float:
    """Return the largest absolute difference of any feature of one random picture (seed 0).

    Args:
        weights: the original weights, as for `original_features`.
        model: what they were converted to, a `SynCLRModel` or a `Dinov2Model`; is cast to `dtype`.
        dtype: precision of both; in float64 rounding is out of the way, however large the weights.
    """
    config = model.config
    shape = (1, config.num_channels, config.image_size, config.image_size)
    picture = torch.randn(shape, generator=torch.Generator().manual_seed(SEED)).to(dtype)
    wanted = original_features(weights, picture, num_attention_heads=config.num_attention_heads)
    return (model.to(dtype)(picture).last_hidden_state - wanted).abs().max().item()
