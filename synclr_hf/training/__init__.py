"""Pre-training: model, arguments, Trainer."""

from importlib import import_module
from typing import Any

_HOMES = {
    "KNNProbe": "probe",
    "SynCLRForPreTraining": "modeling_pretraining",
    "SynCLRForPreTrainingOutput": "modeling_pretraining",
    "SynCLRPreTrainingConfig": "configuration_pretraining",
    "SynCLRTrainer": "trainer",
    "SynCLRTrainingArguments": "arguments",
    "last_complete_checkpoint": "trainer",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Import a class when it is first asked for: registering the model must not cost the import of the Trainer."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
