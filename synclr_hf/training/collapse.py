"""Signs of collapse: features that use few directions, patches that the prototypes do not tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

FLOORS = {"rankme": 1.5, "prototype_perplexity": 1.5, "prototypes_told_apart": 1.02}
"""Number in the log -> below this there is hardly anything left."""
FALL = 0.1
"""A number that is below this share of its first value has collapsed as well."""
LOGS_BETWEEN_WARNINGS = 10
FEWEST_PROTOTYPES = 8
ROWS_AT_ONCE = 1024


@torch.no_grad()
def rankme(features: torch.Tensor) -> torch.Tensor:
    """Return the effective rank of features: exp of the entropy of their normalised singular values.

    RankMe (Garrido et al. 2023, eq. 1). 1 = all features lie on one line, min(V, D) = all directions are used alike.

    Args:
        features: `(V, D)`, any float type, one row a picture.

    Returns:
        A scalar in float32; NaN if a feature is not finite.
    """
    features = features.float()
    if not features.isfinite().all():
        return features.new_tensor(float("nan"))
    values = torch.linalg.svdvals(features)
    shares = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return torch.special.entr(shares).sum().exp()


@torch.no_grad()
def prototype_usage(assignments: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return how many prototypes a batch uses.

    Args:
        assignments: `(M, K)`, rows sum to 1: masked patches to prototypes.

    Returns:
        Scalars in float32, 1 to K, NaN without patches: `prototype_perplexity`, the perplexity of the mean
        assignment; and `prototypes_told_apart`, that divided by the mean perplexity of a single patch (exp of the
        mutual information of patch and prototype). Sinkhorn-Knopp keeps the first near K even if all patches look
        alike; then each patch is assigned to everything, and the second is 1.
    """
    own = sum(torch.special.entr(rows.float()).sum() for rows in assignments.split(ROWS_AT_ONCE)) / len(assignments)
    together = torch.special.entr(assignments.mean(dim=0, dtype=torch.float32)).sum()
    return {"prototype_perplexity": together.exp(), "prototypes_told_apart": (together - own).exp()}


def collapse_numbers(features: torch.Tensor | None, assignments: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Return `rankme` and `prototype_usage` of what there is; a few prototypes are not worth a number."""
    numbers = {} if features is None else {"rankme": rankme(features)}
    if assignments is not None and assignments.shape[1] > FEWEST_PROTOTYPES:
        numbers |= prototype_usage(assignments)
    return numbers


@dataclass
class CollapseAlarm:
    """Says once when a number has collapsed, and again every `LOGS_BETWEEN_WARNINGS` logs while it stays so.

    Attributes:
        first: number in the log -> its first value.
        quiet: number in the log -> logs that pass before it may be told again.
    """

    first: dict[str, float] = field(default_factory=dict)
    quiet: dict[str, int] = field(default_factory=dict)

    @classmethod
    def after(cls, history: Sequence[Mapping[str, Any]]) -> CollapseAlarm:
        """Return the alarm of a run that goes on after the given log."""
        firsts = {name: next((entry[name] for entry in history if name in entry), None) for name in FLOORS}
        return cls(first={name: value for name, value in firsts.items() if value is not None})

    def warnings(self, step: int, logs: Mapping[str, float]) -> list[str]:
        """Return one line for each number of a log that has collapsed and was not told of lately.

        Args:
            step: optimizer steps done.
            logs: the log; numbers that are not in `FLOORS` are passed over.
        """
        lines = []
        for name in (name for name in FLOORS if name in logs):
            first = self.first.setdefault(name, logs[name])
            self.quiet[name] = max(self.quiet.get(name, 0) - 1, 0)
            if logs[name] < max(FLOORS[name], FALL * first) and not self.quiet[name]:
                self.quiet[name] = LOGS_BETWEEN_WARNINGS
                what = "features" if name == "rankme" else "prototypes"
                lines.append(
                    f"warning: {what} collapse at step {step}: {name} is {logs[name]:.3g}, it began with {first:.3g}; "
                    "usual causes: learning_rate too high, teacher_temperature too high, ema_decay too low"
                )
        return lines
