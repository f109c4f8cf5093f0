"""Configuration of the SynCLR encoder; travels with the weights as remote code, so it imports transformers only."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.backbone_utils import BackboneConfigMixin


@strict
class SynCLRConfig(BackboneConfigMixin, PreTrainedConfig):
    """A plain pre-norm vision transformer: cls token, learned positions, no LayerScale, no registers (paper 3.4).

    The defaults are ViT-B/16 at 224 px.

    Args:
        hidden_size: width D of a token.
        num_hidden_layers: number of blocks.
        num_attention_heads: heads of each block; divides `hidden_size`.
        mlp_ratio: width of the hidden layer of the MLP, in units of `hidden_size`.
        hidden_act: activation of the MLP; the reference uses the exact (erf) GELU.
        layer_norm_eps: epsilon of every layer norm of the encoder.
        qkv_bias: whether the query, key and value projections have a bias.
        image_size: side in pixels of the square pictures that positions are made for; a multiple of `patch_size`.
        patch_size: side of a patch in pixels.
        num_channels: channels of a picture.
        drop_path_rate: stochastic depth of the last block, in [0, 1); grows linearly from 0 at the first one.
        use_mask_token: whether the encoder has the token that stands for a masked patch. Set it to `False` where no
            objective masks: an unused parameter stops distributed training.
        interpolate_offset: how positions are interpolated for other sizes. 0 gives the target grid as `size=`
            (evaluation, exports); 0.1 gives `(grid + 0.1) / trained grid` as `scale_factor=`, as the reference trains.
        initializer_range: standard deviation of the truncated normal that initialises weights and positions.
        apply_layernorm: whether the backbone applies the final layer norm to its feature maps.
        reshape_hidden_states: whether the backbone gives maps `(B, D, H / patch_size, W / patch_size)`; `False` gives
            all tokens `(B, 1 + P, D)`, as DPT takes them.
        out_features: names of the backbone's feature maps: `stem`, `stage1` ... one a block; default: the last one.
        out_indices: the same by number, 0 = `stem`.

    Raises:
        huggingface_hub.errors.StrictDataclassError: if a value has the wrong type or the sizes do not fit together.
    """

    model_type = "synclr"
    base_config_key = "encoder_config"

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    mlp_ratio: float | int = 4.0
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    drop_path_rate: float | int = 0.0
    use_mask_token: bool = True
    interpolate_offset: float | int = 0.0
    initializer_range: float = 0.02
    apply_layernorm: bool = True
    reshape_hidden_states: bool = True
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Name the stages of the backbone and align the chosen features with their numbers."""
        self.stage_names = ["stem"] + [f"stage{number}" for number in range(1, self.num_hidden_layers + 1)]
        self.set_output_features_output_indices(
            out_features=kwargs.pop("out_features", None), out_indices=kwargs.pop("out_indices", None)
        )
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Check that the sizes fit together; called by `@strict` after construction."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not divisible by num_attention_heads {self.num_attention_heads}"
            )
        if self.image_size % self.patch_size:
            below = self.image_size // self.patch_size * self.patch_size
            raise ValueError(
                f"image_size {self.image_size} is not divisible by patch_size {self.patch_size}; "
                f"allowed: multiples of {self.patch_size}; type image_size: {below + self.patch_size}"
            )
        if not 0 <= self.drop_path_rate < 1:
            raise ValueError(f"drop_path_rate {self.drop_path_rate} is outside [0, 1)")
