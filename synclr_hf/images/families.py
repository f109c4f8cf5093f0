"""What suits each family of text-to-image models where the user says nothing."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from synclr_hf.errors import UserInputError
from synclr_hf.images.generators import find_image_generator


@dataclass(frozen=True)
class FamilyDefaults:
    """Settings that suit a family of models.

    Attributes:
        guidance_scale: w of w x conditional + (1 - w) x unconditional; 1 or less: no guidance. Models that guidance
            was distilled into (Flux dev, latent consistency models) take it as an input instead.
        num_inference_steps: denoising steps.
        scheduler: scheduler of diffusers; `None`: the one that is saved with the model.
        trailing: whether the steps must end at the noisiest one, as few-step models were trained.
    """

    guidance_scale: float = 2.5
    num_inference_steps: int = 50
    scheduler: str | None = None
    trailing: bool = False


@dataclass(frozen=True)
class Family:
    """A family of pipelines.

    Attributes:
        defaults: what suits it; the pipeline's own defaults, for Stable Diffusion those of the paper (section 3.2).
        encoded: argument of the pipeline's `__call__` for every output of its `encode_prompt`, `None` for an output
            that it does not take; empty: prompts are passed as texts.
        distilled_steps: steps of its few-step versions.
    """

    defaults: FamilyDefaults = field(default_factory=FamilyDefaults)
    encoded: tuple[str | None, ...] = ()
    distilled_steps: int = 4


_PAIR = ("prompt_embeds", "negative_prompt_embeds")
_POOLED = (*_PAIR, "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
_MASKED = ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask")

FAMILIES: dict[str, Family] = {
    "StableDiffusionPipeline": Family(FamilyDefaults(2.5, 50, "DDIMScheduler"), _PAIR),
    "StableDiffusionXLPipeline": Family(FamilyDefaults(5.0, 50), _POOLED),
    "StableDiffusion3Pipeline": Family(FamilyDefaults(7.0, 28), _POOLED),
    "FluxPipeline": Family(FamilyDefaults(3.5, 28), ("prompt_embeds", "pooled_prompt_embeds", None)),
    "LatentConsistencyModelPipeline": Family(FamilyDefaults(8.5, 4), ("prompt_embeds", None)),
    "PixArtAlphaPipeline": Family(FamilyDefaults(4.5, 20), _MASKED),
    "PixArtSigmaPipeline": Family(FamilyDefaults(4.5, 20), _MASKED),
    "SanaPipeline": Family(FamilyDefaults(4.5, 20), _MASKED),
    "SanaSprintPipeline": Family(FamilyDefaults(4.5, 2), _MASKED[:2], distilled_steps=2),
    "ZImagePipeline": Family(FamilyDefaults(5.0, 50), distilled_steps=9),
}
"""Pipeline class -> family. A class that is not here takes texts, and the defaults of its own `__call__`."""

_DISTILLED = ("turbo", "lightning", "schnell", "hyper", "lcm")
"""Words in the name of a model that draws in a few steps, without guidance, with its own scheduler."""

_OTHER_TASKS = frozenset(
    "control_image controlnet_conditioning_scale mask_image num_frames video_length frames video lyrics "
    "audio_length_in_s num_waveforms_per_prompt".split()
)
"""Arguments of pipelines that need more than a text, or make something else than a picture."""

_GUIDED_IN_FEW_STEPS = ("LatentConsistencyModelPipeline", "SanaSprintPipeline")
"""Few-step pipelines that take the guidance as an input; the table has what suits them."""

_ANY_SCHEDULER = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
"""Pipelines whose schedulers can be exchanged; those of flow matching have their own."""

_DISTILLED_ADAPTERS = {
    "lcm": FamilyDefaults(1.0, 4, "LCMScheduler"),
    "lightning": FamilyDefaults(1.0, 4, "EulerDiscreteScheduler", trailing=True),
    "turbo": FamilyDefaults(1.0, 4, "EulerDiscreteScheduler", trailing=True),
    "hyper": FamilyDefaults(1.0, 8, "DDIMScheduler", trailing=True),
}
"""Word in the name of LoRA weights -> what suits a model that carries them, other schedulers than its own included."""


def family_defaults(spec: str, adapter: str | None = None) -> FamilyDefaults:
    """Return what suits an image generator, by what the user typed; no weights are loaded.

    The class of the pipeline stands in `model_index.json`; few-step models and LoRA weights are known by their names.
    Where the file cannot be had the paper's settings are returned, and loading says what is wrong.

    Args:
        spec: image generator as typed, of any back end.
        adapter: LoRA weights as typed, if there are any.

    Raises:
        UserInputError: there is no such back end, or the model does not draw pictures from texts.
    """
    model = find_image_generator(spec).model
    if model is None:
        return FamilyDefaults()
    index, _ = read_model_index(model)
    if index.get("_class_name") not in FAMILIES:
        check_text_to_image(model, index)
    return defaults_of(str(index.get("_class_name")), model, adapter)


def defaults_of(class_name: str, model: str, adapter: str | None = None) -> FamilyDefaults:
    """Return what suits a pipeline class, with what the names of model and LoRA weights tell."""
    family = FAMILIES.get(class_name)
    suited = family.defaults if family else _defaults_of_call(class_name)
    if adapter is not None and (word := _word_in(_last(adapter, 2), tuple(_DISTILLED_ADAPTERS))):
        found = _DISTILLED_ADAPTERS[word]
        if class_name not in _ANY_SCHEDULER:
            found = replace(found, scheduler=None, trailing=False)
        return replace(found, num_inference_steps=_steps_in(_last(adapter, 1)) or found.num_inference_steps)
    if class_name not in _GUIDED_IN_FEW_STEPS and _word_in(_last(model, 1), _DISTILLED):
        steps = _steps_in(_last(model, 1)) or (family.distilled_steps if family else 4)
        return FamilyDefaults(1.0, steps)
    return suited


def read_model_index(model: str) -> tuple[dict[str, Any], str | None]:
    """Return the `model_index.json` of a pipeline and the commit that it is of.

    Args:
        model: Hub id or folder.

    Returns:
        The file's contents, empty where it cannot be had; the commit for a model of the Hub, else `None`.
    """
    from huggingface_hub import hf_hub_download

    try:
        folder = Path(model).expanduser()
        path = folder / "model_index.json" if folder.is_dir() else Path(hf_hub_download(model, "model_index.json"))
        index = json.loads(path.read_text(encoding="utf-8"))
        return (index, commit_of(path)) if isinstance(index, dict) else ({}, None)
    except Exception:  # no such model, no network, no rights, damaged: loading tells
        return {}, None


def commit_of(path: Path) -> str | None:
    """Return the commit of a file in the cache of the Hub (`.../snapshots/COMMIT/...`), else `None`."""
    parts = path.parts
    if "snapshots" not in parts:
        return None
    commit = parts[len(parts) - 1 - parts[::-1].index("snapshots") + 1]
    return commit if re.fullmatch(r"[0-9a-f]{40}", commit) else None


def check_text_to_image(model_id: str, index: dict[str, Any]) -> None:
    """Refuse a model that does not draw pictures from texts alone, before its weights are loaded.

    Args:
        model_id: Hub id or folder.
        index: contents of its `model_index.json`; empty where there is none.

    Raises:
        UserInputError: another task's pipeline, or a model that is no pipeline.
    """
    name = str(index.get("_class_name", ""))
    if not name and _is_single_model(model_id):
        raise _not_text_to_image(model_id, "a single model, not a pipeline of diffusers")
    parameters = call_parameters(name) if name else {}
    if not parameters:
        return
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

    needed = [
        other
        for other, parameter in parameters.items()
        if other != "prompt" and parameter.default is parameter.empty and parameter.kind < 2
    ]
    known = name in {pipeline.__name__ for pipeline in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()}
    of_a_size = known or ("height" in parameters and "image" not in parameters)
    if "prompt" not in parameters or needed or not of_a_size or _OTHER_TASKS & parameters.keys():
        raise _not_text_to_image(model_id, f"a {name}")


def call_parameters(class_name: str) -> dict[str, inspect.Parameter]:
    """Return the arguments of a pipeline class of diffusers by name; empty for a class that is none."""
    import diffusers

    pipeline = getattr(diffusers, class_name, None)
    if not isinstance(pipeline, type) or not issubclass(pipeline, diffusers.DiffusionPipeline):
        return {}
    parameters = dict(inspect.signature(pipeline.__call__).parameters)
    parameters.pop("self", None)
    return parameters


def _defaults_of_call(class_name: str) -> FamilyDefaults:
    """Return the defaults of a pipeline that the table does not know; importing its class takes some seconds."""
    parameters = call_parameters(class_name) if class_name.endswith("Pipeline") else {}
    told = {
        name: parameters[name].default
        for name in ("guidance_scale", "num_inference_steps")
        if name in parameters and isinstance(parameters[name].default, int | float)
    }
    return FamilyDefaults(**told)


def _is_single_model(model_id: str) -> bool:
    """Return whether there is a `config.json`, as single models have it."""
    from huggingface_hub import hf_hub_download

    folder = Path(model_id).expanduser()
    if folder.is_dir():
        return (folder / "config.json").is_file()
    try:
        return Path(hf_hub_download(model_id, "config.json")).is_file()
    except Exception:  # as in `read_model_index`
        return False


def _not_text_to_image(model_id: str, what: str) -> UserInputError:
    return UserInputError(
        f"the image generator '{model_id}' is {what}, which does not draw pictures from texts alone; type "
        "--image-generator with a text-to-image pipeline, e.g. stable-diffusion-v1-5/stable-diffusion-v1-5, or toy"
    )


def _last(name: str, count: int) -> str:
    """Return the last parts of an id or path, in small letters."""
    return "/".join(name.replace("\\", "/").rstrip("/").lower().split("/")[-count:])


def _word_in(name: str, words: tuple[str, ...]) -> str | None:
    found = re.split(r"[^a-z]+", name)
    return next((word for word in words if word in found), None)


def _steps_in(name: str) -> int | None:
    """Return the steps that a name tells, e.g. 4 for `sdxl_lightning_4step.safetensors`."""
    found = re.search(r"(?<!\d)([1-9]\d?)[-_ ]?steps?(?![a-z])", name)
    return int(found[1]) if found else None
