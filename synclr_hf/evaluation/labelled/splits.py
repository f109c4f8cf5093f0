"""Splits that keep classes in proportion and never separate what belongs together."""

from __future__ import annotations

import numpy as np

from synclr_hf.data.seeds import seed_for


def stratified_group_split(
    labels: np.ndarray, groups: np.ndarray, *, held_out: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows in two, class by class, whole groups at a time.

    Every class with two groups or more has at least one group on either side; a class with a single group stays
    on the first side.

    Args:
        labels: (N,) class of each row, or (N, C) multi-hot, of which `stratification_classes` count; a group is
            counted to the class of its first row.
        groups: (N,) integer id; rows with the same id (pictures of one caption) stay together.
        held_out: share of each class's groups that goes to the second side, in (0, 1).
        seed: the same seed gives the same split.

    Returns:
        The row numbers of the two sides, each sorted.
    """
    unique_groups, first_rows, group_of_row = np.unique(groups, return_index=True, return_inverse=True)
    group_labels = stratification_classes(labels)[first_rows]
    is_held_out = np.zeros(len(unique_groups), dtype=bool)
    for label in np.unique(group_labels):
        members = np.flatnonzero(group_labels == label)
        count = min(max(round(held_out * len(members)), 1), len(members) - 1)
        generator = np.random.default_rng(seed_for(seed, "split", int(label)))
        is_held_out[generator.permutation(members)[:count]] = True
    row_is_held_out = is_held_out[group_of_row]
    return np.flatnonzero(~row_is_held_out), np.flatnonzero(row_is_held_out)


def stratification_classes(labels: np.ndarray) -> np.ndarray:
    """Return one class a row that splits are kept in proportion by, (N,) int64.

    Of (N, C) multi-hot labels the rarest class of each row, so that classes with few pictures come on both sides; C
    for a row without any.
    """
    if labels.ndim == 1:
        return labels
    present = labels > 0
    frequency = np.where(present, present.sum(axis=0), len(labels) + 1)
    return np.where(present.any(axis=1), frequency.argmin(axis=1), labels.shape[1])
