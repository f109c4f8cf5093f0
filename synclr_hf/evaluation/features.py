"""Frozen features: one row a picture, computed once and kept on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from synclr_hf.data.pictures import IMAGENET_MEAN, IMAGENET_STD, Picture
from synclr_hf.data.progress import Progress
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoders import Encoder, evaluating, normalised, own_image_size, picture_tokens
from synclr_hf.evaluation.labelled_images import LabelledImages
from synclr_hf.evaluation.pictures import picture_array, prepared_batches

PIXEL_SIZE = 16
"""Side of the pictures in the raw-pixel baseline."""
_CACHE_VERSION = "2"


@dataclass(frozen=True)
class FeatureTable:
    """One feature vector a picture, with what the evaluations need to know of it.

    Attributes:
        features: (N, D) float32 on the CPU, what describes each picture.
        labels: (N,) int64, indices into `label_names`.
        groups: (N,) int64, pictures with the same id belong together.
        rows: (N,) int64, the place of each picture in the data it came from.
        label_names: name of each class.
        unreadable: pictures that could not be decoded and are missing here.
    """

    features: Tensor
    labels: Tensor
    groups: Tensor
    rows: Tensor
    label_names: tuple[str, ...]
    unreadable: int = 0

    def __len__(self) -> int:
        return len(self.labels)


def extract_features(
    model: PreTrainedModel,
    data: LabelledImages,
    *,
    image_size: int | None = None,
    image_mean: Sequence[float] = IMAGENET_MEAN,
    image_std: Sequence[float] = IMAGENET_STD,
    batch_size: int = 256,
    device: str | torch.device | None = None,
    cache_dir: str | Path | None = None,
    description: str = "features",
) -> FeatureTable:
    """Describe every picture by the model's class token.

    Pictures are resized on the short side (bicubic) and cropped in the centre. Unreadable ones are
    left out and counted.

    Args:
        model: any transformers vision model whose output has `last_hidden_state`; put back into its mode afterwards.
        data: the pictures and their classes.
        image_size: side of the prepared pictures in pixels; default: the model's own (`config.image_size`).
        image_mean: mean of the three channels on the scale 0..1.
        image_std: standard deviation of the three channels on the scale 0..1.
        batch_size: pictures a forward pass.
        device: where to compute; the model is moved there. Default: where it is.
        cache_dir: folder of computed tables. One is used again when the model's parameters, the pictures and these
            settings are the same.
        description: what the progress bar says.

    Raises:
        UserInputError: not one picture can be read.
    """
    image_size = image_size or own_image_size(model)
    cache_file = None
    if cache_dir is not None:
        settings = [image_size, list(image_mean), list(image_std)]
        cache_file = Path(cache_dir) / f"features-{_cache_key(model, data, settings)}.safetensors"
        if (table := _read_table(cache_file)) is not None:
            return table
    if device is not None:
        model.to(device)
    features, readable = [], []
    batches = prepared_batches(data.pictures, size=image_size, batch_size=batch_size)
    with evaluating(model), Progress(description, total=len(data), unit="picture") as bar:
        for rows, pixels in batches:
            if len(rows):
                features.append(picture_tokens(model, normalised(pixels, image_mean, image_std)))
            readable.append(rows)
            bar.update(min(batch_size, len(data) - bar.count))
    table = feature_table(data, features, readable)
    if cache_file is not None:
        _write_table(cache_file, table)
    return table


def encoder_features(
    encoder: Encoder, data: LabelledImages, *, cache_dir: str | Path | None = None, description: str = "features"
) -> FeatureTable:
    """Describe every picture by an encoder, or by its own pixels."""
    if encoder.model is None:
        return pixel_table(data, size=encoder.image_size)
    return extract_features(
        encoder.model,
        data,
        image_size=encoder.image_size,
        image_mean=encoder.image_mean,
        image_std=encoder.image_std,
        batch_size=encoder.batch_size,
        cache_dir=cache_dir,
        description=description,
    )


def pixel_table(data: LabelledImages, *, size: int = PIXEL_SIZE) -> FeatureTable:
    """Return the raw-pixel baseline of `pixel_features` for labelled pictures, unreadable ones left out."""
    features, readable = [], []
    for rows, pixels in prepared_batches(data.pictures, size=size, batch_size=256):
        features.append(torch.from_numpy(standardised_pixels(pixels)))
        readable.append(rows)
    return feature_table(data, features, readable)


def pixel_features(pictures: Sequence[Picture], size: int = PIXEL_SIZE) -> np.ndarray:
    """Return pictures as vectors of their own pixels, (N, size * size * 3) float32; see `standardised_pixels`."""
    return standardised_pixels(np.stack([picture_array(picture, size) for picture in pictures]))


def standardised_pixels(pixels: np.ndarray) -> np.ndarray:
    """Flatten pixels and standardise each picture by its own mean and standard deviation.

    Mean and deviation are taken over all pixels and channels of a picture: light and contrast go, colour stays, and
    the cosine of two such vectors is the correlation of the two pictures.

    Args:
        pixels: (N, size, size, 3) uint8.

    Returns:
        (N, size * size * 3) float32; zeros for a picture of one grey.
    """
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)
    centred = flat - flat.mean(axis=1, keepdims=True)
    return centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-6)


def feature_table(data: LabelledImages, features: Sequence[Tensor], rows: Sequence[np.ndarray]) -> FeatureTable:
    """Put batches of features, (B, D) each, beside the labels of the `rows` that they describe."""
    kept = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
    if len(kept) == 0:
        raise UserInputError(
            f"none of the {len(data)} pictures can be read; needed: JPEG, PNG or another format that Pillow opens"
        )
    return FeatureTable(
        features=torch.cat(list(features)),
        labels=torch.from_numpy(data.labels[kept]),
        groups=torch.from_numpy(data.groups[kept]),
        rows=torch.from_numpy(kept),
        label_names=data.label_names,
        unreadable=len(data) - len(kept),
    )


def _cache_key(model: PreTrainedModel, data: LabelledImages, settings: list[object]) -> str:
    """Hash everything that a table depends on."""
    digest = blake2b(digest_size=16)
    facts = [_CACHE_VERSION, type(model).__name__, data.fingerprint, data.label_names, len(data), settings]
    digest.update(json.dumps(facts).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _read_table(file: Path) -> FeatureTable | None:
    """Read a table from disk; `None` if there is none or it is damaged."""
    try:
        with safe_open(file, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in ("features", "labels", "groups", "rows")}
            facts = json.loads(stored.metadata()["facts"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    return FeatureTable(**tensors, label_names=tuple(facts["label_names"]), unreadable=facts["unreadable"])


def _write_table(file: Path, table: FeatureTable) -> None:
    """Write a table so that it is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    facts = json.dumps({"label_names": table.label_names, "unreadable": table.unreadable})
    tensors = {"features": table.features, "labels": table.labels, "groups": table.groups, "rows": table.rows}
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, {"facts": facts})
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
