"""Low-rank adapters (LoRA, Hu et al. 2021) by peft on the query and value projections of an encoder."""

from __future__ import annotations

import torch
from torch import nn

from synclr_hf.errors import UserInputError

QUERY_AND_VALUE = ("q_proj", "v_proj", "query", "value")
"""Names of the two projections in the families of transformers."""


def projection_names(trunk: nn.Module) -> list[str]:
    """Return the full names of the linear layers that are query or value projections.

    Raises:
        UserInputError: there are none; some architectures have one fused layer for queries, keys and values.
    """
    linear = [name for name, module in trunk.named_modules() if isinstance(module, nn.Linear)]
    found = [name for name in linear if name.rpartition(".")[2] in QUERY_AND_VALUE]
    if not found:
        fused = [name for name in linear if name.rpartition(".")[2] in ("qkv", "qkv_proj", "in_proj", "c_attn")]
        told = f"queries, keys and values are one layer there ({fused[0]})" if fused else "it has no such layers"
        raise UserInputError(
            f"lora puts adapters on layers named {', '.join(QUERY_AND_VALUE)}; {type(trunk).__name__}: {told}; leave "
            "lora out of --protocols, or type --protocols finetune"
        )
    return found


def add_adapters(trunk: nn.Module, *, rank: int, alpha: float, dropout: float) -> list[str]:
    """Put adapters into an encoder, in place; from here on only they learn.

    Args:
        trunk: an encoder.
        rank: of the product of the two matrices that is added to a weight.
        alpha: the product counts `alpha / rank` times; it starts at zero.
        dropout: of what goes into an adapter, in training.

    Returns:
        Names of the layers that have an adapter.
    """
    from peft import LoraConfig, inject_adapter_in_model

    names = projection_names(trunk)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names), trunk)
    return names


@torch.no_grad()
def merge_adapters(trunk: nn.Module) -> None:
    """Add the adapters to the weights and take them out, in place: an ordinary encoder is left."""
    from peft.tuners.lora import LoraLayer

    for name, layer in list(trunk.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            trunk.set_submodule(name, layer.get_base_layer())
