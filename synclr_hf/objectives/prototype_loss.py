"""The prototype loss without a second full matrix: Sinkhorn-Knopp in place, cross-entropy in pieces.

    plain                                          here
    logits of the teacher            M x K         one M x K, overwritten until it holds the assignments
    three iterations on float32      2-3 x M x K   two vectors, K column and M row sums
    logits, log-softmax of student   2 x M x K     pieces of some rows
    their gradients                  2 x M x K     the same pieces: the loss is linear in its scale, so that its
                                                   gradient is known when the loss is, and nothing is recomputed

Letters: M masked patches of this process, K prototypes, E width of the bottleneck. The plain form, which tests compare
with, is `sinkhorn_knopp` and `masked_patch_loss` in `ibot.py`. On a GPU the element-wise parts are compiled.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from synclr_hf import devices
from synclr_hf.devices import compiled_on_gpu, matrix_dtype

from .distributed import max_over_processes, sum_over_processes, world_size

PIECE_ELEMENTS = {"cpu": 2**24, "cuda": 2**27}
"""Numbers of a piece: on a CPU 64 MiB in float32, large enough for fast products and soon in cache again."""


def piece_size(length: int, other: int, device: torch.device) -> int:
    """Return how many of `length` rows, or columns, of `other` numbers each make a piece; all are about as large."""
    most = PIECE_ELEMENTS.get(device.type, PIECE_ELEMENTS["cuda"])
    count = -(-length * other // most)
    return max(-(-length // max(count, 1)), 1)


def _stored_dtype(embeddings: torch.Tensor) -> torch.dtype:
    """Return the type of the large matrices; never float16, which cannot hold an assignment of 1/K."""
    dtype = matrix_dtype(embeddings)
    return torch.float32 if dtype == torch.float16 else dtype


@compiled_on_gpu
def _column_log_sums(scores: torch.Tensor) -> torch.Tensor:
    return scores.float().logsumexp(dim=0)


@compiled_on_gpu
def _column_sums(scores: torch.Tensor, row_factors: torch.Tensor) -> torch.Tensor:
    return (scores.float() * row_factors[:, None]).sum(dim=0)


@compiled_on_gpu
def _row_sums(scores: torch.Tensor, column_factors: torch.Tensor) -> torch.Tensor:
    return (scores.float() * column_factors).sum(dim=1)


@compiled_on_gpu
def _softmax_of_difference(piece: torch.Tensor, potentials: torch.Tensor) -> None:
    piece.copy_((piece.float() - potentials).softmax(dim=1))


@compiled_on_gpu
def _scale_and_balance_rows(piece: torch.Tensor, column_factors: torch.Tensor) -> None:
    scaled = piece.float() * column_factors
    piece.copy_(scaled / scaled.sum(dim=1, keepdim=True))


@torch.compiler.disable(recursive=False)
@torch.no_grad()
def balanced_assignments(
    embeddings: torch.Tensor, prototypes: torch.Tensor, *, temperature: float, iterations: int = 3
) -> torch.Tensor:
    """Turn the teacher's embeddings into assignments that use all prototypes equally (paper B.1).

    The same numbers as `sinkhorn_knopp(embeddings @ prototypes.T)`. The first iteration is done on logarithms,
    columns by `logsumexp` and rows by a softmax, so that no logit overflows and no prototype is dead. From then on all
    numbers lie in [0, 1] and every sum is at least 1/K: further iterations are products with two vectors.

    Args:
        embeddings: `(M, E)`, any float type; M may differ between processes, and be 0 on some of them.
        prototypes: `(K, E)`.
        temperature: divides the logits; positive.
        iterations: at least 1; paper 3.

    Returns:
        Assignments `(M, K)`; each row sums to 1. In float32, or bfloat16 where autocast says so.
    """
    dtype = _stored_dtype(embeddings)
    with torch.autocast(embeddings.device.type, enabled=False):
        scores = torch.mm((embeddings.float() / temperature).to(dtype), prototypes.to(dtype).T)
        at_once = scores.is_cuda and devices.can_compile()  # compiled, a sum over the whole matrix needs no other one
        potentials = _potentials(scores, at_once)
        pieces = scores.split(piece_size(*scores.shape, scores.device))
        in_place = not scores.is_cuda and dtype == torch.float32
        for piece in pieces:
            if in_place:
                torch.softmax(piece.sub_(potentials), dim=1, out=piece)
            else:
                _softmax_of_difference(piece, potentials)
        row_factors = scores.new_ones(len(scores), dtype=torch.float32)
        for iteration in range(1, iterations):
            sums = _column_sums(scores, row_factors) if at_once else _product(scores.T, row_factors)
            column_factors = sum_over_processes(sums).reciprocal()
            if iteration < iterations - 1:
                sums = _row_sums(scores, column_factors) if at_once else _product(scores, column_factors)
                row_factors = sums.reciprocal()
                continue
            for piece in pieces:
                if in_place:
                    piece.mul_(column_factors).div_(piece.sum(dim=1, keepdim=True))
                else:
                    _scale_and_balance_rows(piece, column_factors)
    return scores


def _potentials(scores: torch.Tensor, at_once: bool) -> torch.Tensor:
    """Return the logarithms of the column sums of `exp(scores)` `(K,)` in float32 over all processes."""
    if at_once:
        potentials = _column_log_sums(scores)
    else:
        columns = piece_size(scores.shape[1], len(scores), scores.device)
        potentials = torch.cat([block.float().logsumexp(dim=0) for block in scores.split(columns, dim=1)])
    if world_size() == 1:
        return potentials
    highest = max_over_processes(potentials)
    return highest + sum_over_processes((potentials - highest).exp()).log()


def _product(matrix: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Multiply in float32; a matrix of another type is read in pieces, so that it is never held twice."""
    if matrix.dtype == torch.float32:
        return torch.mv(matrix, vector)
    along_rows = matrix.stride(1) == 1
    rows = piece_size(matrix.shape[not along_rows], matrix.shape[along_rows], matrix.device)
    if along_rows:
        return torch.cat([torch.mv(piece.float(), vector) for piece in matrix.split(rows)])
    pieces = zip(matrix.split(rows, dim=1), vector.split(rows), strict=True)
    return sum((torch.mv(piece.float(), part) for piece, part in pieces), vector.new_zeros(len(matrix)))


@compiled_on_gpu
def _terms(scores: torch.Tensor, assignments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the losses `(m,)` of a piece and their gradient with respect to its scores `(m, K)`."""
    log_probabilities = scores.float().log_softmax(dim=1)
    assignments = assignments.float()
    losses = -(assignments * log_probabilities).sum(dim=1)
    return losses, (log_probabilities.exp() - assignments).to(scores.dtype)


def _terms_in_place(scores: torch.Tensor, assignments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Do as `_terms` in the memory of `scores` (float32)."""
    torch.log_softmax(scores, dim=1, out=scores)
    losses = -torch.bmm(assignments[:, None], scores[:, :, None]).flatten()
    return losses, scores.exp_().sub_(assignments)


class _PrototypeCrossEntropy(torch.autograd.Function):
    """Loss and gradients in one pass over pieces of rows; the backward pass scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        embeddings: torch.Tensor,
        prototypes: torch.Tensor,
        assignments: torch.Tensor,
        weights: torch.Tensor,
        temperature: float,
    ) -> torch.Tensor:
        dtype = _stored_dtype(embeddings)
        with torch.autocast(embeddings.device.type, enabled=False):
            scaled, table = (embeddings.float() / temperature).to(dtype), prototypes.to(dtype)
            weights = weights.float()
            loss = weights.new_zeros(())
            rows_gradient = torch.empty_like(embeddings, dtype=torch.float32)
            table_gradient = torch.zeros_like(prototypes, dtype=torch.float32)
            in_place = not scaled.is_cuda and dtype == assignments.dtype == torch.float32
            rows = piece_size(len(scaled), len(table), scaled.device)
            room = scaled.new_empty(min(rows, len(scaled)), len(table)) if in_place else None
            for start in range(0, len(scaled), rows):
                own = slice(start, start + rows)
                if in_place:
                    scores = torch.mm(scaled[own], table.T, out=room[: len(scaled[own])])
                    losses, gradient = _terms_in_place(scores, assignments[own])
                else:
                    losses, gradient = _terms(torch.mm(scaled[own], table.T), assignments[own])
                loss = loss + losses @ weights[own]
                if ctx.needs_input_grad[0]:
                    rows_gradient[own] = torch.mm(gradient, table)
                if ctx.needs_input_grad[1]:
                    _add_product(table_gradient, gradient.T, (scaled[own].float() * weights[own, None]).to(dtype))
            rows_gradient *= weights[:, None] / temperature
        ctx.save_for_backward(rows_gradient, table_gradient)
        ctx.dtypes = embeddings.dtype, prototypes.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradients = [
            (gradient * scale).to(dtype) if needed else None
            for gradient, dtype, needed in zip(ctx.saved_tensors, ctx.dtypes, ctx.needs_input_grad[:2], strict=True)
        ]
        return *gradients, None, None, None


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """Add `left @ right` to `total`, which is in float32."""
    if left.dtype == torch.float32:
        total.addmm_(left, right)
    elif left.is_cuda:
        total += torch.mm(left, right, out_dtype=torch.float32)
    else:
        total += torch.mm(left, right)


@torch.compiler.disable(recursive=False)
def prototype_cross_entropy(
    embeddings: torch.Tensor,
    prototypes: torch.Tensor,
    assignments: torch.Tensor,
    weights: torch.Tensor,
    *,
    temperature: float = 0.1,
) -> torch.Tensor:
    """Return the weighted sum over masked patches of the cross-entropy between assignments and predictions.

    The same number as `masked_patch_loss(embeddings @ prototypes.T, assignments, weights, 1)`, and the same gradients.

    Args:
        embeddings: `(M, E)` of the student, any float type.
        prototypes: `(K, E)` of the student.
        assignments: `(M, K)`, rows sum to 1, no gradient.
        weights: `(M,)`, no gradient.
        temperature: of the student's softmax; reference 0.1.

    Returns:
        A scalar in float32; it can be differentiated once.
    """
    return _PrototypeCrossEntropy.apply(embeddings, prototypes, assignments, weights, temperature)
