"""Training that is cut over processes (FSDP2): what accelerate's defaults do not fit, and what a shard is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch

from synclr_hf.objectives.distributed import max_over_processes


def keep_losses_in_float32(accelerator: Any) -> None:
    """Compute in bfloat16 or float16 as accelerate plans it for FSDP2, but add up gradients and report in float32.

    Accelerate casts what the model returns and what is sent between processes to the type of the computing: a loss of
    9.97 is then logged as 10.0, and gradients are rounded at each of many additions. DDP does neither.

    Args:
        accelerator: of the Trainer, before it prepares the model; nothing happens where it does not use FSDP2.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    policy = getattr(plugin, "mixed_precision_policy", None)
    if policy is not None and hasattr(policy, "output_dtype"):
        plugin.mixed_precision_policy = replace(policy, reduce_dtype=torch.float32, output_dtype=None)


@torch.no_grad()
def all_finite(parameters: Iterable[torch.Tensor]) -> bool:
    """Tell whether all weights are finite; of weights that are cut over processes all of these must ask.

    A shard may be empty (a tensor with fewer rows than processes), for which torch knows no largest number.
    """
    parameters = list(parameters)
    cut = [hasattr(tensor, "to_local") for tensor in parameters]  # a DTensor, whose import takes a second
    own = [tensor.to_local() if is_cut else tensor for tensor, is_cut in zip(parameters, cut, strict=True)]
    largest = torch._foreach_norm([tensor for tensor in own if tensor.numel()], ord=float("inf"))
    spoiled = ~torch.stack([value.float() for value in largest]).isfinite().all()
    return not bool(max_over_processes(spoiled.float()) if any(cut) else spoiled)
