"""Registers the models with the Auto classes of transformers, at the moment they are imported.

`import synclr_hf` must make `AutoModel.from_pretrained` and its like know them, and must not cost the seconds that
importing torch and transformers takes: the command line and the worker processes of the toy world need neither.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

AUTO_CONFIG = "transformers.models.auto.configuration_auto"
AUTO_MODEL = "transformers.models.auto.modeling_auto"
ENCODER_CONFIG = "synclr_hf.models.configuration_synclr"
ENCODER_MODEL = "synclr_hf.models.modeling_synclr"
PRETRAINING_CONFIG = "synclr_hf.training.configuration_pretraining"
PRETRAINING_MODEL = "synclr_hf.training.modeling_pretraining"

CONFIGS = ((ENCODER_CONFIG, "SynCLRConfig"), (PRETRAINING_CONFIG, "SynCLRPreTrainingConfig"))
"""Our module and the configuration that `AutoConfig` learns from it."""
MODELS = (
    ("AutoModel", ENCODER_MODEL, "SynCLRConfig", "SynCLRModel"),
    ("AutoModelForImageClassification", ENCODER_MODEL, "SynCLRConfig", "SynCLRForImageClassification"),
    ("AutoBackbone", ENCODER_MODEL, "SynCLRConfig", "SynCLRBackbone"),
    ("AutoModelForPreTraining", PRETRAINING_MODEL, "SynCLRPreTrainingConfig", "SynCLRForPreTraining"),
)
"""Auto class, our module, and what it learns from it: configuration -> model."""
NEEDED = ("transformers.modeling_layers", "transformers.modeling_utils")
"""What our models import: it may be what imports the Auto classes, and is half imported then."""
WATCHED = (AUTO_CONFIG, AUTO_MODEL, *(module for module, _ in CONFIGS), ENCODER_MODEL, PRETRAINING_MODEL, *NEEDED)


def _register_after(name: str) -> None:
    """Register after a watched module was imported; one that is half imported comes here again when it is whole."""
    auto = sys.modules.get(AUTO_CONFIG)
    if auto is not None and name in (AUTO_CONFIG, ENCODER_CONFIG, PRETRAINING_CONFIG):
        for module, config in CONFIGS:
            ours = import_module(module)
            if not hasattr(auto, "AutoConfig") or not hasattr(ours, config):
                return  # the next one may need this one whole
            config_class = getattr(ours, config)
            auto.AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    auto = sys.modules.get(AUTO_MODEL)
    if auto is not None and name in (AUTO_MODEL, ENCODER_MODEL, PRETRAINING_MODEL, *NEEDED):
        if any(_is_half_imported(module) for module in NEEDED if module != name):
            return
        for auto_class, module, config, model in MODELS:
            ours = import_module(module)
            if not hasattr(auto, auto_class) or not hasattr(ours, model):
                return
            getattr(auto, auto_class).register(getattr(ours, config), getattr(ours, model), exist_ok=True)


def _is_half_imported(name: str) -> bool:
    module = sys.modules.get(name)
    return module is not None and getattr(module.__spec__, "_initializing", False)


class _LoaderWithRegistration(Loader):
    """Loads a module as its own loader does, then registers."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        _register_after(module.__name__)


class _RegistrationFinder(MetaPathFinder):
    """Finds the watched modules as Python would, and wraps their loaders."""

    def __init__(self) -> None:
        self.looking = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if self.looking or name not in WATCHED:
            return None
        self.looking = True
        try:
            spec = find_spec(name)
        finally:
            self.looking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _LoaderWithRegistration(spec.loader)
        return spec


def register_with_transformers() -> None:
    """Register now what transformers has imported already, and the rest when it is imported."""
    if not any(isinstance(finder, _RegistrationFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RegistrationFinder())
    for name in (AUTO_CONFIG, AUTO_MODEL):
        if name in sys.modules:
            _register_after(name)
