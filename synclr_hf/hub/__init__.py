"""Ways to the Hub: export, cards, conversion of the authors' checkpoints."""

from importlib import import_module
from typing import Any

_HOMES = {
    "convert_checkpoint": "conversion_stage",
    "convert_original": "conversion",
    "convert_original_pretraining": "pretraining_conversion",
    "export_encoder": "export",
    "image_processor": "export",
    "save_dinov2": "dinov2",
    "to_dinov2": "dinov2",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Import a function when it is first asked for: a data set is published without the seconds that torch takes."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
