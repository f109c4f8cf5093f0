"""Where functions are compiled: on a CUDA device with Triton; everywhere else they run as they are written."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch


@functools.cache
def can_compile() -> bool:
    """Tell whether compiled code pays and works here: a CUDA device, and Triton to write kernels for it."""
    if not torch.cuda.is_available():
        return False
    try:
        from torch.utils._triton import has_triton

        return has_triton()
    except (ImportError, RuntimeError):
        return False


def compiled_on_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function of tensors: compiled where its first tensor lies on a GPU, plain elsewhere.

    One that does not compile runs as it is written from then on, and says so once.
    """
    compiled: Callable[..., Any] | None = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal compiled
        first = next((value for value in args if isinstance(value, torch.Tensor)), None)
        if first is None or not first.is_cuda or not can_compile() or torch.compiler.is_compiling():
            return function(*args, **kwargs)
        if compiled is None:
            compiled = torch.compile(function)
        try:
            return compiled(*args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:
            warnings.warn(f"{function.__name__} runs uncompiled: {str(error).splitlines()[0]}", stacklevel=2)
            compiled = function
            return function(*args, **kwargs)

    return call
