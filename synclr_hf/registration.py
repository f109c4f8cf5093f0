"""Registers the encoder with the Auto classes of transformers, at the moment they are imported.

`import synclr_hf` must make `AutoModel.from_pretrained` know the encoder, and must not cost the seconds that importing
torch and transformers takes: the command line and the worker processes of the toy world need neither.
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
OUR_CONFIG = "synclr_hf.models.configuration_synclr"
OUR_MODEL = "synclr_hf.models.modeling_synclr"
WATCHED = (AUTO_CONFIG, AUTO_MODEL, OUR_CONFIG, OUR_MODEL)


def _register_after(name: str) -> None:
    """Register after a watched module was imported; one that is half imported comes here again when it is whole."""
    auto_name, our_name = (AUTO_CONFIG, OUR_CONFIG) if name in (AUTO_CONFIG, OUR_CONFIG) else (AUTO_MODEL, OUR_MODEL)
    auto = sys.modules.get(auto_name)
    ours = import_module(our_name) if auto is not None else None
    if name in (AUTO_CONFIG, OUR_CONFIG):
        if hasattr(auto, "AutoConfig") and hasattr(ours, "SynCLRConfig"):
            auto.AutoConfig.register(ours.SynCLRConfig.model_type, ours.SynCLRConfig, exist_ok=True)
    elif hasattr(auto, "AutoModel") and hasattr(ours, "SynCLRModel"):
        auto.AutoModel.register(ours.SynCLRConfig, ours.SynCLRModel, exist_ok=True)


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
