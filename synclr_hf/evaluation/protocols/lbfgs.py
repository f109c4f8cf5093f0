"""Batched L-BFGS for logistic regressions along paths of L2 values.

A path is one regression with falling L2 values. Each starts where the extrapolation of the three optima before it
points to, with the curvature that has been learned so far, and needs some ten iterations where a start from zero
needs a hundred. Several paths run side by side as one batch: each has its own history, step and L2 value, moves on to
its next value as soon as one is solved, and leaves the batch behind its last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from synclr_hf.evaluation.protocols.logistic_problem import LogisticProblems

TOLERANCE = 1e-9
"""A regression is solved when its gap is below this share: the estimated distance of the objective to the smallest
value (half of gradient x inverse curvature x gradient), divided by the objective or, where that is less, by what the
objective has gained over W = 0. The second matters to strong regularisation, where all of the gain is small: it
bounds the error of W."""
_SMALLEST_GAIN = 1e-6
"""Share of the objective that stands in for a smaller gain: where features tell nothing, W is 0."""
MAX_ITERATIONS = 1000
"""Iterations for one L2 value (the reference's bound)."""
_HISTORY = 20
_RENEWAL = 15
"""Iterations after which the diagonal of the curvature is computed again: from zero to a weakly regularised optimum
it changes by orders of magnitude."""
_SUFFICIENT_DECREASE = 1e-4
_VALUE_NOISE = 4
"""In units of the dtype's relative precision: values that differ by less are told apart by their slopes (as Hager and
Zhang 2005 do), because close to the optimum a sum of many losses no longer shows which of two points is lower. The
lowest value is the measure, so that such steps cannot climb one after the other."""
_MOST_SHORTENINGS = 12
"""Steps tried in one direction; then the learned curvature is forgotten, and if that does not help, it ends here."""
_MOST_IDLE = 20
"""Trials in a row without a lower value, by what the dtype can tell apart: this is as far as it gets."""


@dataclass(frozen=True)
class Path:
    """One regression with several L2 values.

    Attributes:
        problem: which targets it has, see `LogisticProblems`.
        l2_values: falling; equal factors between neighbours make the best use of the path.
    """

    problem: int
    l2_values: tuple[float, ...]


@dataclass(frozen=True)
class Solution:
    """The optimum of one regression with one L2 value.

    Attributes:
        problem: as in `Path`.
        l2: as in `Path`.
        weights: (C, D), the last column is the bias.
        value: of the objective.
        gradient_norm: largest absolute entry of the gradient of the objective divided by the number of pictures, as
            scikit-learn measures it.
        iterations: steps that were taken.
        gap: estimated distance of the value to the smallest one, as a share, see `TOLERANCE`.
        converged: whether the tolerance was reached, or the gap is below what the dtype can tell apart; if not, the
            iterations were used up.
    """

    problem: int
    l2: float
    weights: Tensor
    value: float
    gradient_norm: float
    iterations: int
    gap: float
    converged: bool


def solve_paths(
    problems: LogisticProblems,
    paths: Sequence[Path],
    *,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    start: Tensor | None = None,
) -> Iterator[Solution]:
    """Solve every L2 value of every path; solutions come as they are found, those of one path in its order.

    Beside the features it holds 2 x 20 + 8 arrays of weights (K, C, D) for K paths, and the logits of a block of rows.

    Args:
        problems: the features and targets.
        paths: solved side by side. A multinomial regression is fastest as a single path; many small ones
            (the columns of multi-hot labels) are fastest as one path each.
        tolerance: see `TOLERANCE`.
        max_iterations: see `MAX_ITERATIONS`; 0 returns the starting points.
        start: (K, C, D) where the paths start; default: zero.
    """
    batch = _Batch(problems, paths, start)
    while len(batch.paths):
        batch.choose_directions()
        finished = batch.is_new & ((batch.gap <= tolerance) | (batch.iterations >= max_iterations))
        finished |= batch.is_stuck
        if finished.any():
            for row in finished.nonzero()[:, 0].tolist():
                yield batch.solution(row, tolerance)
            batch.move_on(finished)
        else:
            batch.step()


class _Batch:
    """The state of K paths, most of it in tensors with the path in front."""

    _PER_PATH = (
        *("problem", "l2", "place", "weights", "value", "gradient", "scale", "diagonal", "direction", "slope"),
        *("length", "gap", "iterations", "shortenings", "is_new", "is_stuck", "before", "before_that"),
        *("lowest", "idle"),
    )

    def __init__(self, problems: LogisticProblems, paths: Sequence[Path], start: Tensor | None) -> None:
        features = problems.features
        count, shape = len(paths), (problems.num_classes, features.shape[1])
        device = features.device
        self.problems, self.paths = problems, list(paths)
        self.problem = torch.tensor([path.problem for path in paths], device=device)
        self.l2 = torch.tensor([path.l2_values[0] for path in paths], dtype=torch.float64, device=device)
        self.place = torch.zeros(count, dtype=torch.int64, device=device)  # in `l2_values`
        self.weights = features.new_zeros(count, *shape)
        if start is not None:
            self.weights += problems.in_range(start)
        self.before, self.before_that = self.weights.clone(), self.weights.clone()  # optima of the last two values
        self.direction = self.weights.clone()
        self.scale = features.new_ones(count)  # of the inverse diagonal, learned from the last step
        self.length = features.new_ones(count)  # of the step along the direction
        self.slope = torch.zeros(count, dtype=torch.float64, device=device)
        self.gap = self.slope.clone()
        self.lowest = self.slope.clone()  # value with this L2 value
        self.iterations, self.shortenings, self.idle = self.place.clone(), self.place.clone(), self.place.clone()
        self.is_new = torch.ones(count, dtype=torch.bool, device=device)  # stands at a point without a direction yet
        self.is_stuck = ~self.is_new
        self.steps = features.new_zeros(_HISTORY, count, *shape)
        self.changes = self.steps.clone()  # of the gradient
        self.inverse_curvature = features.new_zeros(_HISTORY, count)  # 1 / (step x change); 0: nothing remembered
        self.newest, self.remembered = 0, 0
        self._look(torch.arange(count, device=device))

    def choose_directions(self) -> None:
        """Give every path that stands at a new point its direction: minus inverse curvature x gradient."""
        rows = self.is_new.nonzero()[:, 0]
        if len(rows) == 0:
            return
        every = len(rows) == len(self.paths)
        steps, changes, known = (
            part if every else part[:, rows] for part in (self.steps, self.changes, self.inverse_curvature)
        )
        vector = self.gradient[rows]
        order = [(self.newest - back) % _HISTORY for back in range(min(self.remembered, _HISTORY))]  # newest first
        amounts = {}
        for place in order:
            amounts[place] = known[place] * (steps[place] * vector).sum(dim=(1, 2))
            vector = torch.addcmul(vector, amounts[place][:, None, None], changes[place], value=-1)
        vector = self._preconditioned(vector, rows) * self.scale[rows, None, None]
        for place in reversed(order):
            amount = amounts[place] - known[place] * (changes[place] * vector).sum(dim=(1, 2))
            vector = torch.addcmul(vector, amount[:, None, None], steps[place])
        self.direction[rows] = -vector
        self.slope[rows] = -_dot(vector, self.gradient[rows])
        value = self.value[rows]
        gain = (self.problems.null_values[self.problem[rows]] - value).clamp(min=_SMALLEST_GAIN * value)
        self.gap[rows] = -0.5 * self.slope[rows] / torch.minimum(value, gain)
        self.length[rows] = 1.0

    def step(self) -> None:
        """Try a step on every path: take it where the objective falls enough, else try a shorter one next time."""
        trial = self.weights + self.length[:, None, None] * self.direction
        value, gradient, _ = self.problems.evaluate(trial, self.l2, self.problem)
        slope = _dot(gradient, self.direction)
        falls = value <= self.value + _SUFFICIENT_DECREASE * self.length * self.slope
        precision = torch.finfo(self.weights.dtype).eps
        level = (value <= self.lowest * (1 + _VALUE_NOISE * precision)) & (slope <= -0.8 * self.slope)
        taken = falls | level
        self._remember(trial - self.weights, gradient - self.gradient, taken)
        column = taken[:, None, None]
        self.weights = torch.where(column, trial, self.weights)
        self.gradient = torch.where(column, gradient, self.gradient)
        self.value = torch.where(taken, value, self.value)
        self.iterations += taken
        # where the slope along the direction would be zero if it grew evenly, between a tenth and half of the step
        even = (self.slope / (self.slope - slope)).nan_to_num(nan=0.1).clamp(0.1, 0.5).to(self.length)
        self.length = torch.where(taken, 1.0, self.length * even)
        self.shortenings = torch.where(taken, 0, self.shortenings + 1)
        hopeless = self.shortenings >= _MOST_SHORTENINGS
        forgetful = (self.inverse_curvature == 0).all(dim=0)
        is_lower = self.value < self.lowest * (1 - precision)
        self.lowest = torch.where(is_lower, self.value, self.lowest)  # small gains add up to one that counts
        self.idle = torch.where(is_lower, 0, self.idle + 1)
        self.is_stuck = (hopeless & forgetful) | (self.idle >= _MOST_IDLE)
        self._forget(hopeless)
        self.is_new = taken | hopeless
        stale = taken & (self.iterations % _RENEWAL == 0)
        if stale.any():
            self._look(stale.nonzero()[:, 0])

    def solution(self, row: int, tolerance: float) -> Solution:
        """Return where a path stands."""
        return Solution(
            problem=self.paths[row].problem,
            l2=float(self.l2[row]),
            weights=self.weights[row].clone(),
            value=float(self.value[row]),
            gradient_norm=float(self.gradient[row].abs().max()) / len(self.problems.features),
            iterations=int(self.iterations[row]),
            gap=float(self.gap[row]),
            converged=bool(self.gap[row] <= max(tolerance, torch.finfo(self.weights.dtype).eps)),
        )

    def move_on(self, finished: Tensor) -> None:
        """Put finished paths to their next value; those behind their last leave."""
        self.place += finished
        stays = torch.tensor([len(path.l2_values) for path in self.paths], device=self.place.device) > self.place
        if not stays.all():
            kept = stays.nonzero()[:, 0]
            self.paths = [self.paths[row] for row in kept.tolist()]
            for name in self._PER_PATH:
                setattr(self, name, getattr(self, name)[kept])
            for name in ("steps", "changes", "inverse_curvature"):
                setattr(self, name, getattr(self, name)[:, kept])
            finished = finished[kept]
        self.is_new = finished
        rows = finished.nonzero()[:, 0]
        if len(rows) == 0:
            return
        values = [self.paths[row].l2_values[int(self.place[row])] for row in rows.tolist()]
        new = torch.tensor(values, dtype=torch.float64, device=self.l2.device)
        # the penalty's part of the curvature is known, so what was learned with the last value still holds
        change = (new - self.l2[rows]).to(self.weights)[:, None, None] * self.problems.penalised
        self.changes[:, rows] += change * self.steps[:, rows]
        product = (self.changes[:, rows] * self.steps[:, rows]).sum(dim=(2, 3))
        usable = (self.inverse_curvature[:, rows] > 0) & (product > 0)
        self.inverse_curvature[:, rows] = torch.where(usable, 1 / product, 0.0)
        self.l2[rows] = new
        optimum, before, before_that = self.weights[rows], self.before[rows], self.before_that[rows]
        place = self.place[rows, None, None]
        line, curve = 2 * optimum - before, 3 * (optimum - before) + before_that
        self.weights[rows] = torch.where(place >= 3, curve, torch.where(place == 2, line, optimum))
        self.before_that[rows], self.before[rows] = before, optimum
        for counter in (self.iterations, self.shortenings, self.idle, self.is_stuck):
            counter[rows] = 0
        self._look(rows)

    def _look(self, rows: Tensor) -> None:
        """Evaluate paths where they stand, with the diagonal of their curvature."""
        if len(rows) == len(self.paths):
            rows = slice(None)  # type: ignore[assignment]
        value, gradient, diagonal = self.problems.evaluate(
            self.weights[rows], self.l2[rows], self.problem[rows], curvature=True
        )
        diagonal += self.l2[rows, None, None].to(diagonal) * self.problems.penalised
        diagonal.clamp_(min=1e-20)
        if isinstance(rows, slice):
            self.value, self.gradient, self.diagonal = value, gradient, diagonal
        else:
            self.value[rows], self.gradient[rows], self.diagonal[rows] = value, gradient, diagonal
        self.lowest[rows] = value

    def _preconditioned(self, vector: Tensor, rows: Tensor) -> Tensor:
        return self.problems.in_range(self.problems.in_range(vector) / self.diagonal[rows])

    def _remember(self, step: Tensor, change: Tensor, taken: Tensor) -> None:
        """Keep the newest pair of step and change of the gradient, over the oldest one, in all paths at once."""
        self.newest, self.remembered = (self.newest + 1) % _HISTORY, self.remembered + 1
        product = (step * change).sum(dim=(1, 2))
        useful = taken & (product > 1e-3 * torch.finfo(step.dtype).eps * self.value)  # the rest is rounding
        self.steps[self.newest], self.changes[self.newest] = step, change
        self.inverse_curvature[self.newest] = torch.where(useful, 1 / product, 0.0)
        seen = self.problems.in_range(change)
        self.scale = torch.where(useful, product / (seen * seen / self.diagonal).sum(dim=(1, 2)), self.scale)

    def _forget(self, rows: Tensor) -> None:
        self.inverse_curvature[:, rows] = 0.0
        self.scale[rows] = 1.0
        self.shortenings[rows] = 0


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Return the inner product of each path, (K,) float64."""
    return (left * right).sum(dim=(1, 2), dtype=torch.float64)
