"""The SynCLR encoder, backbone and classifier.

Travels with the weights as remote code, so it imports torch and transformers only.
"""

import copy
from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.backbone_utils import BackboneMixin, filter_output_hidden_states
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BackboneOutput, BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_synclr import SynCLRConfig


class SynCLREmbeddings(nn.Module):
    """Patches, cls token and learned positions; masked patches become the mask token before positions are added."""

    def __init__(self, config: SynCLRConfig) -> None:
        super().__init__()
        self.config = config
        grid = config.image_size // config.patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size)) if config.use_mask_token else None
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + grid * grid, config.hidden_size))
        self.projection = nn.Conv2d(config.num_channels, config.hidden_size, config.patch_size, config.patch_size)

    def interpolated_positions(self, height: int, width: int) -> torch.Tensor:
        """Return the positions `(1, 1 + height * width, D)` of a grid of `height` x `width` patches.

        Bicubic, as the reference. Its training code hands `(grid + 0.1) / trained grid` to `interpolate` as the scale,
        its evaluation code the size: not the same numbers; `config.interpolate_offset` chooses.
        """
        trained = self.config.image_size // self.config.patch_size
        if height == width == trained:
            return self.position_embeddings
        cls_position, positions = self.position_embeddings[:, :1], self.position_embeddings[:, 1:]
        positions = positions.reshape(1, trained, trained, -1).permute(0, 3, 1, 2)
        offset = self.config.interpolate_offset
        target = {"scale_factor": ((height + offset) / trained, (width + offset) / trained)} if offset else {}
        target = target or {"size": (height, width)}
        dtype = positions.dtype
        positions = nn.functional.interpolate(positions.float(), mode="bicubic", **target).to(dtype)
        return torch.cat([cls_position, positions.flatten(2).transpose(1, 2)], dim=1)

    def forward(self, pixel_values: torch.Tensor, bool_masked_pos: torch.Tensor | None = None) -> torch.Tensor:
        """Turn pictures `(B, C, H, W)` into tokens `(B, 1 + P, D)`; `bool_masked_pos` is `(B, P)`, true = masked."""
        size = self.config.patch_size
        height, width = pixel_values.shape[-2:]
        if height % size or width % size:
            raise ValueError(
                f"pixel_values of {height} x {width} px cannot be cut into patches of {size} px; "
                f"allowed: multiples of {size}"
            )
        patches = self.projection(pixel_values.to(self.projection.weight.dtype)).flatten(2).transpose(1, 2)
        if bool_masked_pos is not None:
            if self.mask_token is None:
                raise ValueError("bool_masked_pos needs an encoder with a mask token: set use_mask_token=True")
            patches = torch.where(bool_masked_pos.bool().unsqueeze(-1), self.mask_token.to(patches.dtype), patches)
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        return tokens + self.interpolated_positions(height // size, width // size)


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend in plain torch; `query`, `key`, `value` are `(B, heads, T, D / heads)`.

    Returns:
        The attended values `(B, T, heads, D / heads)` and the attention weights `(B, heads, T, T)`.
    """
    weights = torch.matmul(query, key.transpose(2, 3)) * scaling
    weights = nn.functional.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class SynCLRAttention(nn.Module):
    """Multi-head self-attention with separate query, key and value projections (so that LoRA can name them)."""

    def __init__(self, config: SynCLRConfig) -> None:
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=config.qkv_bias)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor, **kwargs: object) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map `(B, T, D)` to `(B, T, D)` and the attention weights, if the implementation returns them."""
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query, key, value = (
            projection(hidden_states).view(shape).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attend: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        attended, weights = attend(self, query, key, value, None, scaling=self.scaling, dropout=0.0, **kwargs)
        return self.o_proj(attended.reshape(*hidden_states.shape[:-1], -1).contiguous()), weights


class SynCLRMLP(nn.Module):
    """Two linear layers with an activation in between."""

    def __init__(self, config: SynCLRConfig) -> None:
        super().__init__()
        width = int(config.hidden_size * config.mlp_ratio)
        self.fc1 = nn.Linear(config.hidden_size, width)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(width, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map `(B, T, D)` to `(B, T, D)`."""
        return self.fc2(self.activation(self.fc1(hidden_states)))


class SynCLRDropPath(nn.Module):
    """Stochastic depth: drops the branch of a whole picture with probability `rate`, scales the kept ones."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map `(B, T, D)` to `(B, T, D)`; the identity in evaluation."""
        if not self.training or self.rate == 0:
            return hidden_states
        keep = torch.rand(hidden_states.shape[0], 1, 1, device=hidden_states.device) >= self.rate
        return hidden_states * keep.to(hidden_states.dtype) / (1 - self.rate)


class SynCLRLayer(GradientCheckpointingLayer):
    """One pre-norm block: attention, then MLP, each added to what came in."""

    def __init__(self, config: SynCLRConfig, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = SynCLRAttention(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = SynCLRMLP(config)
        self.drop_path = SynCLRDropPath(drop_path_rate)

    def forward(self, hidden_states: torch.Tensor, **kwargs: object) -> torch.Tensor:
        """Map `(B, T, D)` to `(B, T, D)`."""
        attended, _ = self.attention(self.norm1(hidden_states), **kwargs)
        hidden_states = hidden_states + self.drop_path(attended)
        return hidden_states + self.drop_path(self.mlp(self.norm2(hidden_states)))


class SynCLRPreTrainedModel(PreTrainedModel):
    """What every SynCLR model shares: its configuration, its initialisation, what the library may do with it."""

    config: SynCLRConfig
    base_model_prefix = "synclr"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["SynCLREmbeddings", "SynCLRLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": SynCLRLayer, "attentions": SynCLRAttention}
    # A pre-training checkpoint holds more than the encoder; these parts are left where they are.
    _keys_to_ignore_on_load_unexpected = [r"^student\.", r"^objectives\.", r"embeddings\.mask_token$"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise as the reference: truncated normal 0.02; cls token N(0, 1e-6); the patch layer as torch."""
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            init.trunc_normal_(module.weight, std=std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            init.kaiming_uniform_(module.weight, a=5**0.5)
            bound = (module.in_channels * module.kernel_size[0] * module.kernel_size[1]) ** -0.5
            init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.LayerNorm) and module.elementwise_affine:
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, SynCLREmbeddings):
            init.trunc_normal_(module.position_embeddings, std=std)
            init.normal_(module.cls_token, std=1e-6)
            if module.mask_token is not None:
                init.normal_(module.mask_token, std=0.02)


class SynCLRModel(SynCLRPreTrainedModel):
    """The encoder: pictures in, one cls feature and a grid of patch features out."""

    def __init__(self, config: SynCLRConfig) -> None:
        super().__init__(config)
        self.embeddings = SynCLREmbeddings(config)
        last = max(config.num_hidden_layers - 1, 1)
        self.layers = nn.ModuleList(
            SynCLRLayer(config, config.drop_path_rate * i / last) for i in range(config.num_hidden_layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the layer that embeds patches."""
        return self.embeddings.projection

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor,
        bool_masked_pos: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = True,
        **kwargs: object,
    ) -> BaseModelOutputWithPooling:
        """Encode normalised pictures.

        Args:
            pixel_values: `(B, C, H, W)` float, ImageNet mean and standard deviation removed; H and W are multiples of
                `config.patch_size`, positions are interpolated where the grid differs from the trained one.
            bool_masked_pos: `(B, P)` bool, true = this patch is replaced by the mask token; P = H W / patch_size².
            interpolate_pos_encoding: accepted for the pipelines of transformers; positions are always interpolated.
            **kwargs: `output_hidden_states`, `output_attentions` (with `attn_implementation="eager"`).

        Returns:
            `last_hidden_state` `(B, 1 + P, D)` after the final norm, the cls token first, and `pooler_output`
            `(B, D)`, the cls token.

        Raises:
            ValueError: if the picture cannot be cut into whole patches, or is masked without a mask token.
        """
        hidden_states = self.embeddings(pixel_values, bool_masked_pos)
        for layer in self.layers:
            hidden_states = layer(hidden_states, **kwargs)
        hidden_states = self.norm(hidden_states)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=hidden_states[:, 0])


def _without_mask_token(config: SynCLRConfig) -> SynCLRConfig:
    """Return the configuration of a model that never masks: an unused parameter stops distributed training."""
    config = copy.deepcopy(config)
    config.use_mask_token = False
    return config


class SynCLRForImageClassification(SynCLRPreTrainedModel):
    """The encoder with a linear classifier on the cls feature (fine-tuning and linear probing of the paper, 4.1)."""

    def __init__(self, config: SynCLRConfig) -> None:
        config = _without_mask_token(config)
        super().__init__(config)
        self.num_labels = config.num_labels
        self.synclr = SynCLRModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels) if config.num_labels > 0 else nn.Identity()
        self.post_init()

    @can_return_tuple
    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None, **kwargs: object
    ) -> ImageClassifierOutput:
        """Classify normalised pictures.

        Args:
            pixel_values: `(B, C, H, W)` float, as `SynCLRModel` takes them.
            labels: `(B,)` int64, class numbers (cross-entropy); or `(B, num_labels)` float with
                `config.problem_type = "multi_label_classification"`.
            **kwargs: as `SynCLRModel` takes them.

        Returns:
            `logits` `(B, num_labels)`; `loss` if labels are given; `hidden_states` and `attentions` if asked for.
        """
        outputs = self.synclr(pixel_values, **kwargs)
        logits = self.classifier(outputs.pooler_output)
        loss = self.loss_function(labels, logits, self.config) if labels is not None else None
        return ImageClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class SynCLRBackbone(BackboneMixin, SynCLRPreTrainedModel):
    """The encoder as a backbone for UperNet, DPT, Mask2Former and the like: feature maps of chosen blocks."""

    def __init__(self, config: SynCLRConfig) -> None:
        config = _without_mask_token(config)
        super().__init__(config)
        self.num_features = [config.hidden_size] * (config.num_hidden_layers + 1)
        self.synclr = SynCLRModel(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the layer that embeds patches."""
        return self.synclr.get_input_embeddings()

    @can_return_tuple
    @filter_output_hidden_states
    def forward(self, pixel_values: torch.Tensor, **kwargs: object) -> BackboneOutput:
        """Compute the feature maps that `config.out_features` names.

        Args:
            pixel_values: `(B, C, H, W)` float, as `SynCLRModel` takes them.
            **kwargs: as `SynCLRModel` takes them.

        Returns:
            `feature_maps`, each `(B, D, H / patch_size, W / patch_size)`, or `(B, 1 + P, D)` where
            `config.reshape_hidden_states` is false; normed where `config.apply_layernorm` is true.
        """
        outputs = self.synclr(pixel_values, **kwargs)
        height, width = (side // self.config.patch_size for side in pixel_values.shape[-2:])
        maps = []
        for stage, tokens in zip(self.stage_names, outputs.hidden_states, strict=True):
            if stage not in self.out_features:
                continue
            if self.config.apply_layernorm:
                tokens = self.synclr.norm(tokens)
            if self.config.reshape_hidden_states:
                tokens = tokens[:, 1:].transpose(1, 2).reshape(tokens.shape[0], -1, height, width)
            maps.append(tokens)
        return BackboneOutput(
            feature_maps=tuple(maps), hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
