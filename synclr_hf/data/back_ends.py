"""Finding a back end by what the user typed, without loading it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synclr_hf.data.workers import usable_cores, visible_devices
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

    Its class may say `takes` (names of the options that it is built with), `parallel_processes` (several processes of
    one machine may each build it), `uses_device` (a process fills a CUDA device, where there is one) and
    `batches_decide` (what it makes depends on the size of its batches).

    Attributes:
        import_string: `module:class`.
        model: Hub id or folder of its model, or its name at a server; `None` for a back end without one.
        options: (name, value) of the options that the class is built with.
    """

    import_string: str
    model: str | None = None
    options: tuple[tuple[str, Any], ...] = ()

    def load(self) -> Any:
        """Import the class and build it, with its model if it has one, and its options."""
        back_end = load_object(self.import_string)
        return back_end(*([] if self.model is None else [self.model]), **dict(self.options))

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of the options that it can be built with (the class says so)."""
        return tuple(getattr(load_object(self.import_string), "takes", ()))

    @property
    def parallel_processes(self) -> bool:
        """Whether several processes on one machine may each load it (the class says so)."""
        return bool(getattr(load_object(self.import_string), "parallel_processes", False))

    @property
    def batches_decide(self) -> bool:
        """Whether what it makes depends on the batches that it forms (the class says so)."""
        return bool(getattr(load_object(self.import_string), "batches_decide", False))

    @property
    def uses_device(self) -> bool:
        """Whether a process of it fills a device (the class says so)."""
        return bool(getattr(load_object(self.import_string), "uses_device", False))

    @property
    def devices(self) -> tuple[str, ...]:
        """The CUDA devices for its processes to share out, as `do_tasks` takes them; empty where it uses none."""
        return visible_devices() if self.uses_device else ()

    @property
    def default_workers(self) -> int:
        """Processes to start if the user names no number: one a core, one a CUDA device, or one.

        A model with a device map is one: the map says which devices it fills.
        """
        if self.parallel_processes:
            return usable_cores()
        return 1 if dict(self.options).get("device_map") else max(1, len(self.devices))


def find_back_end(
    spec: str,
    registry: Mapping[str, str],
    *,
    model_back_end: str,
    what: str,
    option: str,
    served: Sequence[str] = (),
) -> BackEnd:
    """Read what the user typed: `toy`, `BACK_END:ORG/NAME`, `SERVED:MODEL`, or just `ORG/NAME` or a folder.

    Args:
        spec: what was typed.
        registry: back end name -> import string.
        model_back_end: the back end that loads models from the Hub or a folder.
        what: what is looked for, e.g. `"language model"`.
        option: the option to type, e.g. `"--language-model"`.
        served: the back ends that ask a server for a model by its name there.

    Raises:
        UserInputError: no such back end, or a back end without the model that it needs.
    """
    forms = dict.fromkeys(served, "MODEL") | {model_back_end: "ORG/NAME"}
    name, colon, model = str(spec).partition(":")
    if name in forms and not model:
        raise UserInputError(f"{option} {spec} does not say which model; type {option} {name}:{forms[name]}")
    if name in registry:
        if model and name not in forms:
            raise UserInputError(f"{option} {spec} cannot be used: '{name}' takes no model; type {option} {name}")
        return BackEnd(registry[name], model or None)
    if not colon and (_HUB_ID.fullmatch(name) or (name and Path(name).is_dir())):
        return BackEnd(registry[model_back_end], name)
    plain = [other for other in registry if other not in forms]
    with_model = [f"{other}:{form}" for other, form in forms.items()]
    allowed = [*plain, *with_model, "ORG/NAME", "a folder with a saved model"]
    raise unknown_name(what, spec, allowed, f"{option} {plain[0] if plain else with_model[-1]}")


def device_and_dtype() -> tuple[torch.device, torch.dtype]:
    """Return the device that models run on, and the precision that suits it: bfloat16 on CUDA, float32 elsewhere."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16
    name = "mps" if torch.backends.mps.is_available() else "cpu"
    return torch.device(name), torch.float32


def fetch_model_card(model: str) -> None:
    """Have the card of a model of the Hub in the cache, where there is one: our cards tell the licence that it states.

    Args:
        model: Hub id or folder; nothing is done for a folder, and nothing is said of a card that cannot be had.
    """
    from huggingface_hub import hf_hub_download

    if not Path(model).expanduser().is_dir():
        try:
            hf_hub_download(model, "README.md")
        except Exception:  # no card, no network, no rights: the library has a kind for each
            return


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
