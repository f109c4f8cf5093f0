"""kNN accuracy when the test pictures are corrupted and the train pictures are not.

Each test picture is resized and cropped as always, then corrupted by every kind and severity, and classified by the
votes of its nearest clean train pictures. The kinds are the fifteen of ImageNet-C (see `corruptions`); the numbers are
accuracies (whatever the metric of the benchmark), of kNN, on any data set: they do not compare with published mean
corruption errors. Clean and corrupted accuracy are of the same test pictures; `relative_robustness` is the second
over the first. A picture keeps its pattern from run to run and from encoder to encoder, so differences between
encoders are differences on the same pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from synclr_hf.data.progress import Progress
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.workers import usable_cores
from synclr_hf.errors import UserInputError, unknown_name
from synclr_hf.evaluation.context import EvaluationContext, Outcome
from synclr_hf.evaluation.encoding.features import FeatureTable
from synclr_hf.evaluation.intervals import bootstrap_interval
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.evaluation.labelled.pictures import prepared_batches
from synclr_hf.evaluation.protocols.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from synclr_hf.evaluation.protocols.frozen_batches import frozen
from synclr_hf.evaluation.protocols.knn import PRIMARY_K, TEMPERATURE, knn_votes

_MOST_THREADS = 16


@dataclass(frozen=True)
class Config:
    """Settings of robustness.

    Attributes:
        kinds: corruptions, names of `CORRUPTIONS`.
        severities: 1 (weak) to 5 (strong); every one costs a pass over the test pictures for every kind.
        max_test_pictures: where there are more, so many are drawn, classes as even as they can be.
        num_neighbours: of kNN.
        temperature: the vote of a neighbour weighs exp(similarity / temperature).
    """

    kinds: tuple[str, ...] = tuple(CORRUPTIONS)
    severities: tuple[int, ...] = (1, 3, 5)
    max_test_pictures: int = 2000
    num_neighbours: int = PRIMARY_K
    temperature: float = TEMPERATURE

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        for kind in self.kinds:
            if kind not in CORRUPTIONS:
                raise unknown_name("corruption", kind, CORRUPTIONS, "robustness.kinds=fog,snow")
        for severity in self.severities:
            if severity not in SEVERITIES:
                raise unknown_name("severity", severity, map(str, SEVERITIES), "robustness.severities=1,3,5")
        for name, fix in (("kinds", "fog,snow"), ("severities", "1,3,5")):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise UserInputError(
                    f"robustness.{name} is {list(values)}; allowed: one or more different ones; "
                    f"type robustness.{name}={fix}"
                )
        for name in ("max_test_pictures", "num_neighbours", "temperature"):
            if getattr(self, name) <= 0:
                raise UserInputError(
                    f"robustness.{name} is {getattr(self, name)}; allowed: above 0; "
                    f"type robustness.{name}={getattr(Config, name)}"
                )


def evaluate(context: EvaluationContext, config: Config) -> Outcome:
    """Classify clean and corrupted test pictures by the votes of their nearest clean train pictures.

    The main metric is the accuracy under corruption, the mean over kinds and severities.

    Raises:
        UserInputError: pictures have several classes, or none can be read.
    """
    train = context.table("train")
    if train.labels.dim() > 1:
        raise UserInputError(
            f"{context.data.name} has several classes a picture, and robustness needs one; "
            "type --protocols without robustness"
        )
    test = context.data.test.at_most(config.max_test_pictures, seed=context.seed)
    right, rows = _right_answers(context, config, train, test)
    groups = test.groups[rows]
    clean, accuracies = float(right[:, 0].mean()), right[:, 1:].mean(axis=0)
    table = accuracies.reshape(len(config.kinds), len(config.severities))
    over_kinds = right[:, 1:].mean(axis=1)  # (N,) share of the corruptions under which a picture is recognised
    metrics = {
        "corrupted_accuracy": float(over_kinds.mean()),
        "accuracy": clean,
        "relative_robustness": float(over_kinds.mean() / clean) if clean else 0.0,
    }
    seed, severities = seed_for(context.seed, "robustness"), [str(severity) for severity in config.severities]
    return Outcome(
        primary="corrupted_accuracy",
        metrics=metrics,
        intervals={
            "corrupted_accuracy": bootstrap_interval(over_kinds, groups, seed=seed),
            "accuracy": bootstrap_interval(right[:, 0], groups, seed=seed),
        },
        config={
            "kinds": list(config.kinds),
            "severities": list(config.severities),
            "num_test": len(rows),
            "num_neighbours": min(config.num_neighbours, len(train)),
            "temperature": config.temperature,
        },
        details={
            "by_kind": dict(zip(config.kinds, table.mean(axis=1).tolist(), strict=True)),
            "by_severity": dict(zip(severities, table.mean(axis=0).tolist(), strict=True)),
            "by_kind_and_severity": {
                kind: dict(zip(severities, row.tolist(), strict=True))
                for kind, row in zip(config.kinds, table, strict=True)
            },
            "num_unreadable_test": len(test) - len(rows),
        },
    )


def _right_answers(
    context: EvaluationContext, config: Config, train: FeatureTable, test: LabelledImages
) -> tuple[np.ndarray, np.ndarray]:
    """Return which test pictures are classified rightly, clean and under every corruption.

    Every picture is decoded once; a batch goes through all corruptions before the next one is read, so memory does not
    grow with their number.

    Returns:
        (N, 1 + conditions) bool, the first column clean, and the rows of the test pictures that can be read, (N,).
    """
    encoder, conditions = context.encoder, list(product(config.kinds, config.severities))
    found, kept = [np.zeros((0, 1 + len(conditions)), dtype=bool)], [np.zeros(0, dtype=np.int64)]
    told = f"robustness, {encoder.name}, {context.data.name}"
    with (
        frozen(encoder) as features_of,
        ThreadPoolExecutor(max_workers=min(_MOST_THREADS, usable_cores())) as threads,
        Progress(told, total=len(test) * (1 + len(conditions)), unit="picture") as bar,
    ):
        batches = prepared_batches(
            test.pictures, size=encoder.image_size, batch_size=encoder.batch_size, resizing=encoder.resizing
        )
        for rows, pixels in batches:
            if len(rows) == 0:
                continue
            seeds = [seed_for(context.seed, "corruptions", int(row)) for row in rows]
            features = []
            for made in (pixels, *_corrupted_batches(pixels, conditions, seeds, threads)):
                features.append(features_of(made))
                bar.update(len(rows))
            votes = knn_votes(
                train.features,
                train.labels,
                torch.cat(features),  # where the model is, and compared there
                ks=(config.num_neighbours,),
                temperature=config.temperature,
            )[config.num_neighbours]
            by_condition = votes.argmax(dim=1).cpu().numpy().reshape(1 + len(conditions), len(rows))
            found.append((by_condition == test.labels[rows]).T)
            kept.append(rows)
    if len(found) == 1:
        raise UserInputError(
            f"none of the {len(test)} test pictures can be read; needed: JPEG, PNG or another format that Pillow opens"
        )
    return np.concatenate(found), np.concatenate(kept)


def _corrupted_batches(
    pixels: np.ndarray, conditions: Sequence[tuple[str, int]], seeds: Sequence[int], threads: ThreadPoolExecutor
) -> Iterator[np.ndarray]:
    """Yield a batch under every corruption, (B, size, size, 3) uint8; the next one is made while one is used."""

    def started(condition: tuple[str, int]) -> list[Future[np.ndarray]]:
        return [
            threads.submit(corrupted, picture, *condition, seed=seed)
            for picture, seed in zip(pixels, seeds, strict=True)
        ]

    waiting = started(conditions[0])
    for following in (*conditions[1:], None):
        current, waiting = waiting, [] if following is None else started(following)
        yield np.stack([future.result() for future in current])
