"""Writes an encoder in the layout of Dinov2, which transformers loads everywhere without code of ours.

A plain pre-norm vision transformer is a Dinov2 whose LayerScale is 1; features are equal to the bit.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Dinov2Config, Dinov2Model

from synclr_hf.errors import UserInputError
from synclr_hf.models import SynCLRModel

from .export import checked_empty_folder, image_processor, whole_folder

SAVED_NAMES = (
    ("embeddings.projection.", "embeddings.patch_embeddings.projection."),
    ("layers.", "encoder.layer."),
    ("attention.q_proj.", "attention.attention.query."),
    ("attention.k_proj.", "attention.attention.key."),
    ("attention.v_proj.", "attention.attention.value."),
    ("attention.o_proj.", "attention.output.dense."),
)
"""Our names and those of a saved Dinov2. Modules are named differently from version to version, files are not."""


def to_dinov2(model: SynCLRModel) -> Dinov2Model:
    """Copy an encoder into a `Dinov2Model` with the same features, `pooler_output` is the cls token there too.

    Raises:
        UserInputError: `mlp_ratio` is no whole number, or positions are interpolated by another rule than Dinov2's.
        RuntimeError: this version of transformers reads another layout.
    """
    config = model.config
    if config.mlp_ratio != int(config.mlp_ratio):
        raise UserInputError(f"mlp_ratio {config.mlp_ratio}; allowed for a Dinov2 copy: a whole number, e.g. 4")
    if config.interpolate_offset:
        raise UserInputError(
            f"interpolate_offset {config.interpolate_offset}; allowed for a Dinov2 copy: 0; "
            "type model.config.interpolate_offset = 0 where features of other picture sizes may change by that"
        )
    dinov2_config = Dinov2Config(
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        mlp_ratio=int(config.mlp_ratio),
        hidden_act=config.hidden_act,
        layer_norm_eps=config.layer_norm_eps,
        qkv_bias=config.qkv_bias,
        image_size=config.image_size,
        patch_size=config.patch_size,
        num_channels=config.num_channels,
        use_mask_token=config.use_mask_token,
        initializer_range=config.initializer_range,
        layerscale_value=1.0,
    )
    copy, loaded = Dinov2Model.from_pretrained(
        None, config=dinov2_config, state_dict=_as_saved(model), output_loading_info=True, dtype=model.dtype
    )
    wrong = {what: sorted(map(str, names)) for what, names in loaded.items() if names}
    if wrong:
        raise RuntimeError(f"this version of transformers reads another layout of Dinov2: {wrong}")
    return copy


def save_dinov2(model: SynCLRModel, output_dir: Path | str) -> Path:
    """Write the Dinov2 copy of an encoder and its image processor to a folder that `AutoModel` reads.

    Raises:
        UserInputError: the folder holds something, or `to_dinov2` refuses the encoder.
    """
    output_dir = checked_empty_folder(output_dir, "--dinov2")
    copy = to_dinov2(model)
    with whole_folder(output_dir) as unfinished:
        copy.save_pretrained(unfinished)
        image_processor(model.config.image_size).save_pretrained(unfinished)
    return output_dir


def _as_saved(model: SynCLRModel) -> dict[str, torch.Tensor]:
    """Return the weights under the names of a saved Dinov2."""
    saved = {}
    for name, tensor in model.state_dict().items():
        for ours, theirs in SAVED_NAMES:
            name = name.replace(ours, theirs)
        saved[f"layernorm.{name.removeprefix('norm.')}" if name.startswith("norm.") else name] = tensor.clone()
    if model.config.use_mask_token:
        saved["embeddings.mask_token"] = saved["embeddings.mask_token"].flatten(1)  # (1, 1, D) -> (1, D)
    for layer in range(model.config.num_hidden_layers):
        for scale in ("layer_scale1", "layer_scale2"):
            saved[f"encoder.layer.{layer}.{scale}.lambda1"] = torch.ones_like(saved["layernorm.weight"])
    return saved
