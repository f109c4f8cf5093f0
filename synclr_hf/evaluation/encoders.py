"""Any transformers vision model as a function from pictures to features."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel

from synclr_hf.data.pictures import IMAGENET_MEAN, IMAGENET_STD, Picture
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.pictures import picture_array

_NORMED_IN_POOLER = ("clip", "siglip")
"""Beginnings of the model types whose last norm sits in the pooler; elsewhere the pooler adds a layer or nothing."""

Pooling = Literal["cls", "mean_patch", "cls_mean_patch"]
PIXELS = "pixels"
"""Name of the raw-pixel baseline."""
UNTRAINED = "untrained:"
"""Before a folder or Hub id: the same architecture with random weights."""


@dataclass(frozen=True)
class Encoder:
    """What is evaluated: a model with everything else that decides its features, or raw pixels.

    Attributes:
        name: as the user typed it: a folder, a Hub id, `untrained:` before one of these, or `pixels`.
        model: any transformers vision model, on its device and in its dtype; `None`: raw pixels.
        image_size: side in pixels of the pictures that it sees.
        image_mean: mean of the three channels on the scale 0..1.
        image_std: standard deviation of the three channels on the scale 0..1.
        pooling: what describes a picture: the class token, the mean of the patch tokens, or both in a row.
        num_layers: the last so many layers, their features in a row.
        batch_size: pictures a forward pass; changes speed and memory only.
    """

    name: str
    model: PreTrainedModel | None
    image_size: int
    image_mean: tuple[float, ...] = IMAGENET_MEAN
    image_std: tuple[float, ...] = IMAGENET_STD
    pooling: Pooling = "cls"
    num_layers: int = 1
    batch_size: int = 64

    @cached_property
    def fingerprint(self) -> str:
        """A checksum of the weights and of everything here that decides the features."""
        digest = blake2b(digest_size=16)
        digest.update(repr((type(self.model).__name__, self.settings())).encode())
        if self.model is not None:
            for name, tensor in sorted(self.model.state_dict().items()):
                digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def settings(self) -> dict[str, Any]:
        """Return what decides the features beside the weights, as plain values."""
        return {
            "image_size": self.image_size,
            "image_mean": list(self.image_mean),
            "image_std": list(self.image_std),
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
    except (OSError, ValueError, SafetensorError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserInputError(f"{option} '{name}' cannot be loaded ({reason}); {hint}") from error


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Run a block in evaluation mode without gradients, then put the model back into its mode."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def picture_tokens(model: PreTrainedModel, pixel_values: Tensor) -> Tensor:
    """Return one vector a picture, (B, D) float32 on the CPU.

    The class token of the last layer behind the last norm; the average over the map of a convolutional network.

    Args:
        model: in evaluation mode; runs where it is.
        pixel_values: (B, 3, H, W) float32, normalised.
    """
    output = _forward(model, pixel_values)
    if vision_config(model).model_type.startswith(_NORMED_IN_POOLER):
        feature = output.pooler_output
    elif output.last_hidden_state.dim() == 4:  # (B, D, h, w)
        feature = output.last_hidden_state.mean(dim=(2, 3))
    else:
        feature = output.last_hidden_state[:, 0]
    return feature.float().cpu()


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
        model: a vision transformer with patches in the order of reading behind its special tokens.
        pictures: a few pictures; all go through the model together.
        image_size: side of the prepared pictures in pixels; default: the model's own. Larger gives finer maps.
        image_mean: mean of the three channels on the scale 0..1.
        image_std: standard deviation of the three channels on the scale 0..1.
    """
    image_size = image_size or own_image_size(model)
    pixels = np.stack([picture_array(picture, image_size) for picture in pictures])
    with evaluating(model):
        output = _forward(model, normalised(pixels, image_mean, image_std))
    patch_size = vision_config(model).patch_size
    side = image_size // (patch_size if isinstance(patch_size, int) else patch_size[0])
    patches = output.last_hidden_state[:, -side * side :]  # special tokens come first
    return patches.reshape(len(pictures), side, side, -1).float().cpu()


def normalised(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Turn (B, H, W, 3) uint8 into (B, 3, H, W) float32, (value / 255 - mean) / std."""
    values = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)
    return values.sub_(torch.tensor(mean).view(3, 1, 1)).div_(torch.tensor(std).view(3, 1, 1))


def own_image_size(model: PreTrainedModel) -> int:
    """Return the side in pixels that a model was made for; 224 where its configuration does not say."""
    size = getattr(vision_config(model), "image_size", 224)
    return size if isinstance(size, int) else size[0]


def vision_config(model: PreTrainedModel) -> Any:
    """Return the part of a model's configuration that is about pictures."""
    return getattr(model.config, "vision_config", model.config)


def _forward(model: PreTrainedModel, pixel_values: Tensor) -> Any:
    """Run the picture side of a model, positions interpolated where it can do that."""
    model = getattr(model, "vision_model", model) if hasattr(model.config, "vision_config") else model
    takes_any_size = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
    options = {"interpolate_pos_encoding": True} if takes_any_size else {}
    return model(pixel_values=pixel_values.to(model.device, model.dtype), **options)
