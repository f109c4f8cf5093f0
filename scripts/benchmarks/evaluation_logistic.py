"""The part `logistic` of `evaluation.py`: 45 regularisation values beside scikit-learn."""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch


def add_logistic_options(parser: argparse.ArgumentParser) -> None:
    """Sizes of the data, and what scikit-learn is given."""
    parser.add_argument("--features", type=Path, help="safetensors file with `features` (N, D) and `labels` (N,)")
    parser.add_argument("--rows", type=int, default=5000, help="drawn pictures to learn from, without --features")
    parser.add_argument("--width", type=int, default=768, help="dimensions of a drawn feature")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--values", type=int, default=45, help="L2 values, evenly spaced among the 45")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, of ours; scikit-learn is on the CPU")
    parser.add_argument("--threads", type=int, default=2, help="of both on the CPU")
    parser.add_argument(
        "--references",
        nargs="+",
        default=["float32", "float32-warm", "float64"],
        choices=("float32", "float32-warm", "float64"),
        help="scikit-learn with features of that dtype; warm: each value starts at the optimum of the one before",
    )
    parser.add_argument("--seed", type=int, default=0)


def measure_logistic(options: argparse.Namespace) -> dict[str, Any]:
    """Fit all L2 values, choose on validation, fit again and score the test rows: ours and scikit-learn in turn.

    Both have the same standardised rows; scikit-learn runs as the reference code has it, tol 1e-12 and at most 1,000
    iterations, all values in one process.
    """
    import sklearn
    import torch
    from threadpoolctl import threadpool_limits

    from synclr_hf.evaluation.protocols.logistic import L2_VALUES, fit_logistic

    threads_before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    fit, validation, test = _logistic_rows(options)
    both = tuple(torch.cat(parts) for parts in zip(fit, validation, strict=True))
    places = torch.linspace(44, 0, options.values).round().long().unique().flip(0)
    values = [L2_VALUES[place] for place in places]
    num_classes = int(fit[1].max()) + 1

    def ours(rows: Any, l2_values: Sequence[float], start: Any = None) -> Iterator[Any]:
        for found in fit_logistic(rows[0].to(options.device), rows[1], l2_values, start=start):
            weights, bias = found.axes.coefficients(found.weights)
            yield (
                lambda features, found=found: found.scores(features, num_classes).argmax(dim=1),
                (weights.double().cpu(), bias.double().cpu()),
                found,
            )

    runs = {"ours": ours} | {name: _scikit_learn(name) for name in options.references}
    found: dict[str, Any] = {}
    coefficients = {}
    try:
        with threadpool_limits(options.threads):
            for _ in fit_logistic(fit[0][:500].to(options.device), fit[1][:500], values[:3]):
                pass  # warms up
            for name, run in runs.items():
                start = time.perf_counter()
                fits = list(run(fit, values))
                accuracies = [_accuracy(predict(validation[0]), validation[1]) for predict, *_ in fits]
                swept = time.perf_counter() - start
                best = max(range(len(values)), key=accuracies.__getitem__)
                ((predict, *_),) = run(both, [values[best]], start=fits[best][2])  # as the protocol does
                found[name] = {
                    "seconds": time.perf_counter() - start,
                    "seconds_of_the_values": swept,
                    "best_l2": values[best],
                    "validation_accuracy": accuracies[best],
                    "test_accuracy": _accuracy(predict(test[0]), test[1]),
                }
                coefficients[name] = [pair for _, pair, _ in fits]
                print(name, found[name], file=sys.stderr, flush=True)
    finally:
        torch.set_num_threads(threads_before)
    # what matters about an optimiser: how far each ends above the lowest objective that any of them found
    objectives = {name: _objectives(fit, pairs, values) for name, pairs in coefficients.items()}
    lowest = torch.stack(list(objectives.values())).amin(dim=0)
    for name, numbers in found.items():
        above = objectives[name] / lowest - 1
        numbers["objective_above_lowest"] = {"median": above.median().item(), "largest": above.max().item()}
        numbers["times_our_seconds"] = numbers["seconds"] / found["ours"]["seconds"]
    return {
        "machine": {"cores": os.cpu_count(), "threads": options.threads, "load_average": os.getloadavg()[0]},
        "versions": {"torch": torch.__version__, "scikit-learn": sklearn.__version__},
        "sizes": {"fit": list(fit[0].shape), "validation": len(validation[0]), "test": len(test[0])},
        "classes": num_classes,
        "l2_values": len(values),
        **found,
    }


def _scikit_learn(name: str) -> Callable[..., Iterator[Any]]:
    """Return a run over L2 values by scikit-learn on features that it standardises as ours does."""
    import torch
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    dtype = torch.float64 if name == "float64" else torch.float32

    def run(rows: Any, values: Sequence[float], start: None = None) -> Iterator[Any]:
        features, labels = rows
        mean, scale = features.double().mean(0), features.double().std(0, unbiased=False)

        def prepared(given: torch.Tensor) -> Any:
            return ((given.double() - mean) / scale).to(dtype).numpy()

        inputs, targets = prepared(features), labels.numpy()
        model = LogisticRegression(tol=1e-12, max_iter=1000, warm_start=name.endswith("warm"))
        for l2 in values:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.set_params(C=1 / l2).fit(inputs, targets)
            pair = torch.from_numpy(model.coef_.copy()), torch.from_numpy(model.intercept_.copy())

            def predict(given: torch.Tensor, pair: Any = pair) -> torch.Tensor:
                return (torch.from_numpy(prepared(given)) @ pair[0].T + pair[1]).argmax(dim=1)

            yield predict, tuple(part.double() for part in pair), None

    return run


def _objectives(rows: Any, pairs: Sequence[Any], values: Sequence[float]) -> Any:
    """Return the objective of each pair of coefficients and biases in float64."""
    import torch
    import torch.nn.functional as F

    features = rows[0].double()
    standard = (features - features.mean(0)) / features.std(0, unbiased=False)
    losses = [F.cross_entropy(standard @ weights.T + bias, rows[1], reduction="sum") for weights, bias in pairs]
    penalties = [l2 / 2 * weights.square().sum() for (weights, _), l2 in zip(pairs, values, strict=True)]
    return torch.stack(losses) + torch.stack(penalties)


def _accuracy(predicted: Any, labels: Any) -> float:
    return (predicted == labels).double().mean().item()


def _logistic_rows(options: argparse.Namespace) -> list[tuple[Any, Any]]:
    """Return features and labels to learn from, to choose on and to test on, of a file or drawn.

    Drawn features have noise with the falling spectrum of real ones (standard deviation of the k-th axis 1 / sqrt(k)),
    class means whose spectrum falls faster (1 / k), and one label in twenty is wrong; turned at random, so that
    dimensions are correlated.
    """
    import torch
    from safetensors.torch import load_file

    from synclr_hf.evaluation.labelled.splits import stratified_group_split

    if options.features:
        stored = load_file(options.features)
        features, labels = stored["features"].float(), stored["labels"].unique(return_inverse=True)[1]
        rest, test = stratified_group_split(labels.numpy(), np.arange(len(labels)), held_out=0.25, seed=options.seed)
        inner = stratified_group_split(labels[rest].numpy(), rest, held_out=0.2, seed=options.seed)
        return [(features[rows], labels[rows]) for rows in (rest[inner[0]], rest[inner[1]], test)]
    generator = torch.Generator().manual_seed(options.seed)
    deviation = torch.arange(1, options.width + 1).float().rsqrt()
    turn = torch.linalg.qr(torch.randn(options.width, options.width, generator=generator))[0]
    means = 1.5 * torch.randn(options.classes, options.width, generator=generator) * deviation.square()
    parts = []
    for count in (options.rows, options.rows // 5, 2 * options.rows // 5):
        labels = torch.arange(count) % options.classes
        features = means[labels] + torch.randn(count, options.width, generator=generator) * deviation
        wrong = torch.rand(count, generator=generator) < 0.05
        told = torch.where(wrong, torch.randint(options.classes, (count,), generator=generator), labels)
        parts.append((features @ turn, told))
    return parts
