"""What depends on the device: where functions are compiled, and in which type matrices are multiplied."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch

logger = logging.getLogger(__name__)


def matrix_dtype(tensor: torch.Tensor) -> torch.dtype:
    """Return the type in which matrix products with a tensor run: what autocast says, or its own."""
    device = tensor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensor.dtype


@functools.cache
def can_compile() -> bool:
    """Tell whether compiled code pays and works here: a CUDA device, and Triton to write kernels for it."""
    if not torch.cuda.is_available():
        return False
    try:
        from torch.utils._triton import has_triton

        found = has_triton()
    except (ImportError, RuntimeError):
        found = False
    if not found:
        logger.warning("Triton is missing or does not know this GPU: nothing is compiled, which is slower, not wrong")
    return found


def compiled_on_gpu(function: Callable[..., Any] | None = None, *, dynamic: bool | None = None) -> Callable[..., Any]:
    """Decorate a function of tensors: compiled where its first tensor lies on a GPU, as it is written elsewhere.

    One that cannot be compiled runs as it is written and says so once. `__wrapped__` is the function itself.

    Args:
        function: its first argument is a tensor.
        dynamic: as `torch.compile` takes it: `False` where few shapes come again and again.
    """
    if function is None:
        return functools.partial(compiled_on_gpu, dynamic=dynamic)
    compiled: Callable[..., Any] | None = None

    @functools.wraps(function)
    def call(first: torch.Tensor, *others: Any) -> Any:
        nonlocal compiled
        if compiled is function or not first.is_cuda or torch.compiler.is_compiling() or not can_compile():
            return function(first, *others)
        compiled = compiled or torch.compile(function, dynamic=dynamic)
        try:
            return compiled(first, *others)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            logger.warning("%s runs uncompiled: %s", function.__name__, str(error).strip().partition("\n")[0])
            compiled = function
            return function(first, *others)

    return call
