"""Sizes that follow from the entries of a recipe, reckoned without torch, which takes seconds to load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synclr_hf.errors import UserInputError

BYTES_OF_A_NUMBER = 4
"""Weights and the two moments of AdamW are kept in float32."""


def section(entries: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return entries of a recipe that have entries themselves.

    Raises:
        UserInputError: it is something else.
    """
    found = entries.get(name) or {}
    if not isinstance(found, Mapping):
        raise UserInputError(f"section '{name}' is {found!r}; allowed: entries of the form `name: value`")
    return found


def entry(entries: Mapping[str, Any], name: str, default: float) -> float:
    """Return a number of a recipe, or the default where it has none.

    Raises:
        UserInputError: it is no number.
    """
    value = entries.get(name)
    try:
        return default if value is None else float(value) if isinstance(value, str) else value + 0
    except (TypeError, ValueError):
        raise UserInputError(f"{name} {value!r} cannot be used; allowed: a number; type {name}: {default}") from None


def checkpoint_bytes(pretraining: Mapping[str, Any]) -> tuple[int, int]:
    """Return the bytes of the saved pre-training model, and of a checkpoint: the model and the optimizer's state.

    Args:
        pretraining: entries of the recipe's section; what it leaves out are the defaults of the package (ViT-B/16).
    """
    saved, trained = _parameters(pretraining)
    return saved * BYTES_OF_A_NUMBER, (saved + 2 * trained) * BYTES_OF_A_NUMBER


def _parameters(pretraining: Mapping[str, Any]) -> tuple[int, int]:
    """Return the numbers of parameters that are saved and trained."""
    encoder, views = section(pretraining, "encoder"), section(pretraining, "views")
    width = int(entry(encoder, "hidden_size", 768))
    objectives = pretraining.get("objectives") or [{"name": "multi_positive"}, {"name": "ibot"}]
    if not isinstance(objectives, list) or not all(isinstance(objective, Mapping) for objective in objectives):
        raise UserInputError(
            f"objectives {objectives!r}: allowed: a list; type objectives: [{{name: multi_positive}}]"
        )
    masks = any(objective.get("name") == "ibot" for objective in objectives)
    size = entry(encoder, "image_size", entry(views, "global_crop_size", 224))
    of_encoder = _encoder_parameters(encoder, width, int(size)) + width * masks
    saved, trained = 2 * of_encoder, of_encoder
    for objective in objectives:
        student, teacher = _head_parameters(objective, width, len(pretraining.get("class_names") or ()))
        saved, trained = saved + student + teacher, trained + student
    return saved, trained


def _encoder_parameters(encoder: Mapping[str, Any], width: int, size: int) -> int:
    hidden = int(width * entry(encoder, "mlp_ratio", 4.0))
    patch, channels = int(entry(encoder, "patch_size", 16)), int(entry(encoder, "num_channels", 3))
    attention = 4 * width * width + width * (4 if encoder.get("qkv_bias", True) else 1)
    block = attention + 2 * width * hidden + hidden + width + 4 * width
    tokens = width + width * (1 + (size // patch) ** 2)
    embedding = channels * patch * patch * width + width
    return tokens + embedding + int(entry(encoder, "num_hidden_layers", 12)) * block + 2 * width


def _head_parameters(objective: Mapping[str, Any], width: int, classes: int) -> tuple[int, int]:
    """Return the parameters of an objective's heads: the student's, the teacher's."""
    name = objective.get("name")
    if name == "cross_entropy":
        return (width + 1) * (classes or int(entry(objective, "num_classes", 1000))), 0
    if name == "ibot":
        hidden, neck = (
            int(entry(objective, "head_hidden_size", 2048)),
            int(entry(objective, "head_bottleneck_size", 256)),
        )
        prototypes = int(entry(objective, "num_prototypes", 65536))
        head = width * hidden + hidden * hidden + 2 * hidden + (hidden + 1) * neck + prototypes * (neck + 1)
        return head, head
    hidden, out = int(entry(objective, "head_hidden_size", 4096)), int(entry(objective, "head_output_size", 256))

    def projection(inside: int, layers: int) -> int:
        first = inside * hidden + 3 * hidden
        return first + (layers - 2) * (hidden * hidden + 3 * hidden) + hidden * out if layers > 1 else inside * out

    projector = projection(width, int(entry(objective, "projector_layers", 3)))
    if not objective.get("teacher", True):
        return projector, 0
    return projector + projection(out, int(entry(objective, "predictor_layers", 2))), projector
