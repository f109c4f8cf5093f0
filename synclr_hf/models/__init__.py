"""The encoder, the same as a backbone and as a classifier, and their configuration."""

from importlib import import_module
from typing import Any

_HOMES = {
    "SynCLRBackbone": "modeling_synclr",
    "SynCLRConfig": "configuration_synclr",
    "SynCLRForImageClassification": "modeling_synclr",
    "SynCLRModel": "modeling_synclr",
    "SynCLRPreTrainedModel": "modeling_synclr",
}

__all__ = [
    "SynCLRBackbone",
    "SynCLRConfig",
    "SynCLRForImageClassification",
    "SynCLRModel",
    "SynCLRPreTrainedModel",
]


def __getattr__(name: str) -> Any:
    """Import a class when it is first asked for: the configuration is registered before the model can be imported."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
