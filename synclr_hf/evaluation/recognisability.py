"""Whether pictures drawn of a class are recognised, and how varied they are.

The two measures by which "Scaling Laws of Synthetic Images for Model Training ... for Now" (Fan et al. 2023, arXiv
2312.04567) explains which synthetic pictures are worth training on: the F1 score of a given classifier on them, class
by class, in the mean; and the standard deviation of the features of a pretrained model in a class, in the mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from synclr_hf.data.seeds import seed_for

NUM_RESAMPLES = 1000

_TAIL = 0.025


@dataclass(frozen=True)
class ClassMatch:
    """Which class of a classifier a name stands for.

    Attributes:
        classes: name -> number of its class.
        unknown: names that no class has.
        ambiguous: names that several classes have.
    """

    classes: Mapping[str, int]
    unknown: tuple[str, ...]
    ambiguous: tuple[str, ...]


def match_classes(names: Sequence[str], labels: Mapping[int, str]) -> ClassMatch:
    """Find the class of each name by its label; `tabby` and `Tiger Cat` are both of `tabby, tabby_cat, tiger cat`.

    Compared are whole labels first, then the synonyms between their commas, in lower case, with one space in place of
    anything that is no letter or digit.

    Args:
        names: different names, e.g. the concepts of an images set.
        labels: number of a class -> its label, e.g. `id2label` of a classifier.
    """
    whole: dict[str, set[int]] = {}
    synonyms: dict[str, set[int]] = {}
    for number, label in labels.items():
        whole.setdefault(_normal(label), set()).add(int(number))
        for synonym in str(label).split(","):
            synonyms.setdefault(_normal(synonym), set()).add(int(number))
    found = {name: whole.get(_normal(name)) or synonyms.get(_normal(name)) or set() for name in names}
    return ClassMatch(
        classes={name: next(iter(numbers)) for name, numbers in found.items() if len(numbers) == 1},
        unknown=tuple(name for name, numbers in found.items() if not numbers),
        ambiguous=tuple(name for name, numbers in found.items() if len(numbers) > 1),
    )


def class_f1(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the F1 score of each class, (num_classes,) float64; NaN for a class without pictures.

    F1 = 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall. The mean over the classes is
    scikit-learn's `f1_score(labels, predicted, labels=classes_with_pictures, average="macro")`.

    Args:
        predicted: (N,) int64, the class predicted for each picture, 0 to `num_classes` - 1.
        labels: (N,) int64, the class that each picture was drawn of, 0 to `num_classes` - 1.
        num_classes: number of classes.
    """
    return _f1(*_counts(predicted, labels, num_classes, np.ones(len(labels))))


def f1_interval(
    predicted: np.ndarray, labels: np.ndarray, groups: np.ndarray, num_classes: int, *, seed: int
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean F1 over classes.

    Whole groups are drawn with replacement, `NUM_RESAMPLES` times: pictures of one caption are alike.

    Args:
        predicted: see `class_f1`.
        labels: see `class_f1`.
        groups: (N,) ids of what is drawn together.
        num_classes: number of classes.
        seed: equal seeds give equal intervals.
    """
    _, group_of_row = np.unique(groups, return_inverse=True)
    num_groups = int(group_of_row.max()) + 1
    generator = np.random.default_rng(seed_for(seed, "bootstrap", "f1"))
    means = []
    for _ in range(NUM_RESAMPLES):
        times = np.bincount(generator.integers(num_groups, size=num_groups), minlength=num_groups)
        means.append(np.nanmean(_f1(*_counts(predicted, labels, num_classes, times[group_of_row].astype(float)))))
    return _middle(np.array(means))


def class_spread(features: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return how varied each class is in feature space, (num_classes,) float64; NaN for fewer than two pictures.

    Each feature vector is scaled to length 1, so that encoders whose features are long do not look varied. Then the
    standard deviation of every dimension over the pictures of the class (n - 1 in the denominator, so that classes of
    different numbers of pictures can be compared), in the mean over dimensions. The values of two encoders cannot be
    compared. How the features are scaled, and the n - 1, are choices of ours, not checked against the paper.

    Args:
        features: (N, D), any scale.
        labels: (N,) int64, 0 to `num_classes` - 1.
        num_classes: number of classes.
    """
    spread = np.full(num_classes, np.nan)
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    unit = features / np.maximum(lengths, 1e-12)
    for number in range(num_classes):
        members = unit[labels == number]
        if len(members) > 1:
            spread[number] = members.std(axis=0, ddof=1).mean()
    return spread


def mean_interval(values: np.ndarray, *, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean over classes; classes are drawn with replacement.

    Args:
        values: one number a class; NaN is left out, at least one is none.
        seed: equal seeds give equal intervals.
    """
    known = values[~np.isnan(values)]
    generator = np.random.default_rng(seed_for(seed, "bootstrap", "classes"))
    return _middle(known[generator.integers(len(known), size=(NUM_RESAMPLES, len(known)))].mean(axis=1))


def _counts(predicted: np.ndarray, labels: np.ndarray, num_classes: int, weights: np.ndarray) -> Iterator[np.ndarray]:
    """Yield pictures recognised, pictures predicted and pictures there of each class, (num_classes,) each."""
    right = predicted == labels
    yield np.bincount(labels[right], weights[right], minlength=num_classes)
    yield np.bincount(predicted, weights, minlength=num_classes)
    yield np.bincount(labels, weights, minlength=num_classes)


def _f1(right: np.ndarray, predicted: np.ndarray, there: np.ndarray) -> np.ndarray:
    return np.divide(2 * right, predicted + there, out=np.full(len(there), np.nan), where=there > 0)


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [_TAIL, 1 - _TAIL])
    return float(low), float(high)


def _normal(name: object) -> str:
    return " ".join(re.findall(r"[^\W_]+", str(name).lower()))
