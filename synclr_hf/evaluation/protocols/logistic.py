"""Logistic regression on frozen features, L2 chosen on validation among 45 values (SynCLR paper, appendix B.5).

As the reference code has it: features standardised by statistics of the rows that are learned from, 45 L2 values from
1e-6 to 1e5 with C = 1 / l2, at most 1,000 iterations, the best value on validation, a second fit on train and
validation together with statistics of its own. The objective is that of scikit-learn and cuML, see
`logistic_problem`; the solver is ours, see `lbfgs`. Benchmarks with several classes a picture (VOC2007) get a binary
regression a class and one L2 value for all of them.

Named choices where paper and reference are silent: without a validation split 20 % of the train pictures are set
aside class by class, groups kept whole (the reference draws them at random); among equal scores the largest L2 wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from synclr_hf.data.progress import Progress
from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext, Outcome
from synclr_hf.evaluation.encoding.encoders import Encoder
from synclr_hf.evaluation.encoding.features import FeatureTable
from synclr_hf.evaluation.labelled.splits import stratified_group_split
from synclr_hf.evaluation.measures import eleven_point_average_precision, mean_per_class_accuracy
from synclr_hf.evaluation.protocols.lbfgs import MAX_ITERATIONS, TOLERANCE, Path, Solution, solve_paths
from synclr_hf.evaluation.protocols.logistic_problem import LogisticProblems, PrincipalAxes, principal_axes
from synclr_hf.evaluation.scoring import score_predictions

L2_VALUES = tuple(10.0 ** (-6 + 0.25 * step) for step in range(45))
"""The 45 values of the reference, 1e-6 to 1e5."""
_IN_FLOAT64 = 2**26
"""Products of pictures, dimensions and classes up to which float32 features are computed with in float64."""
_SCORED_AT_ONCE = 2**14


@dataclass(frozen=True)
class Config:
    """Settings of the logistic regression.

    Attributes:
        l2_values: weights of |W|^2 / 2 beside the sum of the losses (1 / C) to choose from.
        validation_fraction: share of the train pictures to choose on where the data brings no validation split.
        max_iterations: bound for each value.
        tolerance: a fit is done when the estimated distance of its objective to the smallest one is below this share.
    """

    l2_values: tuple[float, ...] = L2_VALUES
    validation_fraction: float = 0.2
    max_iterations: int = MAX_ITERATIONS
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        if not self.l2_values or min(self.l2_values) <= 0 or max(self.l2_values) == float("inf"):
            raise UserInputError(
                f"logistic.l2_values={list(self.l2_values)}; allowed: numbers above 0; "
                "type logistic.l2_values=0.01,1,100"
            )
        if not 0 < self.validation_fraction < 1:
            raise UserInputError(
                f"logistic.validation_fraction={self.validation_fraction:g}; allowed: above 0 and below 1; "
                "type logistic.validation_fraction=0.2"
            )
        if self.max_iterations < 1 or not self.tolerance > 0:
            raise UserInputError(
                f"logistic.max_iterations={self.max_iterations} with logistic.tolerance={self.tolerance:g}; needed: 1 "
                "iteration or more and a tolerance above 0; type logistic.max_iterations=1000"
            )


@dataclass(frozen=True)
class LogisticFit:
    """A fitted regression.

    Attributes:
        l2: weight of |W|^2 / 2.
        axes: how features are prepared.
        weights: (C, R + 1) on the prepared features.
        classes: (C,) int64, the class number of each row of `weights`.
        iterations: steps of the solver; of several regressions the most.
        gradient_norm: largest entry of the gradient (objective divided by the number of pictures).
        gap: estimated distance of the objective to the smallest one, as a share, see `lbfgs.TOLERANCE`.
        converged: whether the gap is within the tolerance, or within the precision of float32.
    """

    l2: float
    axes: PrincipalAxes
    weights: Tensor
    classes: Tensor
    iterations: int
    gradient_norm: float
    gap: float
    converged: bool

    def scores(self, features: Tensor, num_classes: int) -> Tensor:
        """Return logits, (M, num_classes) on the CPU; classes that were not learned stand below all others."""
        found = []
        for part in features.split(_SCORED_AT_ONCE):
            logits = (self.axes.turned(part.to(self.weights)) @ self.weights.T).cpu()
            lowest = logits.amin(dim=1, keepdim=True) - 1
            found.append(lowest.repeat(1, num_classes).index_copy_(1, self.classes, logits))
        return torch.cat(found)

    def moved(self, axes: PrincipalAxes, classes: Tensor) -> Tensor:
        """Return the same regression for features prepared in another way, (classes, R' + 1); unknown classes: 0."""
        coefficients, bias = self.axes.coefficients(self.weights)
        plain = (coefficients / self.axes.scale).to(axes.axes)
        weights = (plain * axes.scale) @ axes.axes
        bias = bias.to(plain) + plain @ (axes.mean - self.axes.mean.to(plain))
        known = torch.isin(classes, self.classes)
        rows = torch.searchsorted(self.classes, classes[known]).to(plain.device)
        found = plain.new_zeros(len(classes), weights.shape[1] + 1)
        found[known.to(plain.device)] = torch.cat([weights, bias[:, None]], dim=1)[rows]
        return found


def fit_logistic(
    features: Tensor,
    labels: Tensor,
    l2_values: Sequence[float],
    *,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    start: LogisticFit | None = None,
) -> Iterator[LogisticFit]:
    """Fit logistic regressions with several L2 values, the largest first.

    Memory beside the features: their prepared copy, 48 arrays of weights, a block of logits (2 MiB on a CPU, 256 MiB
    on a GPU, four of them at most).

    Args:
        features: (N, D), finite, standardised here, on the device where it is computed. Float32 stays float32 where
            the work is large, which reaches the optimum to a relative 1e-7; small problems are solved in float64.
        labels: (N,) int64: one multinomial regression; or (N, C) multi-hot (negative or NaN: the picture counts for
            nothing in the class): a binary regression for each class with pictures in and out of it.
        l2_values: weights of |W|^2 / 2 beside the sum of the losses.
        tolerance: see `lbfgs.TOLERANCE`.
        max_iterations: of each regression.
        start: a fit to similar pictures to start from; the optimum is the same.

    Raises:
        UserInputError: there are fewer than two classes to tell apart.
    """
    if labels.dim() == 1:
        classes, targets = labels.unique(return_inverse=True)
    else:
        classes = ((labels > 0).any(dim=0) & (labels == 0).any(dim=0)).nonzero()[:, 0]
        targets = labels[:, classes]
    if len(classes) < (2 if labels.dim() == 1 else 1):
        raise UserInputError(
            f"the {len(labels)} pictures to learn from are all of one class; logistic regression needs two or more: "
            "give a data set with more classes"
        )
    if features.numel() * len(classes) <= _IN_FLOAT64:
        features = features.double()
    elif features.dtype != torch.float64:
        features = features.float()  # stored in half precision
    axes = principal_axes(features)
    problems = LogisticProblems(axes.turned(features), targets.to(features.device), len(classes))
    falling = tuple(sorted(set(l2_values), reverse=True))
    paths = [Path(problem, falling) for problem in range(problems.num_problems)]
    waiting: dict[float, list[Solution]] = {l2: [] for l2 in falling}
    first = None if start is None else start.moved(axes, classes.cpu())
    if first is not None:
        first = first[None] if problems.is_multinomial else first[:, None]  # (K, C, D)
    settings = {"tolerance": tolerance, "max_iterations": max_iterations}
    for solution in solve_paths(problems, paths, start=first, **settings):
        together = waiting[solution.l2]
        together.append(solution)
        if len(together) == len(paths):
            together.sort(key=lambda part: part.problem)
            yield LogisticFit(
                l2=solution.l2,
                axes=axes,
                weights=torch.cat([part.weights for part in together]),
                classes=classes.cpu(),
                iterations=max(part.iterations for part in together),
                gradient_norm=max(part.gradient_norm for part in together),
                gap=max(part.gap for part in together),
                converged=all(part.converged for part in together),
            )
            del waiting[solution.l2]


def evaluate(context: EvaluationContext, config: Config) -> Outcome:
    """Choose the L2 value on validation, fit again on train and validation, score the test pictures."""
    metric = context.data.metric
    train, test = checked_table(context, "train"), checked_table(context, "test")
    fit, validation, chosen_on = _sides(context, config, train)
    num_classes = max(count_classes(train), int(validation[1].max()) + 1 if train.labels.dim() == 1 else 0)
    device = device_of(context.encoder)
    settings = {"tolerance": config.tolerance, "max_iterations": config.max_iterations}

    fits: list[tuple[float, int, float, float, bool]] = []
    scores: list[float] = []
    with Progress("logistic regression, L2", total=len(set(config.l2_values)) + 1, unit="value") as bar:
        for found in fit_logistic(fit[0].to(device), fit[1], config.l2_values, **settings):
            fits.append((found.l2, found.iterations, found.gradient_norm, found.gap, found.converged))
            score = _score(found.scores(validation[0], num_classes), validation[1], metric)
            if score > max(scores, default=-1.0):  # among equal ones the first, which is the largest L2, stays
                chosen = found
            scores.append(score)
            bar.update()
        features, labels = train.features, train.labels
        if chosen_on == "validation":
            features, labels = torch.cat([features, validation[0]]), torch.cat([labels, validation[1]])
        (final,) = fit_logistic(features.to(device), labels, [chosen.l2], start=chosen, **settings)
        bar.update()

    scored = score_predictions(
        final.scores(test.features, num_classes),
        test.labels,
        metric=metric,
        seed=seed_for(context.seed, "logistic"),
        groups=test.groups.numpy(),
    )
    loose = [f"l2={l2:g} (gap {gap:.0e})" for l2, _, _, gap, converged in fits if not converged]
    if not final.converged:
        loose.append(f"the last fit (gap {final.gap:.0e})")
    details = {
        **scored.details,
        "chosen_l2": final.l2,
        "chosen_c": 1 / final.l2,
        "at_edge_of_grid": final.l2 in (max(config.l2_values), min(config.l2_values)),
        "chosen_on": chosen_on,
        "num_fitted": len(fit[0]),
        "num_validation": len(validation[0]),
        "l2_values": [l2 for l2, *_ in fits],
        "validation_scores": scores,
        "iterations": [iterations for _, iterations, *_ in fits],
        "gradient_norms": [norm for _, _, norm, *_ in fits],
        "last_fit": {"num_pictures": len(features), "iterations": final.iterations, "gap": final.gap}
        | {"gradient_norm": final.gradient_norm, "converged": final.converged},
        "not_converged": loose,
        "unseen_labels": unseen_labels(labels, test.labels),
    }
    effective = {
        "l2_values": sorted(config.l2_values),
        "objective": "sum of losses + l2 / 2 * |W|^2, bias not penalised (C = 1 / l2)",
        "standardised": True,
        "validation_fraction": config.validation_fraction if chosen_on == "part of train" else None,
        **settings,
    }
    return Outcome(scored.primary, scored.metrics, scored.intervals, effective, details)


def checked_table(context: EvaluationContext, side: str) -> FeatureTable:
    """Return the features of a side.

    Raises:
        UserInputError: it is empty, a feature is not finite, or labels and metric do not fit each other.
    """
    table = context.table(side)  # type: ignore[arg-type]
    if len(table) == 0:
        raise UserInputError(f"the {side} side of {context.data.name} is empty; give a data set with pictures there")
    if bad := int((~table.features.isfinite().all(dim=1)).sum()):
        raise UserInputError(
            f"the features of {bad} of {len(table)} {side} pictures hold NaN or infinite values; look at the model "
            "(a damaged checkpoint, or float16 that overflows: --dtype float32)"
        )
    if (table.labels.dim() == 2) != (context.data.metric == "map_11point"):
        kind = "several classes" if table.labels.dim() == 2 else "one class"
        raise UserInputError(
            f"the {side} pictures of {context.data.name} have {kind} each, which does not fit the metric "
            f"'{context.data.metric}'; type --metric {'map_11point' if table.labels.dim() == 2 else 'accuracy'}"
        )
    return table


def count_classes(train: FeatureTable) -> int:
    """Return the number of columns of scores: the named classes, or more where a train label stands beyond them."""
    if train.labels.dim() == 2:
        return train.labels.shape[1]
    return max(len(train.label_names), int(train.labels.max()) + 1)


def unseen_labels(train: Tensor, test: Tensor) -> int:
    """Return how many test pictures have a class that no train picture has; they count as wrong."""
    if train.dim() == 2:
        return int(((test > 0) & ~(train > 0).any(dim=0)).any(dim=1).sum())
    return int((~torch.isin(test, train)).sum())


def device_of(encoder: Encoder) -> torch.device:
    """Return the GPU that the encoder is on, or the CPU (Apple's has no float64)."""
    device = torch.device("cpu") if encoder.model is None else encoder.model.device
    return device if device.type == "cuda" else torch.device("cpu")


_Rows = tuple[Tensor, Tensor]


def _sides(context: EvaluationContext, config: Config, train: FeatureTable) -> tuple[_Rows, _Rows, str]:
    """Return features and labels to learn from and to choose on, and in words what the latter are."""
    if context.data.validation is not None:
        validation = checked_table(context, "validation")
        return (train.features, train.labels), (validation.features, validation.labels), "validation"
    labels = train.labels
    if labels.dim() == 2:  # a picture of several classes counts to the rarest of them
        labels = torch.where(labels > 0, (labels > 0).sum(dim=0), torch.inf).argmin(dim=1)
    parts = stratified_group_split(
        labels.numpy(),
        train.groups.numpy(),
        held_out=config.validation_fraction,
        seed=seed_for(context.seed, "logistic split"),
    )
    fit, held_out = ((train.features[rows], train.labels[rows]) for rows in parts)
    if len(parts[1]) == 0:  # a single group in every class
        return fit, fit, "train"
    return fit, held_out, "part of train"


def _score(scores: Tensor, labels: Tensor, metric: str) -> float:
    """Return the benchmark's metric, without the interval that costs more than the fit."""
    if metric == "map_11point":
        return eleven_point_average_precision(scores, labels).nanmean().nan_to_num(nan=0.0).item()
    predicted = scores.argmax(dim=1)
    if metric == "mean_per_class_accuracy":
        return mean_per_class_accuracy(predicted, labels)
    return (predicted == labels).double().mean().item()
