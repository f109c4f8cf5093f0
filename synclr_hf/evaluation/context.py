"""What a protocol is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.encoders import Encoder
from synclr_hf.evaluation.encoding.features import FeatureTable, encoder_features
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.evaluation.labelled.masked_images import MaskedImages

Side = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class EvaluationData:
    """A benchmark, or anybody's own labelled pictures.

    Attributes:
        name: what the user typed: the name of a benchmark, a folder, or a Hub id.
        train: what is learned from.
        test: what the numbers are about.
        validation: what settings are chosen on, where the data set brings such a split; else `None`, and a protocol
            that chooses takes a part of `train`.
        metric: `accuracy`, `mean_per_class_accuracy`, `map_11point` (labels are (N, C) multi-hot), `mean_iou` (masks).
        benchmark: name in the registry, `None` for anything else.
        is_toy: drawn by the toy world: its numbers never stand beside real ones.
        is_whole_benchmark: numbers of pictures and classes and the metric are those of the whole benchmark: only then
            may its numbers stand beside published ones (`Benchmark.same_test_split` tells whether these are of the
            same pictures).
        num_unseen_labels: test pictures of a class that no train picture has (of none but such classes where a picture
            has several); 0 for masks.
    """

    name: str
    train: LabelledImages | MaskedImages
    test: LabelledImages | MaskedImages
    validation: LabelledImages | MaskedImages | None = None
    metric: str = "accuracy"
    benchmark: str | None = None
    is_toy: bool = False
    is_whole_benchmark: bool = False
    num_unseen_labels: int = 0


@dataclass(frozen=True)
class EvaluationContext:
    """One encoder on one data set.

    Attributes:
        encoder: what is evaluated.
        data: on what.
        seed: of everything that is random; the same seed gives the same numbers on one machine.
        cache_dir: folder of computed features, or `None`.
        work_dir: folder of checkpoints of protocols that train, removed behind them; `None`: a temporary one.
    """

    encoder: Encoder
    data: EvaluationData
    seed: int = 0
    cache_dir: Path | None = None
    work_dir: Path | None = None
    _tables: dict[str, FeatureTable] = field(default_factory=dict, repr=False, compare=False)

    def table(self, side: Side) -> FeatureTable:
        """Return the features of one side, computed once for all protocols and kept on disk in `cache_dir`.

        Raises:
            UserInputError: there is no such side, or not one of its pictures can be read.
        """
        if side not in self._tables:
            told = f"features, {self.encoder.name}, {self.data.name} ({side})"
            pictures = getattr(self.data, side)
            if pictures is None:
                raise UserInputError(f"'{self.data.name}' has no {side} pictures; give a data set with such a split")
            self._tables[side] = encoder_features(self.encoder, pictures, cache_dir=self.cache_dir, description=told)
        return self._tables[side]


@dataclass(frozen=True)
class Outcome:
    """The numbers of one protocol, plain values only, ready for JSON.

    Attributes:
        primary: name of the main one of `metrics`, declared by the protocol, larger is better.
        metrics: name -> value; shares are fractions in [0, 1], never per cent.
        intervals: name -> (low, high), 95 % bootstrap over the test pictures; for `primary` at least.
        config: the effective settings of the protocol, defaults and derived values included.
        details: what else is worth keeping: what was chosen on validation, scores a class, curves.
    """

    primary: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    config: Mapping[str, Any]
    details: Mapping[str, Any] = field(default_factory=dict)
