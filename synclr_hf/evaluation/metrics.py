"""The measures as metrics of the `evaluate` library, used by class, so that nothing is fetched.

    metric = evaluate.combine([TopKAccuracy(), MeanPerClassAccuracy()])
    for batch in batches:
        metric.add_batch(predictions=logits, references=labels)
    metric.compute()

`evaluate` keeps what is added in an Arrow file and reads it whole to compute. So that memory stays small, most of
these classes reduce every batch at once to a few numbers a picture, and those are kept. The files lie in a temporary
folder that goes with the metric, unless `cache_dir` says where; runs of several processes (`num_process`) need a
`cache_dir` that all of them see.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from typing import Any

import evaluate
import numpy as np
import torch
from datasets import Features, List, Value
from torch import Tensor

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.measures import (
    confusion_matrix,
    eleven_point_average_precision,
    label_ranks,
    mean_per_class_accuracy,
)

_SCORES = Features({"predictions": List(Value("float64")), "references": Value("int64")})
_NUMBERS = Features({"predictions": Value("int64"), "references": Value("int64")})
_NOWHERE = 2**62
"""Place of a class that has no score."""


class _Reducing(evaluate.Metric):
    """A metric that keeps of each batch only what it needs."""

    def __init__(self, *, cache_dir: str | None = None, **options: Any) -> None:
        if cache_dir is None and options.get("num_process", 1) == 1:
            cache_dir = tempfile.mkdtemp(prefix="synclr-metric-")
            weakref.finalize(self, shutil.rmtree, cache_dir, ignore_errors=True)
        super().__init__(cache_dir=cache_dir, **options)

    def add(self, *, prediction: Any = None, reference: Any = None, **named: Any) -> None:
        """Add one picture."""
        # a combination of metrics calls one picture `predictions` and `references`, too
        one = named.get("predictions", prediction), named.get("references", reference)
        self.add_batch(predictions=[one[0]], references=[one[1]])

    def add_batch(self, *, predictions: Any = None, references: Any = None) -> None:
        """Add a batch of pictures."""
        if predictions is None or references is None:
            raise UserInputError("predictions or references are missing; give both")
        if len(predictions) != len(references):
            raise UserInputError(
                f"{len(predictions)} predictions beside {len(references)} references; needed: as many of each"
            )
        kept_predictions, kept_references = self._reduce(predictions, references)
        super().add_batch(predictions=kept_predictions, references=kept_references)

    def _reduce(self, predictions: Any, references: Any) -> tuple[list[Any], list[Any]]:
        """Return what is kept of a batch, a row a picture each."""
        raise NotImplementedError


class TopKAccuracy(_Reducing):
    """Share of the pictures whose class is among the k with the largest scores.

    `compute` returns `accuracy` for k = 1 and `topK_accuracy` for others, in [0, 1].

    Args:
        ks: the k.
        **options: of `evaluate.Metric`, e.g. `cache_dir`.
    """

    def __init__(self, ks: Sequence[int] = (1, 5), **options: Any) -> None:
        if min(ks, default=0) < 1:
            raise UserInputError(f"ks is {list(ks)}; allowed: numbers of 1 or more, e.g. ks=(1, 5)")
        self.ks = tuple(ks)
        super().__init__(**options)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of the pictures whose class is among the k classes with the largest scores.",
            inputs_description=(
                "predictions: (N, C) scores, larger where a class is likelier; among equal ones the smaller class "
                "number comes first. references: (N,) class numbers; one beyond the scores counts as wrong. "
                "(Kept until compute: how many classes stand before the right one, and its number.)"
            ),
            citation="@article{russakovsky2015imagenet,\n title={ImageNet Large Scale Visual Recognition Challenge},\n"
            " author={Russakovsky, Olga and others},\n journal={International Journal of Computer Vision},\n"
            " year={2015}\n}",
            features=[_SCORES, _NUMBERS],
            license="Apache-2.0",
        )

    def _reduce(self, predictions: Any, references: Any) -> tuple[list[int], list[int]]:
        scores, labels = _tensor(predictions), _tensor(references).long()
        if scores.dim() != 2:
            raise UserInputError(f"predictions have the shape {tuple(scores.shape)}; needed: a score a class, (N, C)")
        ranks = label_ranks(_finite(scores), _class_numbers(labels))
        return ranks.where(labels < scores.shape[1], _NOWHERE).tolist(), labels.tolist()

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        ranks = np.asarray(predictions)
        return {"accuracy" if k == 1 else f"top{k}_accuracy": float((ranks < k).mean()) for k in self.ks}


class MeanPerClassAccuracy(_Reducing):
    """Mean over the classes that occur in the references of the accuracy on their pictures.

    `compute` returns `mean_per_class_accuracy` in [0, 1].

    Args:
        **options: of `evaluate.Metric`, e.g. `cache_dir`.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean over the classes that occur of the share of right answers for their pictures.",
            inputs_description=(
                "predictions: (N, C) scores or (N,) class numbers; among equal scores the smallest class number wins. "
                "references: (N,) class numbers."
            ),
            citation="@inproceedings{brodersen2010balanced,\n title={The Balanced Accuracy and Its Posterior "
            "Distribution},\n author={Brodersen, Kay H. and Ong, Cheng Soon and Stephan, Klaas E. and Buhmann, "
            "Joachim M.},\n booktitle={ICPR},\n year={2010}\n}",
            features=[_NUMBERS, _SCORES],
            license="Apache-2.0",
        )

    def _reduce(self, predictions: Any, references: Any) -> tuple[list[int], list[int]]:
        given, labels = _tensor(predictions), _class_numbers(_tensor(references).long())
        classes = _finite(given).argmax(dim=1) if given.dim() == 2 else given.long()
        return classes.tolist(), labels.tolist()

    def _compute(self, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        return {"mean_per_class_accuracy": mean_per_class_accuracy(_tensor(predictions), _tensor(references))}


class ElevenPointMAP(_Reducing):
    """Mean over the classes of the 11-point interpolated average precision of VOC2007.

    `compute` returns `map_11point` in [0, 1]; classes without a positive picture are left out of the mean. All scores
    are kept until then.

    Args:
        **options: of `evaluate.Metric`, e.g. `cache_dir`.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean over the classes of the 11-point interpolated average precision (PASCAL VOC 2007).",
            inputs_description=(
                "predictions: (N, C) scores, larger where a class is likelier; equal ones are counted together. "
                "references: (N, C), 1 where a class is there, 0 where it is not, negative or NaN where the picture "
                "counts for nothing (difficult)."
            ),
            citation="@article{everingham2010pascal,\n title={The PASCAL Visual Object Classes (VOC) Challenge},\n"
            " author={Everingham, Mark and Van Gool, Luc and Williams, Christopher K. I. and Winn, John and "
            "Zisserman, Andrew},\n journal={International Journal of Computer Vision},\n year={2010}\n}",
            features=Features({"predictions": List(Value("float64")), "references": List(Value("float64"))}),
            license="Apache-2.0",
        )

    def _reduce(self, predictions: Any, references: Any) -> tuple[list[list[float]], list[list[float]]]:
        scores, targets = _tensor(predictions), _tensor(references)
        if scores.dim() != 2 or scores.shape != targets.shape:
            raise UserInputError(
                f"predictions have the shape {tuple(scores.shape)}, references {tuple(targets.shape)}; needed: a "
                "score and a 0 or 1 for every class of every picture, (N, C) each"
            )
        return _finite(scores).double().tolist(), targets.double().tolist()

    def _compute(
        self, predictions: Sequence[Sequence[float]], references: Sequence[Sequence[float]]
    ) -> dict[str, float]:
        scores, targets = (torch.tensor(values, dtype=torch.float64) for values in (predictions, references))
        return {"map_11point": eleven_point_average_precision(scores, targets).nanmean().item()}


class MeanIoU(_Reducing):
    """Mean intersection over union of predicted masks; pixels of all pictures are counted together.

    `compute` returns `mean_iou` and `pixel_accuracy` in [0, 1] and `per_class_iou`, a list, `None` for a class that
    occurs neither in the masks nor in the predictions; the mean leaves it out.

    Args:
        num_classes: C.
        ignore_index: what stands in the references where a pixel counts for nothing; `None`: all count.
        **options: of `evaluate.Metric`, e.g. `cache_dir`.
    """

    def __init__(self, num_classes: int, ignore_index: int | None = 255, **options: Any) -> None:
        self.num_classes, self.ignore_index = num_classes, ignore_index
        super().__init__(**options)
        self.info.module_name = "mean_iou"  # made of the class's name it reads mean_io_u

    def _info(self) -> evaluate.MetricInfo:
        masks, counts = List(List(Value("int32"))), List(Value("int64"))
        return evaluate.MetricInfo(
            description="Mean over the classes of intersection over union of predicted and right pixels.",
            inputs_description=(
                "predictions: N masks (H, W) of class numbers, of one size or of many. references: N masks of the "
                "same sizes. (Kept until compute: pixels of intersection and of union for each class of a picture.)"
            ),
            citation="@article{everingham2015pascal,\n title={The PASCAL Visual Object Classes Challenge: A "
            "Retrospective},\n author={Everingham, Mark and others},\n journal={International Journal of Computer "
            "Vision},\n year={2015}\n}",
            features=[
                Features({"predictions": masks, "references": masks}),
                Features({"predictions": counts, "references": counts}),
            ],
            license="Apache-2.0",
        )

    def _reduce(self, predictions: Any, references: Any) -> tuple[list[list[int]], list[list[int]]]:
        both, either = [], []
        for predicted, target in zip(predictions, references, strict=True):
            counts = confusion_matrix(_tensor(predicted), _tensor(target), self.num_classes, self.ignore_index)
            hits = counts.diagonal()
            both.append(hits.tolist())
            either.append((counts.sum(dim=0) + counts.sum(dim=1) - hits).tolist())
        return both, either

    def _compute(self, predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> dict[str, Any]:
        both = np.sum(np.asarray(predictions), axis=0, dtype=np.float64)  # (C,)
        either = np.sum(np.asarray(references), axis=0, dtype=np.float64)
        present = either > 0
        found = np.divide(both, either, out=np.full_like(both, np.nan), where=present)
        counted = (either.sum() + both.sum()) / 2  # a union counts a right pixel once, a wrong one for two classes
        return {
            "mean_iou": float(found[present].mean()) if present.any() else float("nan"),
            "pixel_accuracy": float(both.sum() / counted) if present.any() else float("nan"),
            "per_class_iou": [float(value) if there else None for value, there in zip(found, present, strict=True)],
        }


def _tensor(values: Any) -> Tensor:
    """Return tensors, arrays, lists of numbers or lists of rows as one tensor on the CPU."""
    if isinstance(values, (list, tuple)) and len(values) and isinstance(values[0], Tensor):
        return torch.stack(list(values)).cpu()
    if isinstance(values, Tensor):
        return values.detach().cpu()
    return torch.from_numpy(np.array(values))


def _finite(scores: Tensor) -> Tensor:
    """Refuse scores that are not numbers."""
    if bad := int(scores.isnan().any(dim=1).sum()):
        raise UserInputError(f"{bad} of {len(scores)} pictures have a score that is not a number (NaN)")
    return scores


def _class_numbers(labels: Tensor) -> Tensor:
    """Refuse negative class numbers."""
    if len(labels) and labels.min() < 0:
        raise UserInputError(f"a reference is {int(labels.min())}; allowed: class numbers of 0 or more")
    return labels
