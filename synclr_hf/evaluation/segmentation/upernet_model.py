"""UperNet of transformers on a plain vision transformer."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoBackbone, PreTrainedModel, UperNetConfig, UperNetForSemanticSegmentation
from transformers.modeling_outputs import BackboneOutput

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.encoders import Encoder
from synclr_hf.evaluation.encoding.vision_outputs import vision_config, vision_part
from synclr_hf.evaluation.finetuning.layer_decay import grow_linearly, parameter_groups
from synclr_hf.evaluation.labelled.masked_images import IGNORED

PROPORTIONS = (1 / 3, 1 / 2, 2 / 3, 1.0)
"""Depth of the four maps as shares of all blocks: blocks 4, 6, 8 and 12 of ViT-B (paper B.4)."""
DROPOUT = 0.1
"""Of whole channels in front of both classifiers (mmsegmentation's `dropout_ratio`); transformers has none."""


class ViTPyramid(nn.Module):
    """The neck of BEiT and MAE: four maps of one stride become a pyramid of x4, x2, x1 and x0.5.

    UperNet of transformers takes the maps as they come; those of a plain vision transformer all have the stride of a
    patch. x4 and x2 are transposed convolutions, x0.5 is a max pooling (BEiT, Bao et al. 2021, semantic segmentation).

    Args:
        width: D, channels of each map.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(width, width, kernel_size=2, stride=2),
                    nn.BatchNorm2d(width),
                    nn.GELU(),
                    nn.ConvTranspose2d(width, width, kernel_size=2, stride=2),
                ),
                nn.ConvTranspose2d(width, width, kernel_size=2, stride=2),
                nn.Identity(),
                nn.MaxPool2d(kernel_size=2, stride=2, ceil_mode=True),
            ]
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Turn four maps (B, D, h, w) into (B, D, 4 h, 4 w), (B, D, 2 h, 2 w), (B, D, h, w), (B, D, h / 2, w / 2)."""
        return tuple(scale(one) for scale, one in zip(self.scales, maps, strict=True))


class PyramidBackbone(nn.Module):
    """A backbone with `ViTPyramid` behind it, in the place of UperNet's backbone.

    Args:
        backbone: of transformers, with four maps of one width.
    """

    def __init__(self, backbone: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = backbone
        self.neck = ViTPyramid(backbone.channels[0])

    def forward_with_filtered_kwargs(self, pixel_values: Tensor, **kwargs: Any) -> BackboneOutput:
        """Return the pyramid of pictures (B, 3, H, W); what UperNet calls."""
        output = self.encoder.forward_with_filtered_kwargs(pixel_values, **kwargs)
        output.feature_maps = self.neck(output.feature_maps)
        return output


def upernet(
    encoder: Encoder, label_names: Sequence[str], *, drop_path: float, auxiliary_weight: float
) -> UperNetForSemanticSegmentation:
    """Build UperNet on a copy of an encoder's weights, in float32 on the CPU, the heads at random.

    As in BEiT's and MAE's recipe the maps are taken without the last norm, the heads are as wide as the encoder and
    the auxiliary head (256 channels) sits on the third map. Initialise inside `torch.random.fork_rng` for a seed.

    Args:
        encoder: a plain vision transformer that `AutoBackbone` knows (SynCLR, Dinov2, DINOv3, ...).
        label_names: name of each class, two or more.
        drop_path: stochastic depth of the last block, where the encoder's configuration has such a setting.
        auxiliary_weight: of the auxiliary head's loss.

    Raises:
        UserInputError: the encoder is none of these, has fewer than four blocks, or there is one class only.
    """
    if len(label_names) < 2:
        raise UserInputError(f"UperNet cannot learn {len(label_names)} class; allowed: two or more; name the others")
    config = _backbone_config(encoder, drop_path)
    whole = UperNetConfig(
        backbone_config=config,
        hidden_size=config.hidden_size,
        auxiliary_loss_weight=auxiliary_weight,
        loss_ignore_index=IGNORED,
        num_labels=len(label_names),
        id2label=dict(enumerate(label_names)),
        label2id={name: number for number, name in enumerate(label_names)},
    )
    model = UperNetForSemanticSegmentation(whole).float()
    _copy_weights(encoder, model.backbone)
    if drop_path:
        grow_linearly(model.backbone, drop_path)
    for head in (model.decode_head, model.auxiliary_head):
        head.classifier = nn.Sequential(nn.Dropout2d(DROPOUT), head.classifier)
    model.backbone = PyramidBackbone(model.backbone)
    return model


def _backbone_config(encoder: Encoder, drop_path: float) -> Any:
    """Return the configuration of the encoder as a backbone with four maps."""
    config = None if encoder.model is None else copy.deepcopy(vision_config(encoder.model))
    plain = ("patch_size", "num_hidden_layers", "hidden_size", "out_indices")
    is_plain = all(hasattr(config, name) for name in plain) and not hasattr(config, "depths")  # no network of stages
    if not is_plain or type(config) not in AutoBackbone._model_mapping:
        told = "pixels" if config is None else getattr(config, "model_type", type(config).__name__)
        raise UserInputError(
            f"encoder '{encoder.name}' ({told}) is no plain vision transformer that AutoBackbone of transformers "
            "knows; allowed: synclr, dinov2, dinov2_with_registers, dinov3_vit, ...; type --protocols segment_linear"
        )
    if config.num_hidden_layers < len(PROPORTIONS):
        raise UserInputError(
            f"encoder '{encoder.name}' has {config.num_hidden_layers} blocks; allowed: {len(PROPORTIONS)} or more, "
            "one a map; type --protocols segment_linear"
        )
    config.out_indices = map_blocks(config.num_hidden_layers)  # 0 is what goes into the first block
    config.apply_layernorm, config.reshape_hidden_states = False, True
    if hasattr(config, "drop_path_rate"):
        config.drop_path_rate = drop_path
    return config


def map_blocks(num_blocks: int) -> list[int]:
    """Return the numbers of the four blocks whose output is taken, counted from 1; no block twice."""
    found = [max(round(share * num_blocks), 1) for share in PROPORTIONS]
    for place in range(1, len(found)):
        found[place] = max(found[place], found[place - 1] + 1)
    return found if found[-1] == num_blocks else [num_blocks - 3 + place for place in range(4)]


def _copy_weights(encoder: Encoder, backbone: PreTrainedModel) -> None:
    """Copy an encoder's weights into its backbone class, which may hold the same modules under a prefix."""
    found = vision_part(encoder.model).state_dict()
    prefix = f"{backbone.base_model_prefix}."
    wanted, missing = {}, []
    for name, tensor in backbone.state_dict().items():
        bare = name.removeprefix(prefix)
        source = next((one for one in (name, bare, f"{prefix}{bare}") if one in found), None)
        if source is None or found[source].shape != tensor.shape:
            missing.append(name)
        else:
            wanted[name] = found[source].detach().to("cpu", torch.float32)
    if missing:
        raise UserInputError(
            f"encoder '{encoder.name}' lacks {len(missing)} weights of its backbone class {type(backbone).__name__}, "
            f"e.g. {missing[0]}; allowed: encoders whose weights it takes; type --protocols segment_linear"
        )
    backbone.load_state_dict(wanted)


def layer_decay_groups(
    model: UperNetForSemanticSegmentation, *, learning_rate: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Return the parameter groups of AdamW: deeper blocks learn faster.

    The numbers are those of mmsegmentation's constructor for BEiT and MAE: patches, tokens and positions are layer 0,
    block i is layer i of L; everything behind (the last norm, the neck, the heads) learns at the full rate, layer l
    at `layer_decay ** (L + 1 - l)` of it. Positions have no weight decay, as in BEiT's own code.

    Args:
        model: made by `upernet`.
        learning_rate: of the heads.
        weight_decay: of matrices and convolutions.
        layer_decay: factor from one block to the one before it.
    """
    return parameter_groups(
        model.backbone.encoder,
        nn.ModuleList([model.backbone.neck, model.decode_head, model.auxiliary_head]),
        learning_rate=learning_rate,
        layer_decay=layer_decay,
        weight_decay=weight_decay,
        section="upernet",
    )
