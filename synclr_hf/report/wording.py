"""Numbers and sentences for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NARROW_SPACE = "\u202f"
ENCODER_NAMES = {
    "trained": "Trained encoder",
    "student": "Its student",
    "untrained": "Same encoder, untrained",
    "pixels": "Raw pixels",
}
"""What readers call the encoders of a result; others keep their own name."""


def percent(fraction: float) -> str:
    """Write a fraction as a percentage with one decimal."""
    return f"{100 * fraction:.1f}{NARROW_SPACE}%"


def percent_range(interval: tuple[float, float]) -> str:
    """Write an interval of fractions as percentages."""
    low, high = interval
    return f"{100 * low:.1f} to {100 * high:.1f}"


def duration(seconds: float) -> str:
    """Write a time as seconds, minutes or hours."""
    if seconds < 10:
        return f"{seconds:.1f}{NARROW_SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest}{NARROW_SPACE}s"
    hours, minutes = divmod(minutes, 60)
    if hours == 0:
        return f"{minutes}{NARROW_SPACE}min {rest:02d}{NARROW_SPACE}s"
    return f"{hours}{NARROW_SPACE}h {minutes:02d}{NARROW_SPACE}min"


def headline(evaluation: Mapping[str, Any]) -> str:
    """Say in one sentence what the kNN result is, also when it is a bad one."""
    top1 = evaluation["knn_top1"]
    return (
        f"The trained encoder recognises {percent(top1['trained'])} of pictures that it has never seen, "
        f"{_difference(top1['trained'] - top1['untrained'])} the same encoder untrained "
        f"and {_difference(top1['trained'] - top1['pixels'])} raw pixels."
    )


def methods(evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Explain how the numbers of an evaluation were made, as (what, how); settings that are not known are left out."""
    settings = evaluation.get("settings", {})
    num_train, num_test = (_count(evaluation.get(name)) for name in ("num_train", "num_test"))
    classes = _count(evaluation.get("num_classes"))
    explained = [
        (
            "Pictures",
            f"{num_train} labelled pictures to compare with, {num_test} other ones to recognise, {classes} classes. "
            "Encoders are frozen: they see no label of these pictures."
            + (
                f" {evaluation['num_unreadable']} unreadable ones were left out."
                if evaluation.get("num_unreadable")
                else ""
            ),
        ),
        (
            "kNN",
            f"The {settings.get('primary_k', 10)} labelled pictures with the most similar class token (cosine) vote, "
            f"each with weight exp(similarity / {settings.get('temperature', 0.07)}). "
            "The number of neighbours was fixed beforehand.",
        ),
        (
            "Linear probe",
            "BatchNorm without affine and one linear layer on the class token; SGD, "
            f"{settings.get('linear_probe', {}).get('epochs', 90)} epochs; the learning rate is chosen on "
            f"{settings.get('linear_probe', {}).get('validation_fraction', 0.2):.0%} of the labelled pictures, then "
            "the layer is fitted again on all of them.",
        ),
        (
            "Baselines",
            "The trained encoder is the moving average (EMA teacher) of the student that the gradients train. "
            "Untrained is the same network with its weights as initialised. Raw pixels are pictures of "
            f"{settings.get('pixel_size', 16)} px, each standardised by its own mean and deviation, "
            "in place of features.",
        ),
        (
            "Intervals",
            "95\u202f% bootstrap over the pictures to recognise, pictures of one caption drawn together. "
            "They do not cover what another training seed would give.",
        ),
    ]
    if evaluation.get("description"):
        explained.insert(0, ("Data", str(evaluation["description"])))
    return explained


def encoder_name(name: str) -> str:
    """Return what readers call an encoder."""
    return ENCODER_NAMES.get(name, name)


def _difference(points: float) -> str:
    if abs(points) < 0.0005:
        return "as many as"
    return f"{abs(100 * points):.1f} points {'more' if points > 0 else 'fewer'} than"


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
