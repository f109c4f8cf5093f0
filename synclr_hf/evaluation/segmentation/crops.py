"""Augmented crops of pictures with masks, each a function of (seed, number)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.masked_images import IGNORED, MaskedImages
from synclr_hf.evaluation.segmentation.pairs import read_pair

SCALES = (0.5, 2.0)
"""Random scale, uniform (mmsegmentation's ADE20k pipeline)."""
LARGEST_SHARE = 0.75
"""A crop that one class fills more than this is drawn again (`cat_max_ratio`)."""
TRIES = 10
LONGEST = 4
"""The long side is at most so many short sides (2048 : 512 in mmsegmentation)."""


HUE = 36
"""Degrees. mmsegmentation's `hue_delta` of 18 counts OpenCV's 180 steps of a whole turn."""


class SegmentationCrops(Dataset):
    """Crops for training in the order of training, pass after pass over the pictures.

    Item n depends on (seed, n) only, so that a run that goes on sees the same crops. A picture that cannot be read or
    whose mask counts nowhere is replaced by the next one.

    Args:
        data: the pictures and their masks.
        length: number of items.
        crop_size: side of the crops in pixels.
        short_side: of the pictures before the random scale, in pixels; 0: as they are.
        image_mean: mean of the three channels on the scale 0..1.
        image_std: standard deviation of the three channels on the scale 0..1.
        seed: of order and augmentation.
    """

    def __init__(
        self,
        data: MaskedImages,
        length: int,
        *,
        crop_size: int,
        short_side: int,
        image_mean: tuple[float, ...],
        image_std: tuple[float, ...],
        seed: int,
    ) -> None:
        self.data, self.length, self.crop_size, self.short_side, self.seed = data, length, crop_size, short_side, seed
        self._mean, self._std = np.float32(image_mean), np.float32(image_std)
        self._order = lru_cache(maxsize=2)(self._drawn_order)

    def __len__(self) -> int:
        return self.length

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_order"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=2)(self._drawn_order)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """Return `pixel_values` (3, S, S) float32, normalised, and `labels` (S, S) int64.

        Raises:
            UserInputError: no picture has a pixel that counts.
        """
        generator = np.random.default_rng(seed_for(self.seed, "crop", number))
        row = int(self._order(number // len(self.data))[number % len(self.data)])
        for step in range(len(self.data)):
            pair = read_pair(self.data, (row + step) % len(self.data))
            if pair is not None and (pair[1] != IGNORED).any():
                pixels, mask = self._crop(*pair, generator)
                values = np.zeros((*mask.shape, 3), dtype=np.float32)  # filled up with the mean colour
                tall, wide = pixels.shape[:2]
                values[:tall, :wide] = (distorted(pixels, generator) / 255 - self._mean) / self._std
                if generator.random() < 0.5:
                    values, mask = values[:, ::-1], mask[:, ::-1]
                return {
                    "pixel_values": torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1))),
                    "labels": torch.from_numpy(mask.astype(np.int64)),
                }
        raise UserInputError(
            f"none of the {len(self.data)} train pictures can be read and has a pixel that counts; allowed: class "
            f"numbers beside {IGNORED}; give masks of the classes"
        )

    def _crop(
        self, picture: Image.Image, mask: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixels of a crop, (h, w, 3) uint8 with h, w <= S, and its mask (S, S), filled with `IGNORED`."""
        size = self.crop_size
        height, width = scaled_size(picture.height, picture.width, self.short_side)
        scale = generator.uniform(*SCALES)
        height, width = max(round(height * scale), 1), max(round(width * scale), 1)
        labels = np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
        tall, wide = min(height, size), min(width, size)
        best, most = (0, 0), -1.0
        for _ in range(TRIES):
            top, left = (int(generator.integers(room + 1)) for room in (height - tall, width - wide))
            counts = np.bincount(labels[top : top + tall, left : left + wide].ravel(), minlength=IGNORED + 1)[:IGNORED]
            # as mmsegmentation: classes share the crop; beyond that, any crop with a pixel that counts is better
            good = float(counts.sum() > 0) + float(counts.max() < LARGEST_SHARE * counts.sum())
            if good > most:
                best, most = (top, left), good
            if good == 2:
                break
        if most == 0:  # no try met a pixel that counts: go where there is one
            places = np.argwhere(labels != IGNORED)
            if len(places) == 0:  # the scale lost them all: one is put back, since a loss over nothing is no number
                y, x = np.argwhere(mask != IGNORED)[0]
                places = np.array([[y * height // mask.shape[0], x * width // mask.shape[1]]])
                labels[tuple(places[0])] = mask[y, x]
            middle = places[int(generator.integers(len(places)))]
            best = tuple(
                int(np.clip(at - extent // 2, 0, room))
                for at, extent, room in zip(middle, (tall, wide), (height - tall, width - wide), strict=True)
            )
        top, left = best
        x, y = picture.width / width, picture.height / height
        box = (left * x, top * y, (left + wide) * x, (top + tall) * y)  # only what is kept is computed
        pixels = np.asarray(picture.resize((wide, tall), Image.Resampling.BILINEAR, box=box))
        filled = np.full((size, size), IGNORED, dtype=np.uint8)
        filled[:tall, :wide] = labels[top : top + tall, left : left + wide]
        return pixels, filled

    def _drawn_order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng(seed_for(self.seed, "order", epoch)).permutation(len(self.data))


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return the size of a picture whose short side is scaled to `short_side` pixels (0: as it is), (height, width).

    A side longer than `LONGEST` short sides is squeezed to that.
    """
    short = min(height, width)
    factor = short_side / short if short_side else 1.0
    rows, columns = (max(round(min(side, LONGEST * short) * factor), 1) for side in (height, width))
    return rows, columns


def distorted(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Change light and colour of a picture, each of four with a chance of one half.

    Brightness +-32, contrast and saturation x0.5 to 1.5, hue turned by up to 36 degrees, in this order. Strengths are
    those of mmsegmentation's `PhotoMetricDistortion`; here contrast is about the mean, saturation and hue are in YIQ.

    Args:
        pixels: (h, w, 3) uint8.
        generator: draws it.

    Returns:
        (h, w, 3) float32 in [0, 255].
    """
    values = pixels.astype(np.float32)
    brightness, contrast, saturation, hue = generator.random(4) < 0.5
    if brightness:
        values += np.float32(generator.uniform(-32, 32))
    if contrast:
        mean = values.mean()
        values = (values - mean) * np.float32(generator.uniform(0.5, 1.5)) + mean
    if saturation or hue:
        strength = generator.uniform(0.5, 1.5) if saturation else 1.0
        angle = np.deg2rad(generator.uniform(-HUE, HUE)) if hue else 0.0
        turned = strength * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = np.eye(3)
        middle[1:, 1:] = turned
        values = values @ (np.linalg.inv(_YIQ) @ middle @ _YIQ).T.astype(np.float32)
    return values.clip(0, 255)


_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
