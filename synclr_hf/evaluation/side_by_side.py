"""Encoders side by side on the same pictures, beside the raw-pixel baseline: what a run reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from synclr_hf.data.back_ends import device_and_dtype
from synclr_hf.data.progress import Progress
from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoders import own_image_size
from synclr_hf.evaluation.features import PIXEL_SIZE, FeatureTable, extract_features, pixel_table
from synclr_hf.evaluation.intervals import bootstrap_interval
from synclr_hf.evaluation.labelled_images import LabelledImages
from synclr_hf.evaluation.protocols.knn import NEIGHBOUR_COUNTS, PRIMARY_K, TEMPERATURE, knn_predictions
from synclr_hf.evaluation.protocols.linear_probe import Config as LinearProbeConfig
from synclr_hf.evaluation.protocols.linear_probe import linear_probe

PIXELS = "pixels"
"""Name of the raw-pixel baseline in every result."""
PRIMARY_METRIC = "knn_top1"
"""The main number of this evaluation: kNN accuracy at `PRIMARY_K` neighbours, larger is better."""

SMALL_SET_PROBE = LinearProbeConfig(
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
    neighbour_counts: tuple[int, ...] = NEIGHBOUR_COUNTS
    temperature: float = TEMPERATURE
    linear_probe: LinearProbeConfig = SMALL_SET_PROBE
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
        train_table, test_table = (
            _table(encoders.get(encoder), data, config, f"features, {encoder}, {name} ({side})")
            for data, side in ((train, "train"), (test, "test"))
        )
        with Progress(f"kNN and linear probe, {encoder}, {name}"):
            found = _classify(train_table, test_table, seed, config)
        correct = {k: (predicted == test_table.labels).numpy() for k, predicted in found["knn"].items()}
        results["knn_top1_by_k"][encoder] = {str(k): float(right.mean()) for k, right in correct.items()}
        results["linear_probe"][encoder] = found["probe_facts"]
        main = {"knn_top1": correct[PRIMARY_K], "linear_top1": (found["linear"] == test_table.labels).numpy()}
        for metric, right in main.items():
            results[metric][encoder] = float(right.mean())
            interval = bootstrap_interval(right, test_table.groups.numpy(), seed=seed_for(seed, metric))
            intervals[metric][encoder] = list(interval)
    counts = {"num_train": len(train_table), "num_test": len(test_table), "num_classes": len(np.unique(train.labels))}
    unreadable = train_table.unreadable + test_table.unreadable
    return {
        "primary_metric": PRIMARY_METRIC,
        **results,
        "intervals": intervals,
        **counts,
        "num_unreadable": unreadable,
        "chance": 1 / counts["num_classes"],
        "settings": _settings(config, encoders, seed),
    }


def _table(
    encoder: PreTrainedModel | None, data: LabelledImages, config: EvaluationConfig, description: str
) -> FeatureTable:
    """Extract features with an encoder, or raw pixels without one."""
    if encoder is None:
        return pixel_table(data, size=config.pixel_size)
    return extract_features(
        encoder,
        data,
        image_size=config.image_size,
        batch_size=config.batch_size,
        device=config.device or device_and_dtype()[0],
        cache_dir=config.cache_dir,
        description=description,
    )


def encoder_accuracies(
    encoder: PreTrainedModel, train: LabelledImages, test: LabelledImages, *, seed: int, name: str = "encoder"
) -> dict[str, float]:
    """Evaluate one encoder by kNN and a linear probe, as `evaluate_encoders` does, and return the accuracies alone.

    Returns:
        `knn_top1` and `linear_top1`, fractions right.
    """
    config = EvaluationConfig()
    tables = [_table(encoder, data, config, f"features, {name}") for data in (train, test)]
    found = _classify(*tables, seed, config)
    predicted = {"knn_top1": found["knn"][PRIMARY_K], "linear_top1": found["linear"]}
    return {metric: float((right == tables[1].labels).float().mean()) for metric, right in predicted.items()}


def _classify(train: FeatureTable, test: FeatureTable, seed: int, config: EvaluationConfig) -> dict[str, Any]:
    """Predict the classes of the test table in both ways."""
    ks = sorted({*config.neighbour_counts, PRIMARY_K})
    probe = linear_probe(
        train.features,
        train.labels,
        test.features,
        seed=seed_for(seed, "linear probe"),
        groups=train.groups.numpy(),
        config=config.linear_probe,
    )
    return {
        "knn": knn_predictions(train.features, train.labels, test.features, ks=ks, temperature=config.temperature),
        "linear": probe.predictions,
        "probe_facts": {
            "base_learning_rate": probe.base_learning_rate,
            "validation_top1": probe.validation_scores[probe.base_learning_rate],
        },
    }


def _settings(config: EvaluationConfig, encoders: Mapping[str, PreTrainedModel], seed: int) -> dict[str, Any]:
    """Return everything that the numbers depend on, as plain values."""
    sizes = {name: config.image_size or own_image_size(encoder) for name, encoder in encoders.items()}
    settings = {"seed": seed, **asdict(config), "primary_k": PRIMARY_K, "image_size": sizes}
    del settings["cache_dir"]
    for name in ("augmented", "crop_scale", "flip_probability"):  # features are computed once here
        del settings["linear_probe"][name]
    return json.loads(json.dumps(settings))
