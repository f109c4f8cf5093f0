"""From what the user typed to an encoder: the model, and how it wants its pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoConfig, AutoImageProcessor, AutoModel, PreTrainedModel

from synclr_hf.data.back_ends import device_and_dtype
from synclr_hf.data.pictures import IMAGENET_MEAN, IMAGENET_STD
from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError, unknown_name
from synclr_hf.evaluation.encoding.encoders import (
    PIXEL_SIZE,
    PIXELS,
    UNTRAINED,
    Encoder,
    Pooling,
    load_pretrained,
    own_image_size,
)
from synclr_hf.evaluation.encoding.vision_outputs import vision_part
from synclr_hf.evaluation.labelled.pictures import PLAIN, Resizing

NORMALISATIONS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
"""Mean and standard deviation of the channels by name; the reference evaluates with CLIP's in some protocols."""
POOLINGS = ("cls", "mean_patch", "cls_mean_patch")
"""What `Encoder.pooling` may be."""
DTYPES = ("float32", "bfloat16", "float16")
"""Precisions that models can run in."""
_MAY_BE_MISSING = ("pooler", "mask_token", "text_model", "logit_", "visual_projection", "text_projection")
"""Parts of names of weights that no feature depends on. SigLIP's pooler is called `head` and the patch embedding of a
ViT `projection`: they must be there."""
_RESAMPLES = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's filters by number."""
_PROCESSOR_FILE = "preprocessor_config.json"
"""Where a model's image processor is described."""
_WARPED_FROM = 384
"""From this size on ConvNeXt's image processor squashes pictures instead of cropping them."""


@dataclass(frozen=True)
class Preparation:
    """How a model wants its pictures.

    Attributes:
        image_size: side in pixels.
        image_mean: of the three channels on the scale 0..1.
        image_std: of the three channels on the scale 0..1.
        resizing: how pictures come to that size.
    """

    image_size: int
    image_mean: tuple[float, ...] = IMAGENET_MEAN
    image_std: tuple[float, ...] = IMAGENET_STD
    resizing: Resizing = PLAIN


def load_encoder(
    name: str,
    *,
    seed: int = 0,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    image_size: int | None = None,
    normalisation: Literal["imagenet", "clip"] | None = None,
    pooling: Pooling = "cls",
    num_layers: int = 1,
    batch_size: int = 64,
    option: str = "--model",
) -> Encoder:
    """Load what is evaluated.

    Args:
        name: a folder or Hub id of any vision model that `AutoModel` loads; `untrained:` before one of these for the
            same architecture with random weights; `pixels` for the raw pixels.
        seed: of the random weights.
        device: where it runs; default: a GPU where there is one.
        dtype: its precision; default: bfloat16 on CUDA, float32 elsewhere.
        image_size: side in pixels of the pictures; short side to it, centre crop (paper B.5). Default: everything as
            the model's image processor does it; without one, its configuration's size.
        normalisation: mean and deviation of the channels. Default: the image processor's; without one, ImageNet's.
        pooling: see `Encoder.pooling`.
        num_layers: see `Encoder.num_layers`.
        batch_size: pictures a forward pass.
        option: the option that names the model, for the errors.

    Raises:
        UserInputError: the model cannot be loaded or lacks weights, or a setting is unknown.
    """
    if pooling not in POOLINGS:
        raise unknown_name("pooling", pooling, POOLINGS, "--pooling cls")
    if normalisation is not None and normalisation not in NORMALISATIONS:
        raise unknown_name("normalisation", normalisation, NORMALISATIONS, "--normalisation imagenet")
    numbers = {"--num-layers": num_layers, "--batch-size": batch_size, "--image-size": image_size}
    for setting, value in numbers.items():
        if value is not None and value < 1:
            raise UserInputError(f"{setting} {value} cannot be used; allowed: 1 or more; type {setting} 1 or more")
    if name == PIXELS:
        return Encoder(PIXELS, None, image_size or PIXEL_SIZE, batch_size=batch_size)
    default_device, default_dtype = device_and_dtype()
    dtype = default_dtype if dtype is None else _dtype(dtype)
    source = name.removeprefix(UNTRAINED)
    if name.startswith(UNTRAINED):
        model = untrained_model(source, seed=seed, option=option).to(dtype)
    else:
        model = _trained_model(source, dtype, option)
    if getattr(vision_part(model), "main_input_name", None) != "pixel_values":
        raise UserInputError(
            f"{option} '{name}' ({type(model).__name__}) does not see pictures; type the folder or id of a vision "
            "model, e.g. a SynCLR, DINOv2, CLIP or SigLIP"
        )
    if hasattr(model.config, "mask_ratio"):  # MAE would hide three quarters of the patches, also while it is tuned
        model.config.mask_ratio = 0.0
    try:
        model.eval().to(default_device if device is None else device)
    except (AssertionError, RuntimeError) as error:  # no such device, or no room on it
        reason = str(error).splitlines()[0]
        raise UserInputError(f"{option} '{name}' cannot be put on '{device}' ({reason}); type --device cpu") from error
    if image_size is None or normalisation is None:
        preparation = own_preparation(source, model, option=option)
    if image_size is not None:
        preparation = (
            Preparation(image_size) if normalisation else replace(preparation, image_size=image_size, resizing=PLAIN)
        )
    if normalisation is not None:
        mean, std = NORMALISATIONS[normalisation]
        preparation = replace(preparation, image_mean=mean, image_std=std)
    return Encoder(
        name=name,
        model=model,
        image_size=preparation.image_size,
        image_mean=preparation.image_mean,
        image_std=preparation.image_std,
        pooling=pooling,
        num_layers=num_layers,
        batch_size=batch_size,
        resizing=preparation.resizing,
    )


def untrained_model(source: str, *, seed: int, option: str = "--model") -> PreTrainedModel:
    """Build the architecture of a folder or Hub id with random weights; the same seed gives the same.

    Raises:
        UserInputError: there is no configuration of a vision model.
    """
    config = load_pretrained(AutoConfig, source, option)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "untrained") % 2**32)
        try:
            return AutoModel.from_config(config)
        except (ValueError, ImportError) as error:
            raise _no_model(source, option, error) from error


def own_preparation(source: str, model: PreTrainedModel, *, option: str = "--model") -> Preparation:
    """Return how a model wants its pictures: as its image processor says, else its own size and ImageNet's numbers.

    Args:
        source: folder or Hub id that the model came from.
        model: the model.
        option: the option that names the model, for the error.

    Raises:
        UserInputError: the image processor cannot be read, or the Hub cannot be asked whether there is one.
    """
    try:
        processor = AutoImageProcessor.from_pretrained(source, backend="pil")
    except (OSError, ValueError, ImportError):  # saved without one, or only for a library that is not installed
        processor = None
    facts = getattr(processor, "data_config", None)
    if facts is not None:
        return _of_timm(facts)
    facts = _processor_facts(source) if processor is None else processor.to_dict()
    if facts is None:
        _check_there_is_none(source, option)
    return _of_facts(facts, own_image_size(model)) if facts else Preparation(own_image_size(model))


def _check_there_is_none(source: str, option: str) -> None:
    """Refuse to guess: a wrong normalisation would show as nothing but a lower number."""
    if (Path(source) / _PROCESSOR_FILE).is_file():
        trouble = f"its {_PROCESSOR_FILE} cannot be read; mend or remove the file"
    elif not Path(source).is_dir() and try_to_load_from_cache(source, _PROCESSOR_FILE) is None:
        trouble = (
            "its image processor is not in the cache, and the Hub cannot be asked for it; try again with a network"
        )
    else:
        return
    raise UserInputError(f"{option} '{source}': {trouble}, or type both --image-size and --normalisation")


def _of_timm(facts: dict[str, Any]) -> Preparation:
    """Read timm's `data_config`."""
    size = facts["input_size"][-1]
    squashes = facts.get("crop_mode") == "squash"
    short_side = math.floor(size / facts.get("crop_pct", 1.0))
    filter_name = facts.get("interpolation", "bicubic")
    filter_name = filter_name if filter_name in _RESAMPLES else "bicubic"
    resizing = Resizing(short_side, squashes, filter_name, rounds_corner=True)
    return Preparation(size, tuple(facts["mean"]), tuple(facts["std"]), resizing)


def _processor_facts(source: str) -> dict[str, Any] | None:
    """Read the settings of an image processor whose class cannot be made here (DINOv3's needs torchvision)."""
    from transformers.image_processing_utils import BaseImageProcessor

    try:
        return BaseImageProcessor.get_image_processor_dict(source)[0]
    except (OSError, ValueError):
        return None


def _of_facts(facts: dict[str, Any], own_size: int) -> Preparation:
    """Read the settings of an image processor of transformers."""
    size = facts.get("size") or own_size
    size = {"height": size, "width": size} if isinstance(size, int) else {k: v for k, v in dict(size).items() if v}
    short_side = size.get("shortest_edge") or size.get("height") or own_size
    squashes = "shortest_edge" not in size and "longest_edge" not in size
    image_size = short_side
    if facts.get("do_center_crop") and facts.get("crop_size"):
        crop = facts["crop_size"]
        image_size = crop if isinstance(crop, int) else crop.get("height") or short_side
    elif facts.get("crop_pct") and "shortest_edge" in size:  # ConvNeXt
        squashes = short_side >= _WARPED_FROM
        short_side = short_side if squashes else int(short_side / facts["crop_pct"])
    if not facts.get("do_resize", True):
        short_side, squashes = image_size, False
    resample = facts.get("resample", 3)
    resizing = Resizing(short_side, squashes, _RESAMPLES[int(resample)] if resample is not None else "bicubic")
    mean, std = facts.get("image_mean") or IMAGENET_MEAN, facts.get("image_std") or IMAGENET_STD
    if not facts.get("do_normalize", True):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return Preparation(image_size, _three(mean), _three(std), resizing)


def _three(values: Any) -> tuple[float, ...]:
    """Return one number for each channel."""
    return (float(values),) * 3 if isinstance(values, int | float) else tuple(map(float, values))


def _trained_model(source: str, dtype: torch.dtype, option: str) -> PreTrainedModel:
    """Load a model and refuse one with random parts that features depend on."""
    hint = f"type the folder of an encoder, the id of a vision model on the Hub, or {option} {PIXELS}"
    model, loaded = load_pretrained(AutoModel, source, option, hint, dtype=dtype, output_loading_info=True)
    missing = sorted(key for key in loaded["missing_keys"] if not any(part in key for part in _MAY_BE_MISSING))
    if missing:
        raise UserInputError(
            f"{option} '{source}' lacks {len(missing)} weights of a {type(model).__name__} (first: {missing[0]}); "
            f"type the folder or id of a complete encoder, or {UNTRAINED}{source} for random weights"
        )
    return model


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise unknown_name("precision", name, DTYPES, "--dtype float32")
    return getattr(torch, name)


def _no_model(source: str, option: str, error: Exception) -> UserInputError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return UserInputError(
        f"{option} '{source}' cannot be loaded ({reason[:200]}); type ORG/NAME or a folder of a model"
    )
