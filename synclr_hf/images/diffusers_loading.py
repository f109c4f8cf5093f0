"""Loading a text-to-image pipeline of diffusers with its scheduler and LoRA weights."""

from __future__ import annotations

import inspect
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synclr_hf.data.back_ends import device_and_dtype, fetch_model_card, model_cannot_be_loaded
from synclr_hf.errors import UserInputError, unknown_name
from synclr_hf.images.families import check_text_to_image, commit_of, defaults_of, read_model_index

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_LORA_FILE = "pytorch_lora_weights.safetensors"


def load_pipeline(
    model_id: str, *, dtype: str, scheduler: str | None, adapter: str | None, safety_checker: bool
) -> tuple[DiffusionPipeline, dict[str, Any]]:
    """Load a text-to-image pipeline onto this process's device.

    Args:
        model_id: `ORG/NAME` on the Hub, or a folder with a saved pipeline.
        dtype: `auto` (bfloat16 on CUDA, float32 elsewhere) or the name of a type of torch.
        scheduler: name of a scheduler, see `set_scheduler`; `None`: what suits the model and the LoRA weights.
        adapter: LoRA weights, see `fuse_adapter`.
        safety_checker: whether the safety checker of a pipeline that has one is kept.

    Returns:
        The pipeline, and what it is: generator, back_end, revision, adapter, scheduler, dtype, device.

    Raises:
        UserInputError: it cannot be loaded, draws no pictures from texts, or does not fit the scheduler, the LoRA
            weights or the device's memory.
    """
    import torch
    from diffusers import DiffusionPipeline

    index, revision = read_model_index(model_id)
    check_text_to_image(model_id, index)
    device, best = device_and_dtype()
    chosen = best if dtype == "auto" else getattr(torch, dtype)
    unchecked = {} if safety_checker else _without_checker(str(index.get("_class_name")))
    try:
        with quiet(), _without_loading_bars():
            pipeline = DiffusionPipeline.from_pretrained(model_id, dtype=chosen, **unchecked)
    except Exception as error:  # missing, damaged, gated, too large: the library has a kind for each
        raise model_cannot_be_loaded("image generator", model_id, "--image-generator", error) from error
    fetch_model_card(model_id)
    suited = defaults_of(type(pipeline).__name__, model_id, adapter)
    if name := scheduler or suited.scheduler:
        with quiet():
            set_scheduler(pipeline, name, trailing=suited.trailing and name == suited.scheduler)
    fused = None if adapter is None else fuse_adapter(pipeline, adapter)
    pipeline.set_progress_bar_config(disable=True)
    try:
        pipeline.to(device)
    except torch.OutOfMemoryError as error:
        raise too_little_memory(model_id, str(device)) from error
    used = getattr(pipeline, "scheduler", None)
    return pipeline, {
        "generator": str(model_id),
        "back_end": "diffusers",
        "revision": revision,
        "adapter": fused,
        "scheduler": type(used).__name__ if used is not None else None,
        "dtype": str(chosen).removeprefix("torch."),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def set_scheduler(pipeline: DiffusionPipeline, name: str, *, trailing: bool = False) -> None:
    """Replace a pipeline's scheduler, keeping the noise schedule that the model was trained with.

    Args:
        pipeline: a loaded pipeline.
        name: class of diffusers, in any case, with or without the ending `Scheduler` or `DiscreteScheduler`.
        trailing: whether the first step is to be the noisiest one.

    Raises:
        UserInputError: no such scheduler, or none that fits the pipeline.
    """
    import diffusers

    used = getattr(pipeline, "scheduler", None)
    fitting = {one.__name__: one for one in used.compatibles} if used is not None else {}
    if "DDIMScheduler" in fitting:  # of the same noise schedule, though diffusers does not list them
        fitting |= {other: getattr(diffusers, other) for other in ("LCMScheduler", "TCDScheduler")}
    fitting.pop("DPMSolverSDEScheduler", None)  # its noise comes from one generator for the whole batch
    ends = ("", "scheduler", "discretescheduler")
    chosen = [one for one in fitting if any(one.lower() == name.lower() + end for end in ends)]
    if not chosen:
        own = type(used).__name__ if used is not None else None
        fix = f"--scheduler {own}, the model's own" if own else "no --scheduler: the model has none"
        raise unknown_name("scheduler", name, sorted(fitting), fix)
    spacing = {"timestep_spacing": "trailing"} if trailing else {}
    try:
        pipeline.scheduler = fitting[chosen[0]].from_config(used.config, **spacing)
    except ImportError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserInputError(
            f"--scheduler {name} needs a package that is not here ({reason}); install it, or type --scheduler "
            f"{type(used).__name__}"
        ) from error


def fuse_adapter(pipeline: DiffusionPipeline, adapter: str) -> str:
    """Add LoRA weights to those of the pipeline, for good: drawing costs no more than without them.

    Args:
        pipeline: a loaded pipeline.
        adapter: `ORG/NAME` or `ORG/NAME/FILE.safetensors` on the Hub, `@REVISION` behind it, a folder, or a file.

    Returns:
        The adapter's name, with the commit for one of the Hub.

    Raises:
        UserInputError: it cannot be had, or does not fit the pipeline.
    """
    try:
        file = _adapter_file(adapter)
        if not hasattr(pipeline, "load_lora_weights"):
            raise ValueError(f"a {type(pipeline).__name__} takes no LoRA weights")
        with quiet():
            pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
            if not any(pipeline.get_list_adapters().values()):
                raise ValueError(f"{file.name} holds no LoRA weights for a {type(pipeline).__name__}")
            pipeline.fuse_lora(components=list(pipeline.get_list_adapters()))
            pipeline.unload_lora_weights()
    except Exception as error:  # missing, gated, of another model: the libraries have a kind for each
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserInputError(
            f"the LoRA weights '{adapter}' cannot be used ({reason[:200]}); type --adapter ORG/NAME, "
            "ORG/NAME/FILE.safetensors, a folder or a file, made for this --image-generator, or leave it out"
        ) from error
    commit = commit_of(file)
    return f"{adapter.partition('@')[0]}@{commit}" if commit else str(adapter)


def size_multiple(pipeline: DiffusionPipeline) -> int:
    """Return what a picture's sides, in pixels, must be a multiple of: the VAE's reduction times the patches.

    It is a multiple of 8, which the pipelines for UNets ask whatever the VAE.
    """
    scale = int(getattr(pipeline, "vae_scale_factor", 8))
    transformer = getattr(pipeline, "transformer", None)
    patch = getattr(getattr(transformer, "config", None), "patch_size", 1)
    packed = hasattr(pipeline, "_pack_latents")  # Flux and its kin put 2 x 2 latents into one token
    return math.lcm(8, scale * (2 if packed else patch if isinstance(patch, int) else 1))


def too_little_memory(model_id: str, device: str) -> UserInputError:
    """Return the one-line error for a device that does not hold a model, or one picture of it."""
    return UserInputError(
        f"the memory of {device} does not hold '{model_id}' with one picture; type a smaller --size-drawn, --dtype "
        "float16 or bfloat16, or a smaller model with --image-generator"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what diffusers and transformers remark on the way out of the output."""
    libraries = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels = [library.level for library in libraries]
    try:
        for library in libraries:
            library.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.setLevel(level)


@contextmanager
def _without_loading_bars() -> Iterator[None]:
    """Leave out the bars of loading, which would break the stage's own; those of a download stay."""
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    libraries = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    downloads_shown = not are_progress_bars_disabled()
    try:
        for library in libraries:
            library.disable_progress_bar()
        if downloads_shown:  # transformers has them go with its own
            enable_progress_bars()
        yield
    finally:
        for library in libraries:
            library.enable_progress_bar()


def _without_checker(class_name: str) -> dict[str, Any]:
    import diffusers

    build = getattr(getattr(diffusers, class_name, None), "__init__", None)
    names = inspect.signature(build).parameters if build else {}
    arguments = {"safety_checker": None, "requires_safety_checker": False}
    return {name: value for name, value in arguments.items() if name in names}


def _adapter_file(adapter: str) -> Path:
    """Return the file with LoRA weights that was meant, from the Hub if it is not here."""
    path = Path(adapter).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return path / _only_weights([file.name for file in path.glob("*.safetensors")])
    adapter, _, revision = adapter.partition("@")
    parts = adapter.split("/")
    if len(parts) < 2 or not all(parts) or parts[0] in (".", "..", "~"):
        raise FileNotFoundError("there is no such file or folder")
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository, name = "/".join(parts[:2]), "/".join(parts[2:])
    try:
        return Path(hf_hub_download(repository, name or _LORA_FILE, revision=revision or None))
    except LocalEntryNotFoundError:
        raise
    except EntryNotFoundError:
        if name:
            raise
    files = [file for file in HfApi().list_repo_files(repository, revision=revision or None) if "/" not in file]
    name = _only_weights([one for one in files if one.endswith(".safetensors")])
    return Path(hf_hub_download(repository, name, revision=revision or None))


def _only_weights(names: list[str]) -> str:
    if _LORA_FILE in names:
        return _LORA_FILE
    if len(names) != 1:
        found = f"several: {', '.join(sorted(names)[:5])}; name one" if names else "none"
        raise FileNotFoundError(f"looked for {_LORA_FILE} or one other .safetensors file and found {found}")
    return names[0]
