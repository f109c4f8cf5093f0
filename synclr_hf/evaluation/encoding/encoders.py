"""Any transformers vision model as a function from pictures to features."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import blake2b
from math import isqrt
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel

from synclr_hf.data.pictures import IMAGENET_MEAN, IMAGENET_STD, Picture
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.vision_outputs import (
    layer_outputs,
    patch_size,
    vision_config,
    vision_part,
    without_patches,
)
from synclr_hf.evaluation.labelled.pictures import PLAIN, Resizing, picture_array

Pooling = Literal["cls", "mean_patch", "cls_mean_patch"]
PIXELS = "pixels"
"""Name of the raw-pixel baseline."""
PIXEL_SIZE = 16
"""Side of the pictures in the raw-pixel baseline."""
UNTRAINED = "untrained:"
"""Before a folder or Hub id: the same architecture with random weights."""
_PASSING = frozenset(
    "_name_or_path _commit_hash transformers_version architectures auto_map dtype torch_dtype id2label label2id "
    "output_hidden_states output_attentions return_dict problem_type mask_ratio".split()
)
"""Entries of configurations that no feature depends on."""


@dataclass(frozen=True)
class Encoder:
    """What is evaluated: a model with everything else that decides its features, or raw pixels.

    Attributes:
        name: as the user typed it: a folder, a Hub id, `untrained:` before one of these, or `pixels`.
        model: any transformers vision model, on its device and in its dtype; `None`: raw pixels.
        image_size: side in pixels of the pictures that it sees.
        image_mean: mean of the three channels on the scale 0..1.
        image_std: standard deviation of the three channels on the scale 0..1.
        pooling: what describes a picture: the class token behind the last norm (where there is none, what the model
            itself describes a picture by), the mean of the patch tokens behind it, or both in a row.
        num_layers: the last so many layers, the pooled features of each in a row, deeper ones later. Inner layers go
            through the last norm, too, as in DINOv2's linear evaluation (which adds the mean of the patches of the
            last layer only; here every layer has its own).
        batch_size: pictures a forward pass; changes speed and memory only.
        resizing: how pictures come to that size.
    """

    name: str
    model: PreTrainedModel | None
    image_size: int
    image_mean: tuple[float, ...] = IMAGENET_MEAN
    image_std: tuple[float, ...] = IMAGENET_STD
    pooling: Pooling = "cls"
    num_layers: int = 1
    batch_size: int = 64
    resizing: Resizing = PLAIN

    @cached_property
    def fingerprint(self) -> str:
        """A checksum of the weights and of everything here that decides the features; made once, so train a copy."""
        digest = blake2b(digest_size=16)
        digest.update(repr((type(self.model).__name__, self.settings())).encode())
        if self.model is not None:
            digest.update(_architecture(self.model).encode())
            for name, tensor in sorted(vision_part(self.model).state_dict().items()):
                digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def settings(self) -> dict[str, Any]:
        """Return what decides the features beside the weights, as plain values."""
        return {
            "image_size": self.image_size,
            "image_mean": list(self.image_mean),
            "image_std": list(self.image_std),
            "resizing": asdict(self.resizing),
            "pooling": self.pooling,
            "num_layers": self.num_layers,
            "dtype": None if self.model is None else str(self.model.dtype).removeprefix("torch."),
        }


def load_pretrained(
    auto: Any, name: str, option: str, hint: str = "type ORG/NAME or the folder of a model", **options: Any
) -> Any:
    """Load a model from a folder or the Hub.

    Args:
        auto: a class with `from_pretrained`, e.g. `AutoModel`.
        name: folder or Hub id.
        option: the option that names it.
        hint: what to type instead.
        **options: of `from_pretrained`.

    Raises:
        UserInputError: nothing there that the class loads.
    """
    try:
        return auto.from_pretrained(name, **options)
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserInputError(f"{option} '{name}' cannot be loaded ({reason}); {hint}") from error


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Run a block in evaluation mode without gradients, then put the model back into its mode."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():  # not inference mode: heads are trained on what comes out
            yield
    finally:
        model.train(was_training)


def picture_tokens(model: PreTrainedModel, pixel_values: Tensor) -> Tensor:
    """Return one vector a picture, (B, D) float32 on the CPU.

    The class token of the last layer behind the last norm; where there is none, what the model describes a picture by:
    the pooler's vector of SigLIP, the average over the map of a convolutional network.

    Args:
        model: in evaluation mode; runs where it is.
        pixel_values: (B, 3, H, W) float32, normalised.
    """
    return layer_outputs(model, pixel_values)[-1].picture.float().cpu()


def pooled_features(encoder: Encoder, pixel_values: Tensor) -> Tensor:
    """Return the features of prepared pictures as the encoder's settings say, (B, D) float32 on the CPU.

    Args:
        encoder: a model, not raw pixels; see `Encoder.pooling` for what D is made of.
        pixel_values: (B, 3, H, W) float32, normalised by `encoder.image_mean` and `encoder.image_std`.

    Raises:
        UserInputError: the model has no patch tokens to average, or not so many layers.
    """
    with evaluating(_model(encoder)):
        return device_features(encoder, pixel_values).float().cpu()


def device_features(encoder: Encoder, pixel_values: Tensor) -> Tensor:
    """Return what `pooled_features` does, on the model's device and in its dtype, inside `evaluating`."""
    rows = []
    for output in layer_outputs(_model(encoder), pixel_values, encoder.num_layers):
        if encoder.pooling != "mean_patch":
            rows.append(output.picture)
        if encoder.pooling != "cls":
            if output.patches is None:
                raise without_patches(encoder.name, encoder.model)
            rows.append(output.patches.mean(dim=(1, 2)))
    return torch.cat(rows, dim=1)


def patch_maps(encoder: Encoder, pixel_values: Tensor, *, num_layers: int = 1) -> Tensor:
    """Return the patch tokens of the last layers as maps, (B, h, w, D * num_layers) float32 on the CPU.

    Behind the last norm, in reading order, without class token and registers; deeper layers come later.

    Args:
        encoder: a model with patch tokens.
        pixel_values: (B, 3, H, W) float32, normalised; H and W are multiples of `patch_size(encoder.model)` and need
            not be equal.
        num_layers: the last so many layers, their features in a row.

    Raises:
        UserInputError: there are no patch tokens, not so many layers, or the size does not fit.
    """
    side = patch_size(encoder.model) if _has_patches(encoder) else 0
    if not side:
        raise without_patches(encoder.name, encoder.model)
    height, width = pixel_values.shape[-2:]
    if height % side or width % side:
        raise UserInputError(
            f"'{encoder.name}' has patches of {side} pixels, pictures of {height} x {width} do not divide into them; "
            f"type a size that is a multiple of {side}, e.g. {max(1, round(height / side)) * side}"
        )
    with evaluating(encoder.model):
        outputs = layer_outputs(encoder.model, pixel_values, num_layers)
        if outputs[-1].patches is None:
            raise without_patches(encoder.name, encoder.model)
        return torch.cat([output.patches for output in outputs], dim=-1).float().cpu()


def patch_features(
    model: PreTrainedModel,
    pictures: Sequence[Picture],
    image_size: int | None = None,
    *,
    image_mean: Sequence[float] = IMAGENET_MEAN,
    image_std: Sequence[float] = IMAGENET_STD,
) -> Tensor:
    """Return the patch tokens of the last layer as maps, (N, h, w, D) float32 on the CPU.

    Args:
        model: a vision transformer; see `patch_maps`.
        pictures: a few pictures; all go through the model together.
        image_size: side of the prepared pictures in pixels; default: the model's own. Larger gives finer maps.
        image_mean: mean of the three channels on the scale 0..1.
        image_std: standard deviation of the three channels on the scale 0..1.
    """
    encoder = plain_encoder(model, image_size=image_size)
    pixels = np.stack([picture_array(picture, encoder.image_size) for picture in pictures])
    return patch_maps(encoder, normalised(pixels, image_mean, image_std))


def plain_encoder(
    model: PreTrainedModel, *, name: str = "encoder", image_size: int | None = None, batch_size: int = 64
) -> Encoder:
    """Return a model of ours as an encoder: its class token, ImageNet's normalisation, its own size.

    Args:
        model: any transformers vision model, on its device and in its dtype.
        name: what it is called in errors.
        image_size: side in pixels of the pictures that it sees; default: `own_image_size`.
        batch_size: pictures a forward pass.
    """
    return Encoder(name, model, image_size or own_image_size(model), batch_size=batch_size)


def normalised(pixels: np.ndarray | Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> Tensor:
    """Turn (B, H, W, 3) uint8 into (B, 3, H, W) float32, (value / 255 - mean) / std, on the device of the pixels."""
    values = torch.as_tensor(pixels).permute(0, 3, 1, 2).float().div_(255)
    mean, std = (torch.as_tensor(numbers, device=values.device).view(3, 1, 1) for numbers in (mean, std))
    return values.sub_(mean).div_(std)


def own_image_size(model: PreTrainedModel) -> int:
    """Return the side in pixels that a model was made for; 224 where its configuration does not say."""
    config = vision_config(model)
    if config.model_type.startswith("siglip2"):  # made for pictures of any shape with so many patches
        return isqrt(config.num_patches) * config.patch_size
    size = getattr(config, "image_size", 224)
    return size if isinstance(size, int) else size[0]


def _architecture(model: PreTrainedModel) -> str:
    """Return what the configuration says of a model, as text: the number of heads leaves no trace in the weights."""
    told = vision_config(model).to_dict()
    return json.dumps({name: told[name] for name in told.keys() - _PASSING}, sort_keys=True, default=str)


def _model(encoder: Encoder) -> PreTrainedModel:
    if encoder.model is None:
        raise UserInputError(f"'{encoder.name}' stands for raw pixels, which have no model; type --model FOLDER_OR_ID")
    return encoder.model


def _has_patches(encoder: Encoder) -> bool:
    try:
        return encoder.model is not None and patch_size(encoder.model) > 0
    except UserInputError:
        return False
