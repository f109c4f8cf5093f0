"""Train pictures as the workers of a data loader make them, and test pictures in a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from synclr_hf.data.pictures import DECODING_ERRORS, open_picture
from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.encoders import Encoder, normalised
from synclr_hf.evaluation.finetuning.augmentation import RandAugment
from synclr_hf.evaluation.finetuning.settings import TrainingSettings
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.evaluation.labelled.pictures import prepared_batches
from synclr_hf.views.crops import random_crop_box
from synclr_hf.views.sampling import EpochSampler


class TrainPictures(Dataset):
    """Labelled pictures, augmented: random crop (bicubic), flip, RandAugment where it is on.

    Items are asked for as `(epoch, index)`; what comes out is a function of (seed, epoch, index). A picture that
    cannot be read is replaced by the next one that can.

    Args:
        data: pictures and labels.
        settings: which augmentation.
        size: side of the crops in pixels.
        fill: colour of what RandAugment brings in from outside, three values in 0..255.
        seed: of the run.

    Raises:
        UserInputError: RandAugment without torchvision; or not one picture can be read.
    """

    def __init__(
        self, data: LabelledImages, settings: TrainingSettings, *, size: int, fill: Sequence[float], seed: int
    ) -> None:
        self.data, self.size, self.seed, self.crop_scale = data, size, seed, settings.crop_scale
        self.rand_augment = None
        if settings.rand_augment:
            magnitude, std = settings.rand_augment_magnitude, settings.rand_augment_std
            self.rand_augment = RandAugment(magnitude, std, fill, settings.section)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        epoch, index = item
        rng = np.random.default_rng(seed_for(self.seed, "augmentation", epoch, index))
        used, image = self._readable(index)
        box = random_crop_box(*image.size, (self.crop_scale, 1.0), rng)
        image = image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box)
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.rand_augment is not None:
            image = self.rand_augment(image, rng)
        return {
            "pixels": np.asarray(image).transpose(2, 0, 1),
            "label": self.data.labels[used],
            "place": (epoch, index),
            "unreadable": index if used != index else None,
        }

    def _readable(self, index: int) -> tuple[int, Image.Image]:
        for step in range(len(self.data)):
            used = (index + step) % len(self.data)
            try:
                return used, open_picture(self.data.pictures[used])
            except DECODING_ERRORS:
                continue
        raise UserInputError(
            f"none of the {len(self.data)} train pictures can be read; needed: JPEG, PNG or another format that "
            "Pillow opens"
        )


class WholeBatches(EpochSampler):
    """Yields `(epoch, index)` in the order of `EpochSampler`, as many as fill whole batches.

    Args:
        length: number of pictures.
        seed: of the order.
        batch_size: pictures an optimizer step.
    """

    def __init__(self, length: int, seed: int, batch_size: int) -> None:
        super().__init__(length, seed)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return self.length // self.batch_size * self.batch_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return islice(super().__iter__(), len(self))


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make a batch: `pixels` (B, 3, H, W) uint8, `targets` (B,) or (B, C), and where it stands in the training.

    The key is not `labels`: the Trainer would scale the loss by their number.
    """
    return {
        "pixels": torch.from_numpy(np.stack([item["pixels"] for item in items])),
        "targets": torch.from_numpy(np.stack([item["label"] for item in items])),
        "place": items[0]["place"],
        "unreadable": [item["unreadable"] for item in items if item["unreadable"] is not None],
    }


def prepared_test_batches(
    data: LabelledImages, encoder: Encoder, *, test_crop: float, batch_size: int
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Prepare pictures for prediction: short side to `size / test_crop` (bicubic), centre crop, normalised.

    Args:
        data: the pictures; unreadable ones are left out.
        encoder: says size, mean and standard deviation.
        test_crop: share of the short side that is kept.
        batch_size: pictures a batch.

    Yields:
        Places in `data` of the readable pictures, (B,) int64, and the pictures, (B, 3, H, W) float32.
    """
    size = encoder.image_size
    enlarged = int(size / test_crop)
    edge = (enlarged - size) // 2
    for rows, pixels in prepared_batches(data.pictures, size=enlarged, batch_size=batch_size):
        centre = np.ascontiguousarray(pixels[:, edge : edge + size, edge : edge + size])
        yield rows, normalised(centre, encoder.image_mean, encoder.image_std)
