"""What the weights of a training checkpoint do not tell: from the options in the file, or else from the paper."""

from __future__ import annotations

import math
from typing import Any

from .original_checkpoint import OriginalCheckpoint

PAPER_SETTINGS = (
    ("multi_positive", "weight", "contrast_loss_weight", 1.0),
    ("multi_positive", "temperature", "contrast_temperature", 0.08),
    ("ibot", "weight", "ibot_loss_weight", 1.0),
    ("ibot", "warmup_teacher_temperature", "warmup_teacher_temp", 0.04),
    ("ibot", "teacher_temperature", "teacher_temp", 0.07),
)
"""(objective, its argument, option of the reference, value of the paper); all are positive."""
PAPER_WARMUP_STEPS = 4000
PAPER_DROP_PATH_RATE = {1024: 0.4}
"""Width -> stochastic depth of the student in the paper; 0.1 for its smaller encoder."""


def objective_settings(original: OriginalCheckpoint, name: str) -> tuple[dict[str, Any], list[str]]:
    """Return the arguments of an objective that its heads do not tell, and one line each: where they are from.

    Args:
        original: a training checkpoint.
        name: `multi_positive` or `ibot`.
    """
    settings: dict[str, Any] = {}
    lines = []
    for objective, argument, option, paper in PAPER_SETTINGS:
        if objective == name:
            value = _number(original, option)
            known = value is not None and value > 0
            settings[argument] = value if known else paper
            lines.append(_line(f"{name}.{argument}", settings[argument], option if known else None))
    if name == "multi_positive" and original.arguments.get("avoid_local_global_same"):
        settings["local_excludes_own_crop"] = True
        lines.append(_line(f"{name}.local_excludes_own_crop", True, "avoid_local_global_same"))
    if name == "ibot":
        settings["teacher_temperature_warmup_steps"], line = _warmup_steps(original)
        lines.append(line)
    return settings, lines


def drop_path_rate(original: OriginalCheckpoint, hidden_size: int) -> tuple[float, str]:
    """Return the student's stochastic depth and the line that says where it is from."""
    value = _number(original, "drop_path_rate")
    known = value is not None and 0 <= value < 1
    rate = value if known else PAPER_DROP_PATH_RATE.get(hidden_size, 0.1)
    return rate, _line("student_drop_path_rate", rate, "drop_path_rate" if known else None)


def differences(original: OriginalCheckpoint) -> list[str]:
    """Say what of the training run has no counterpart here, one line each."""
    options, lines = original.arguments, []
    if options.get("centering", "sinkhorn_knopp") != "sinkhorn_knopp":
        lines.append(f"--centering {options['centering']}: here targets are made by Sinkhorn-Knopp")
    if options.get("dino_loss_weight") or "dino_loss.center" in original.tensors:
        lines.append("--dino_loss_weight: here there is no image-level DINO loss")
    if options.get("mae_loss_weight"):
        lines.append("--mae_loss_weight: here there is no masked feature prediction")
    return lines


def _warmup_steps(original: OriginalCheckpoint) -> tuple[int, str]:
    """Return 0 where the warm-up of the teacher's temperature is over, because steps are counted anew here."""
    epochs = _number(original, "warmup_teacher_temp_epochs")
    done = 0 if original.epoch is None else original.epoch + 1
    name = "ibot.teacher_temperature_warmup_steps"
    if epochs is not None and epochs <= done:
        return 0, f"{name} 0 (the warm-up is over)"
    return PAPER_WARMUP_STEPS, _line(name, PAPER_WARMUP_STEPS, None)


def _number(original: OriginalCheckpoint, option: str) -> float | None:
    value = original.arguments.get(option)
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def _line(name: str, value: float, option: str | None) -> str:
    return f"{name} {value} ({f'--{option} of the file' if option else 'the paper'})"
