"""Layers that keep less for the backward pass, which makes it again from what came in, by element-wise passes.

Of the 16 D numbers that a block keeps for each token, the output of the GELU is 4 D and those of its norms are 2 D. A
compiler does the same by itself, so this is for what runs uncompiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable


def _linear_gradients(
    gradient: torch.Tensor, read: torch.Tensor, needed: Sequence[bool]
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the gradients of weight and bias of a linear layer that has read `read`."""
    return gradient.T @ read if needed[0] else None, gradient.sum(0) if needed[1] else None


class _GELULinear(torch.autograd.Function):
    """`linear(gelu(hidden))`, exact GELU, that keeps `hidden` only."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(hidden, weight)
        return nn.functional.linear(nn.functional.gelu(hidden), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        of_hidden = torch.ops.aten.gelu_backward(gradient @ weight, hidden) if ctx.needs_input_grad[0] else None
        return of_hidden, *_linear_gradients(gradient, nn.functional.gelu(hidden), ctx.needs_input_grad[1:])


class _NormLinears(torch.autograd.Function):
    """`[linear(norm(tokens)) for linear in linears]` that keeps `tokens` and two numbers a row only."""

    @staticmethod
    def forward(
        ctx: Any,
        tokens: torch.Tensor,
        norm_weight: torch.Tensor,
        norm_bias: torch.Tensor,
        eps: float,
        *linears: torch.Tensor | None,
    ) -> tuple[torch.Tensor, ...]:
        normed, mean, scale = torch.native_layer_norm(tokens, tokens.shape[-1:], norm_weight, norm_bias, eps)
        weights, biases = linears[::2], linears[1::2]
        ctx.save_for_backward(tokens, norm_weight, norm_bias, mean, scale, *weights)
        ctx.eps = eps
        return tuple(nn.functional.linear(normed, *pair) for pair in zip(weights, biases, strict=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        tokens, norm_weight, norm_bias, mean, scale, *weights = ctx.saved_tensors
        shape = tokens.shape[-1:]
        normed = nn.functional.layer_norm(tokens, shape, norm_weight, norm_bias, ctx.eps)
        of_linears: list[torch.Tensor | None] = []
        of_normed = torch.zeros_like(normed)
        for place, (gradient, weight) in enumerate(zip(gradients, weights, strict=True)):
            of_linears += _linear_gradients(gradient, normed, ctx.needs_input_grad[4 + 2 * place : 6 + 2 * place])
            of_normed.addmm_(gradient, weight)
        of_norm = torch.ops.aten.native_layer_norm_backward(
            of_normed, tokens, shape, mean, scale, norm_weight, norm_bias, list(ctx.needs_input_grad[:3])
        )
        return *of_norm, None, *of_linears


def norm_linears(norm: nn.LayerNorm, linears: Sequence[nn.Module], tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return `linear(norm(tokens))` of each linear layer, for tokens `(N, D)`."""
    if not _is_lean(tokens, norm, *linears):
        normed = norm(tokens)
        return tuple(linear(normed) for linear in linears)
    pairs = [part for linear in linears for part in (linear.weight, linear.bias)]
    return _NormLinears.apply(tokens, norm.weight, norm.bias, norm.eps, *pairs)


def gelu_linear(activation: nn.Module, linear: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """Return `linear(activation(hidden))` for `(N, D)`; lean where the activation is the exact GELU."""
    is_exact_gelu = getattr(activation, "act", None) is nn.functional.gelu
    if not is_exact_gelu or not _is_lean(hidden, linear):
        return linear(activation(hidden))
    return _GELULinear.apply(hidden, linear.weight, linear.bias)


def _is_lean(tokens: torch.Tensor, *modules: nn.Module) -> bool:
    """Tell whether something is kept that need not be: uncompiled, in one precision, plain layers without hooks."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or torch.is_autocast_enabled(tokens.device.type):
        return False
    plain = (nn.Linear, nn.LayerNorm)  # an adapter around a layer looks at what comes in
    return all(type(module) in plain and not module._forward_hooks for module in modules)
