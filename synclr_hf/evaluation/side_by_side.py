"""Encoders side by side on the same pictures, beside the raw-pixel baseline: what a run reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from synclr_hf.data.back_ends import device_and_dtype
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext, EvaluationData, Outcome
from synclr_hf.evaluation.encoding.encoders import PIXEL_SIZE, PIXELS, Encoder, own_image_size, plain_encoder
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.evaluation.protocols import knn, linear_probe

PRIMARY_METRIC = "knn_top1"
"""The main number of this evaluation: kNN accuracy at `knn.PRIMARY_K` neighbours, larger is better."""

SMALL_SET_PROBE = linear_probe.Config(
    base_learning_rates=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0), batch_size=256, validation_fraction=0.2
)
"""Of the linear probe: smaller batches and larger rates than the paper's, because small sets take few steps."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings of an evaluation.

    Attributes:
        image_size: side of the pictures that the encoders see; `None`: each encoder's own.
        batch_size: pictures a forward pass; changes speed and memory only.
        device: where features are computed, e.g. `"cuda"`; `None`: on a GPU if there is one.
        pixel_size: side of the pictures of the raw-pixel baseline.
        neighbour_counts: the k of kNN; `PRIMARY_K` is added where it is missing.
        temperature: of the kNN votes.
        linear_probe: settings of the linear probe.
        cache_dir: folder of computed features, or `None`.
    """

    image_size: int | None = None
    batch_size: int = 256
    device: str | None = None
    pixel_size: int = PIXEL_SIZE
    neighbour_counts: tuple[int, ...] = knn.NEIGHBOUR_COUNTS
    temperature: float = knn.TEMPERATURE
    linear_probe: linear_probe.Config = SMALL_SET_PROBE
    cache_dir: str | None = None


def evaluate_encoders(
    encoders: Mapping[str, PreTrainedModel],
    train: LabelledImages,
    test: LabelledImages,
    *,
    seed: int,
    config: EvaluationConfig | None = None,
    name: str = "pictures",
) -> dict[str, Any]:
    """Evaluate encoders and the raw-pixel baseline by kNN and a linear probe.

    Args:
        encoders: name -> model, e.g. `{"trained": ..., "untrained": ...}`; `"pixels"` is added.
        train: pictures with known classes.
        test: pictures whose classes are predicted.
        seed: of the probe and the bootstrap; the same seed gives the same numbers on one machine.
        config: the settings; default `EvaluationConfig()`.
        name: what the pictures are called in progress bars.

    Returns:
        `knn_top1` and `linear_top1` (encoder -> fraction right), `knn_top1_by_k` (encoder -> k as text -> fraction),
        `intervals` (metric -> encoder -> [low, high], 95 % bootstrap over test pictures, captions kept whole),
        `num_train`, `num_test`, `num_classes`, `num_unreadable`, `chance` (1 / number of classes),
        `linear_probe` (encoder -> learning rate chosen and its validation accuracy), and `settings`.
        Plain numbers and strings only: ready for JSON.
    """
    config = config or EvaluationConfig()
    if PIXELS in encoders:
        raise UserInputError(f"the name '{PIXELS}' stands for the baseline; give the encoder another name")
    results: dict[str, Any] = {"knn_top1": {}, "linear_top1": {}, "knn_top1_by_k": {}, "linear_probe": {}}
    intervals: dict[str, dict[str, list[float]]] = {"knn_top1": {}, "linear_top1": {}}
    for encoder in (*encoders, PIXELS):
        context = _context(_encoder(encoder, encoders.get(encoder), config), train, test, seed, config, name)
        found = _outcomes(context, config)
        for metric, outcome in found.items():
            results[metric][encoder] = outcome.metrics["accuracy"]
            intervals[metric][encoder] = list(outcome.intervals["accuracy"])
        by_k = found["knn_top1"].metrics
        results["knn_top1_by_k"][encoder] = {
            str(k): by_k[f"accuracy_k{k}"] for k in found["knn_top1"].config["neighbour_counts"]
        }
        rate = found["linear_top1"].details["base_learning_rate"]
        results["linear_probe"][encoder] = {
            "base_learning_rate": rate,
            "validation_top1": found["linear_top1"].details["validation_scores"][str(rate)],
        }
        tables = context.table("train"), context.table("test")
    num_classes = len(np.unique(train.labels))
    return {
        "primary_metric": PRIMARY_METRIC,
        **results,
        "intervals": intervals,
        "num_train": len(tables[0]),
        "num_test": len(tables[1]),
        "num_classes": num_classes,
        "num_unreadable": sum(table.unreadable for table in tables),
        "chance": 1 / num_classes,
        "settings": _settings(config, encoders, seed),
    }


def encoder_accuracies(
    encoder: PreTrainedModel, train: LabelledImages, test: LabelledImages, *, seed: int, name: str = "encoder"
) -> dict[str, float]:
    """Evaluate one encoder by kNN and a linear probe, as `evaluate_encoders` does, and return the accuracies alone.

    Returns:
        `knn_top1` and `linear_top1`, fractions right.
    """
    config = EvaluationConfig()
    context = _context(_encoder(name, encoder, config), train, test, seed, config, "labelled pictures")
    return {metric: outcome.metrics["accuracy"] for metric, outcome in _outcomes(context, config).items()}


def _encoder(name: str, model: PreTrainedModel | None, config: EvaluationConfig) -> Encoder:
    if model is None:
        return Encoder(PIXELS, None, config.pixel_size)
    model.to(config.device or device_and_dtype()[0])
    return plain_encoder(model, name=name, image_size=config.image_size, batch_size=config.batch_size)


def _context(
    encoder: Encoder, train: LabelledImages, test: LabelledImages, seed: int, config: EvaluationConfig, name: str
) -> EvaluationContext:
    cache_dir = None if config.cache_dir is None else Path(config.cache_dir)
    return EvaluationContext(encoder, EvaluationData(name, train, test), seed, cache_dir)


def _outcomes(context: EvaluationContext, config: EvaluationConfig) -> dict[str, Outcome]:
    """Classify the test pictures in both ways."""
    votes = knn.Config(neighbour_counts=config.neighbour_counts, temperature=config.temperature)
    return {
        "knn_top1": knn.evaluate(context, votes),
        "linear_top1": linear_probe.evaluate(context, config.linear_probe),
    }


def _settings(config: EvaluationConfig, encoders: Mapping[str, PreTrainedModel], seed: int) -> dict[str, Any]:
    """Return everything that the numbers depend on, as plain values."""
    sizes = {name: config.image_size or own_image_size(encoder) for name, encoder in encoders.items()}
    settings = {"seed": seed, **asdict(config), "primary_k": knn.PRIMARY_K, "image_size": sizes}
    del settings["cache_dir"]
    for name in ("augmented", "crop_scale", "flip_probability"):  # features are computed once here
        del settings["linear_probe"][name]
    return json.loads(json.dumps(settings))
