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


def _register_after(name: str) -> None:
    """Import the models, which register themselves; wait for `AUTO_MODEL` where it is half imported."""
    if name == AUTO_MODEL or AUTO_MODEL not in sys.modules:
        import_module("synclr_hf.models")


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
    """Finds the modules of the Auto classes as Python would, and wraps their loaders."""

    def __init__(self) -> None:
        self.looking = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if self.looking or name not in (AUTO_CONFIG, AUTO_MODEL):
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
    """Register now if transformers has imported its Auto classes already, else when it does."""
    if AUTO_CONFIG in sys.modules:
        import_module("synclr_hf.models")
    elif not any(isinstance(finder, _RegistrationFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RegistrationFinder())
