"""Finding a back end by what the user typed, without loading it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synclr_hf.errors import UserInputError, unknown_name

if TYPE_CHECKING:
    import torch

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load_object(import_string: str) -> Any:
    """Import `module:attribute`."""
    module, _, attribute = import_string.partition(":")
    return getattr(import_module(module), attribute)


@dataclass(frozen=True)
class BackEnd:
    """A back end that was found and not loaded yet; small enough to send to another process.

    Attributes:
        import_string: `module:class`.
        model: Hub id or folder of its model; `None` for a back end without one.
    """

    import_string: str
    model: str | None = None

    def load(self) -> Any:
        """Import the class and build it, with its model if it has one."""
        back_end = load_object(self.import_string)
        return back_end() if self.model is None else back_end(self.model)

    @property
    def parallel_processes(self) -> bool:
        """Whether several processes on one machine may each load it (the class says so)."""
        return bool(getattr(load_object(self.import_string), "parallel_processes", False))


def find_back_end(spec: str, registry: Mapping[str, str], *, model_back_end: str, what: str, option: str) -> BackEnd:
    """Read what the user typed: `toy`, `BACK_END:ORG/NAME`, or just `ORG/NAME` or a folder.

    Args:
        spec: what was typed.
        registry: back end name -> import string.
        model_back_end: the back end that loads models from the Hub or a folder.
        what: what is looked for, e.g. `"language model"`.
        option: the option to type, e.g. `"--language-model"`.

    Raises:
        UserInputError: no such back end, or a back end without the model that it needs.
    """
    name, colon, model = str(spec).partition(":")
    if name == model_back_end and not model:
        raise UserInputError(f"{option} {spec} does not say which model; type {option} {model_back_end}:ORG/NAME")
    if name in registry:
        if model and name != model_back_end:
            raise UserInputError(f"{option} {spec} cannot be used: '{name}' takes no model; type {option} {name}")
        return BackEnd(registry[name], model or None)
    if not colon and (_HUB_ID.fullmatch(name) or (name and Path(name).is_dir())):
        return BackEnd(registry[model_back_end], name)
    forms = [other for other in registry if other != model_back_end]
    allowed = [*forms, f"{model_back_end}:ORG/NAME", "ORG/NAME", "a folder with a saved model"]
    raise unknown_name(what, spec, allowed, f"{option} {forms[0] if forms else f'{model_back_end}:ORG/NAME'}")


def device_and_dtype() -> tuple[torch.device, torch.dtype]:
    """Return the device that models run on, and the precision that suits it: bfloat16 on CUDA, float32 elsewhere."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16
    name = "mps" if torch.backends.mps.is_available() else "cpu"
    return torch.device(name), torch.float32


def model_cannot_be_loaded(what: str, model: str, option: str, error: Exception) -> UserInputError:
    """Return the one-line error for a model that its library refuses.

    Args:
        what: e.g. `"language model"`.
        model: Hub id or folder.
        option: the option that named it.
        error: what the library raised; its first line is shown.
    """
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return UserInputError(
        f"the {what} '{model}' cannot be loaded ({reason[:200]}); type {option} with the id of a model on the Hub "
        f"or a folder with a saved one, or {option} toy"
    )
