"""What goes by depth: the earlier a layer, the slower it learns, and the rarer stochastic depth skips it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from synclr_hf.errors import UserInputError

_BLOCK = re.compile(r"^(?P<stack>(?:.*?\.)?(?:layers?|blocks|resblocks|h))\.(?P<number>\d+)\.")
"""A parameter of a numbered block: `layers.3.`, `encoder.layer.3.`, `timm_model.blocks.3.`"""
_BEFORE = re.compile(
    r"embed|cls_token|class_token|mask_token|register|reg_token|(^|\.)(ln_pre|norm_pre|pre_layrnorm)\."
)
"""A parameter in front of the blocks: patches, positions, special tokens, and CLIP's first norm."""
_UNDECAYED = re.compile(r"(_token|_tokens|pos_embed|position_embeddings?(\.weight)?|class_embedding)$")
"""Tokens and positions: no weight decay, as in the reference (`SynCLR/eval/util/lr_decay.py`)."""


def layer_numbers(names: Iterable[str]) -> dict[str, int]:
    """Give each parameter of an encoder its layer: 0 in front of the blocks, i + 1 in block i, the last for the rest.

    Args:
        names: names of the parameters of an encoder.

    Raises:
        UserInputError: there is no one row of numbered blocks.
    """
    names = list(names)
    found = {name: _BLOCK.match(name) for name in names}
    stacks = {match["stack"] for match in found.values() if match}
    if len(stacks) != 1:
        told = "no numbered blocks" if not stacks else f"several rows of them ({', '.join(sorted(stacks)[:3])}, ...)"
        raise UserInputError(f"layer_decay needs an encoder that is one row of blocks; this one has {told}")
    last = 2 + max(int(match["number"]) for match in found.values() if match)
    return {
        name: int(match["number"]) + 1 if match else (0 if _BEFORE.search(name) else last)
        for name, match in found.items()
    }


def parameter_groups(
    encoder: nn.Module,
    head: nn.Module,
    *,
    learning_rate: float,
    layer_decay: float,
    weight_decay: float,
    section: str = "finetune",
) -> list[dict[str, Any]]:
    """Return the groups of AdamW: what learns, how fast, and what decays.

    A layer k steps below the head learns at `learning_rate * layer_decay ** k`. Vectors (norms, biases), tokens and
    positions have no weight decay, as in the reference's fine-tuning.

    Args:
        encoder: its parameters that require gradients take part.
        head: learns at the full rate.
        learning_rate: highest rate of the head.
        layer_decay: 1 for the same rate everywhere; no blocks are needed then.
        weight_decay: of matrices.
        section: name of the protocol, for the error.

    Raises:
        UserInputError: the blocks of the encoder cannot be found.
    """
    parameters = {name: parameter for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    numbers: Mapping[str, int] = dict.fromkeys(parameters, 0)
    last = 0
    if layer_decay != 1:
        try:
            numbers = layer_numbers(["", *(name for name, _ in encoder.named_parameters())])
            last = numbers[""]  # what is in no block and in front of none, as the head
        except UserInputError as error:
            raise UserInputError(f"{section}.{error}; type {section}.layer_decay=1") from error
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    everything = [(numbers[name], name, parameter) for name, parameter in parameters.items()]
    everything += [(last, name, parameter) for name, parameter in head.named_parameters()]
    for number, name, parameter in everything:
        decays = parameter.ndim > 1 and not _UNDECAYED.search(name)
        group = groups.setdefault(
            (number, decays),
            {
                "params": [],
                "lr": learning_rate * layer_decay ** (last - number),
                "weight_decay": weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def grow_linearly(trunk: nn.Module, rate: float) -> None:
    """Let stochastic depth grow from block to block as in timm; some architectures have one rate for all blocks."""
    paths = {name: module for name, module in trunk.named_modules() if hasattr(module, "drop_prob")}
    try:
        numbers = layer_numbers(f"{name}." for name in paths)
    except UserInputError:  # none here, or stages of blocks, which have a rule of their own
        return
    last = max(numbers.values()) - 1
    for name, module in paths.items():
        module.drop_prob = rate * (numbers[f"{name}."] - 1) / max(last, 1)
