"""The layout of an encoder of the authors' code (the names of timm), and the way from there to ours.

Letters of shapes: D width, H width of the MLP, C channels, S side of a patch, P patches.
"""

from __future__ import annotations

import re

import torch

from synclr_hf.models import SynCLRConfig

ENCODER_NAME = re.compile(
    r"cls_token|pos_embed|mask_token"
    r"|(patch_embed\.proj|norm|blocks\.\d+\.(norm[12]|attn\.(qkv|proj)|mlp\.fc[12]))\.(weight|bias)"
)

NUM_ATTENTION_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16}
"""Width -> heads of the reference's vision transformers (tiny to huge): 64 dimensions a head, 80 in the last."""

NO_PART_OF_THE_ENCODER = (
    (r"head\.(weight|bias)", "a classifier on top of the encoder"),
    (r"(student|teacher)\.backbone\..+", "the other encoder of the pair: --weights chooses"),
    (r"(student|teacher)\.(proj|pred|dino_head)\..+", "heads of the training: --pretraining keeps them"),
    (r"(student|teacher)\.feature_decoder\..+", "the decoder of masked feature prediction, no objective here"),
    (r"(ibot|dino)_loss\.center", "the centre of the targets, which Sinkhorn-Knopp does without"),
    (r"image_mlp\..+", "the projection head of StableRep"),
    (r"(image|text)_projection(\..+)?|logit_scale", "the image-text projections of StableRep+"),
    (r"(transformer\.resblocks|token_embedding|ln_final)\..+|positional_embedding", "the text tower of StableRep+"),
)
"""Names (without the prefix of the encoder) that may lie beside an encoder, and what they are."""


def renamed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give the weights of an encoder our names; the fused query, key and value `(3 D, D)` become three `(D, D)`."""
    ours = {}
    for name, tensor in tensors.items():
        name = name.replace("patch_embed.proj.", "embeddings.projection.").replace("blocks.", "layers.")
        name = name.replace("pos_embed", "position_embeddings").replace(".attn.proj.", ".attention.o_proj.")
        if name in ("cls_token", "mask_token", "position_embeddings"):
            ours[f"embeddings.{name}"] = tensor
        elif ".attn.qkv." in name:
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                ours[name.replace(".attn.qkv.", f".attention.{part}_proj.")] = rows
        else:
            ours[name] = tensor
    return ours


def expected_shapes(config: SynCLRConfig) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every tensor of an encoder in the reference's layout."""
    width, hidden = config.hidden_size, round(config.hidden_size * config.mlp_ratio)
    patches, size = (config.image_size // config.patch_size) ** 2, config.patch_size
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, width), "pos_embed": (1, 1 + patches, width)}
    if config.use_mask_token:
        shapes["mask_token"] = (1, 1, width)
    shapes["patch_embed.proj.weight"] = (width, config.num_channels, size, size)
    shapes["patch_embed.proj.bias"] = (width,)
    for block in range(config.num_hidden_layers):
        linear = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
        linear |= {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
        for name, shape in linear.items():
            shapes[f"blocks.{block}.{name}.weight"] = shape
            if name != "attn.qkv" or config.qkv_bias:
                shapes[f"blocks.{block}.{name}.bias"] = shape[:1]
    norms = [f"blocks.{block}.{name}" for block in range(config.num_hidden_layers) for name in ("norm1", "norm2")]
    return shapes | {f"{name}.{part}": (width,) for name in [*norms, "norm"] for part in ("weight", "bias")}
