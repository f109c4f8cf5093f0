"""One pass over crops of several sizes, and no work for what nobody looks at.

    plain                                        packed
    a pass for each size of crops                all tokens in one matrix (N, D): each layer runs once
    attention of each size                       one variable-length kernel where there is one, else as plain
    all tokens through the last block            there, beyond the attention, cls tokens and masked patches only
    stochastic depth drops what was computed     blocks run on the pictures that are kept (DINOv2), and add to them

The outputs equal those of `SynCLRModel.forward`. N tokens of all streams, picture by picture, stream by stream; the
layers of an encoder are prepared by `use_packed_layers` and keep their parameters, names and hooks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn
from torch.nn.attention.varlen import varlen_attn

from synclr_hf.devices import compiled_on_gpu, matrix_dtype

from .lean import gelu_linear, norm_linears
from .modeling_synclr import SynCLRLayer, SynCLRModel

logger = logging.getLogger(__name__)

SMALLEST_SUBSET_RATE = {"cpu": 0.0, "cuda": 0.1}
"""Drop rate above which a branch runs on the kept pictures only; below, on a GPU, copying them costs more (DINOv2)."""


@dataclass(frozen=True)
class Branch:
    """What a branch of a layer, attention or MLP, runs on.

    Attributes:
        streams: (pictures, tokens of each) of each stream that it sees.
        rows: `(n,)` int64, their tokens among all N; `None`: all.
        factors: `(n, 1)` float32, what its output is multiplied by; `None`: nothing.
    """

    streams: tuple[tuple[int, int], ...]
    rows: torch.Tensor | None = None
    factors: torch.Tensor | None = None


@dataclass(frozen=True)
class LayerWork:
    """What a layer does in a packed pass.

    Attributes:
        attention: of its first branch.
        mlp: of its second.
        wanted: `(n,)` int64, the only tokens that go on after the attention; `None`: all.
    """

    attention: Branch
    mlp: Branch
    wanted: torch.Tensor | None = None


class PackedLayer(SynCLRLayer):
    """A block that also takes the packed tokens of several streams."""

    def forward(self, hidden_states: torch.Tensor, work: LayerWork | None = None, **kwargs: object) -> torch.Tensor:
        """Map `(N, D)` to `(N, D)`, or to `(n, D)` where `work` wants n tokens; without `work` as `SynCLRLayer`."""
        if work is None:
            return super().forward(hidden_states, **kwargs)
        attention, mlp = work.attention, work.mlp
        device, dtype = hidden_states.device, matrix_dtype(hidden_states)
        lengths = None
        if not torch.compiler.is_compiling() and varlen_attention_works(device, dtype, self.attention.head_dim):
            lengths = cumulative_lengths(attention.streams, device)
        rows = (attention.rows, attention.factors, mlp.rows, mlp.factors, work.wanted)
        return _packed_block(hidden_states, self, attention.streams, lengths, *rows)


def use_packed_layers(encoder: SynCLRModel) -> None:
    """Teach the layers of an encoder to take packed tokens; what they hold and how they are called stays the same."""
    for layer in encoder.layers:
        layer.__class__ = PackedLayer


@compiled_on_gpu
def _packed_block(
    tokens: torch.Tensor,
    layer: SynCLRLayer,
    streams: tuple[tuple[int, int], ...],
    lengths: torch.Tensor | None,
    attention_rows: torch.Tensor | None,
    attention_factors: torch.Tensor | None,
    mlp_rows: torch.Tensor | None,
    mlp_factors: torch.Tensor | None,
    wanted: torch.Tensor | None,
) -> torch.Tensor:
    """Run one block on tokens `(N, D)`; plain arguments, so that the compiler need not know our classes."""
    project = layer.attention.o_proj
    if wanted is None:
        tokens = _add_branch(
            tokens,
            lambda rows: _joined([project(part) for part in _attended(layer, rows, streams, lengths)]),
            attention_rows,
            attention_factors,
        )
    else:
        attended = _joined(_attended(layer, tokens, streams, lengths))
        tokens = _add_branch(tokens[wanted], lambda _: project(attended[wanted]), attention_rows, attention_factors)
    return _add_branch(tokens, lambda rows: _mlp(layer, rows), mlp_rows, mlp_factors)


def _add_branch(
    tokens: torch.Tensor,
    branch: Callable[[torch.Tensor], torch.Tensor],
    rows: torch.Tensor | None,
    factors: torch.Tensor | None,
) -> torch.Tensor:
    found = branch(tokens if rows is None else tokens.index_select(0, rows))
    if factors is not None:
        found = found * factors
    return tokens + found if rows is None else tokens.index_add(0, rows, found.to(tokens.dtype))


def _mlp(layer: SynCLRLayer, tokens: torch.Tensor) -> torch.Tensor:
    (hidden,) = norm_linears(layer.norm2, (layer.mlp.fc1,), tokens)
    return gelu_linear(layer.mlp.activation, layer.mlp.fc2, hidden)


def _attended(
    layer: SynCLRLayer, tokens: torch.Tensor, streams: tuple[tuple[int, int], ...], lengths: torch.Tensor | None
) -> list[torch.Tensor]:
    """Attend within each picture of `(n, D)` tokens; between the norm and the output projection.

    Returns:
        `(n, D)` in pieces: one by the variable-length kernel, else one a stream. Joining them before the projection
        would keep them twice for the backward pass.
    """
    attention, shape = layer.attention, (len(tokens), -1, layer.attention.head_dim)
    projections = norm_linears(layer.norm1, (attention.q_proj, attention.k_proj, attention.v_proj), tokens)
    query, key, value = (projection.view(shape) for projection in projections)
    if lengths is not None:
        longest = max(length for _, length in streams)
        return [varlen_attention(query, key, value, lengths, longest).flatten(1)]
    found, start = [], 0
    for pictures, length in streams:
        own = slice(start, start + pictures * length)
        parts = (part[own].unflatten(0, (pictures, length)).transpose(1, 2) for part in (query, key, value))
        attended = nn.functional.scaled_dot_product_attention(*parts, scale=attention.scaling)
        found.append(attended.transpose(1, 2).flatten(2).flatten(0, 1))
        start = own.stop
    return found


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def varlen_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: torch.Tensor, longest: int
) -> torch.Tensor:
    """Attend within sequences of different lengths in one kernel of torch.

    Args:
        query: `(n, heads, D / heads)`, float16 or bfloat16 on a CUDA device; `key` and `value` likewise.
        key: see `query`.
        value: see `query`.
        lengths: `(S + 1,)` int32, where each of the S sequences begins, and n.
        longest: tokens of the longest one.
    """
    return varlen_attn(query, key, value, lengths, lengths, longest, longest)


@cache
def varlen_attention_works(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Tell whether torch's variable-length attention is there for this device and gives what plain attention gives."""
    if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
        return False
    fault = varlen_attention_fault(device, dtype, head_dim)
    if fault is not None:
        logger.warning("torch's variable-length attention is not used: %s; crops of each size attend apart", fault)
    return fault is None


def varlen_attention_fault(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    """Try variable-length attention on two short sequences, forward and backward; return what is wrong with it."""
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad(), torch.autocast(device.type, enabled=False):
        parts = [torch.randn(12, 2, head_dim, generator=generator).to(device, dtype) for _ in range(3)]
        packed, plain = ([part.clone().requires_grad_() for part in parts] for _ in range(2))
        lengths = torch.tensor([0, 5, 12], dtype=torch.int32, device=device)
        try:
            found = varlen_attention(*packed, lengths, 7)
            found.float().square().sum().backward()
        except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            return str(error).strip().partition("\n")[0] or type(error).__name__
        expected = torch.cat(
            [
                nn.functional.scaled_dot_product_attention(*(p[own].transpose(0, 1).float() for p in plain))
                for own in (slice(0, 5), slice(5, 12))
            ],
            dim=1,
        ).transpose(0, 1)
        expected.square().sum().backward()
        pairs = [(found, expected), *((one.grad, other.grad) for one, other in zip(packed, plain, strict=True))]
        is_right = all(torch.allclose(one.float(), other.float(), atol=0.05, rtol=0.05) for one, other in pairs)
    return None if is_right else "its numbers are not those of plain attention"


@cache
def cumulative_lengths(streams: tuple[tuple[int, int], ...], device: torch.device) -> torch.Tensor:
    """Return where each picture of the streams begins, and the number of all tokens: int32 on the device."""
    each = [torch.full((pictures,), length, dtype=torch.int32) for pictures, length in streams]
    return torch.cat([torch.zeros(1, dtype=torch.int32), torch.cat(each).cumsum(0, dtype=torch.int32)]).to(device)


def encode_packed(
    encoder: SynCLRModel,
    crops: Sequence[tuple[torch.Tensor, torch.Tensor | None]],
    masked_positions: torch.Tensor | None = None,
) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """Encode several streams of crops in one pass.

    Args:
        encoder: prepared by `use_packed_layers`.
        crops: of each stream `(B, 3, H, W)` and `(B, P)` bool, what the encoder does not see (`None`: it sees all).
        masked_positions: `(M,)` int64, flat positions in the `(B, P)` patches of the first stream whose features are
            wanted; `None`: of none.

    Returns:
        The cls features `(B, D)` of each stream, and the features `(M, D)` of those patches, after the final norm.
    """
    embedded = [encoder.embeddings(pixels, masks) for pixels, masks in crops]
    streams = tuple((tokens.shape[0], tokens.shape[1]) for tokens in embedded)
    tokens = torch.cat([part.flatten(0, 1) for part in embedded]) if len(embedded) > 1 else embedded[0].flatten(0, 1)
    wanted = _wanted_rows(streams, masked_positions, tokens.device)
    for layer, work in zip(encoder.layers, _plan(encoder, streams, wanted), strict=True):
        tokens = layer(tokens, work=work)
    counts = [pictures for pictures, _ in streams]
    *cls, masked = encoder.norm(tokens).split([*counts, len(wanted) - sum(counts)])
    return cls, None if masked_positions is None else masked


def _wanted_rows(
    streams: Sequence[tuple[int, int]], masked_positions: torch.Tensor | None, device: torch.device
) -> torch.Tensor:
    """Return the rows of all cls tokens, stream by stream, and then of the masked patches of the first stream."""
    found, start = [], 0
    for pictures, length in streams:
        found.append(start + length * torch.arange(pictures, device=device))
        start += pictures * length
    if masked_positions is not None:
        patches = streams[0][1] - 1
        found.append(masked_positions + masked_positions // patches + 1)  # a cls token before each picture's patches
    return torch.cat(found)


def _plan(encoder: SynCLRModel, streams: tuple[tuple[int, int], ...], wanted: torch.Tensor) -> list[LayerWork]:
    """Say for each layer what it runs on: draws what stochastic depth keeps."""
    rates = [layer.drop_path.rate if encoder.training else 0.0 for layer in encoder.layers]
    everything = Branch(streams)
    if not any(rates):
        return [LayerWork(everything, everything)] * (len(rates) - 1) + [LayerWork(everything, everything, wanted)]
    draws = [torch.rand(2 * len(rates), pictures, device=wanted.device) for pictures, _ in streams]
    plan = []
    for number, rate in enumerate(rates):
        last = number == len(rates) - 1
        subset = rate > SMALLEST_SUBSET_RATE.get(wanted.device.type, 0.1) and not last
        choose = kept_pictures if subset else scaled_pictures
        branches = []
        for branch in (2 * number, 2 * number + 1):
            found = choose(streams, rate, [draw[branch] for draw in draws]) if rate else everything
            if last and found.factors is not None:
                found = Branch(streams, None, found.factors[wanted])
            branches.append(found)
        plan.append(LayerWork(*branches, wanted if last else None))
    return plan


def kept_pictures(streams: Sequence[tuple[int, int]], rate: float, draws: Sequence[torch.Tensor]) -> Branch:
    """Choose the pictures that a branch runs on, `round(B (1 - rate))` of each stream, at least one.

    Each of B pictures is kept with the same probability k / B and scaled by B / k: the expectation is that of dropping
    each by itself.

    Args:
        streams: (pictures, tokens of each) of each stream.
        rate: of dropping, in [0, 1).
        draws: of each stream `(B,)` random numbers; the pictures with the smallest are kept.
    """
    rows, factors, kept_streams, start = [], [], [], 0
    for (pictures, length), draw in zip(streams, draws, strict=True):
        kept = max(round(pictures * (1 - rate)), 1)
        chosen = draw.argsort()[:kept].sort().values
        rows.append((start + chosen[:, None] * length + torch.arange(length, device=draw.device)).flatten())
        factors.append(torch.full((kept * length, 1), pictures / kept, device=draw.device))
        kept_streams.append((kept, length))
        start += pictures * length
    return Branch(tuple(kept_streams), torch.cat(rows), torch.cat(factors))


def scaled_pictures(streams: Sequence[tuple[int, int]], rate: float, draws: Sequence[torch.Tensor]) -> Branch:
    """Multiply the output of a branch by 0 for dropped pictures and by `1 / (1 - rate)` for kept ones, as plain."""
    factors = [
        ((draw >= rate) / (1 - rate)).repeat_interleave(length, output_size=pictures * length)
        for (pictures, length), draw in zip(streams, draws, strict=True)
    ]
    return Branch(tuple(streams), None, torch.cat(factors)[:, None])
