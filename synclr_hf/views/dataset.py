"""From image rows to batches: a map-style dataset, its sampler, its collator.

Everything random is a function of (seed, epoch, index): the same after a resume, whatever the workers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from synclr_hf.data.pictures import DECODING_ERRORS, open_picture
from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError

from .configuration import ViewsConfig
from .crops import random_crop, random_downsample
from .photometric import draw_parameters

logger = logging.getLogger(__name__)

IMAGE_IDS_PER_CAPTION = 1000


class ViewsDataset(Dataset):
    """Crops of all pictures of one caption.

    Item `(epoch, index)` is a dict of tensors, N pictures, L local crops each: `pixel_values` `(N, 3, H, W)` and
    `local_pixel_values` `(N L, 3, h, w)` uint8, `aug_params` `(N, 9)` and `local_aug_params` `(N L, 9)` float32,
    `bool_masked_pos` `(N, P)` bool, `caption_ids`, `image_ids`, `view_ids` `(N,)` int64.

    Args:
        rows: anything indexable by number that gives image rows with undecoded pictures: `caption_id`, `images`.
        config: settings of the views.
        patch_size: side of the encoder's patches in pixels; decides P.
        seed: seed of the run.

    Raises:
        UserInputError: if there are no rows, fewer than two pictures of a caption, or the patch size divides no crop.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], config: ViewsConfig, *, patch_size: int, seed: int) -> None:
        config.check_patch_size(patch_size)
        if len(rows) == 0:
            raise UserInputError(
                "the image set has no rows; make one: type synclr images --captions ... --output-dir ..."
            )
        self.num_images = len(rows[0]["images"])
        if self.num_images < 2:
            raise UserInputError(
                f"images per caption {self.num_images}: pictures of one caption are each other's positives; "
                "allowed: 2 or more; type --images-per-caption 4 when the pictures are made"
            )
        self.rows, self.config, self.seed = rows, config, seed
        self.num_patches = (config.global_crop_size // patch_size) ** 2

    @property
    def crops_per_caption(self) -> int:
        """Global crops of one caption."""
        return self.num_images

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        epoch, index = key
        rng = np.random.default_rng(seed_for(self.seed, "views", epoch, index))
        caption_id, images = self._decoded_row(index)
        config, crops = self.config, {"global": [], "local": []}
        for image in images:
            image = random_downsample(image, config.downsample_probability, config.downsample_sizes, rng)
            crops["global"].append(random_crop(image, config.global_crop_size, config.global_crop_scale, rng))
            for _ in range(config.num_local_crops):
                crops["local"].append(random_crop(image, config.local_crop_size, config.local_crop_scale, rng))
        parameters = {
            stream: [draw_parameters(config, stream == "local", rng) for _ in crops[stream]] for stream in crops
        }
        image_ids = caption_id * IMAGE_IDS_PER_CAPTION + torch.arange(self.num_images)
        item = {
            "pixel_values": torch.from_numpy(np.stack(crops["global"])),
            "aug_params": torch.from_numpy(np.stack(parameters["global"])),
            "bool_masked_pos": torch.from_numpy(self._draw_masks(rng)),
            "caption_ids": torch.full((self.num_images,), caption_id),
            "image_ids": image_ids,
            "view_ids": image_ids,
        }
        if config.num_local_crops:
            item["local_pixel_values"] = torch.from_numpy(np.stack(crops["local"]))
            item["local_aug_params"] = torch.from_numpy(np.stack(parameters["local"]))
        return item

    def _decoded_row(self, index: int) -> tuple[int, list[Any]]:
        """Return caption id and pictures of a row; one that does not decode is replaced by the next that does."""
        for step in range(len(self.rows)):
            row = self.rows[(index + step) % len(self.rows)]
            try:
                images = [open_picture(picture) for picture in row["images"]]
            except DECODING_ERRORS as error:
                logger.warning(
                    "caption %s: a picture does not decode (%s); the next row stands in", row["caption_id"], error
                )
                continue
            if len(images) == self.num_images:
                return int(row["caption_id"]), images
        raise UserInputError("no row of the image set has pictures that decode; make the set again")

    def _draw_masks(self, rng: np.random.Generator) -> np.ndarray:
        """Mask a fixed number of patches of a fixed number of pictures, both chosen at random; `(N, P)` bool."""
        masks = np.zeros((self.num_images, self.num_patches), dtype=bool)
        masked_patches = int(self.num_patches * self.config.masked_patch_fraction)
        masked_images = int(self.num_images * self.config.masked_image_fraction)
        for image in rng.choice(self.num_images, masked_images, replace=False):
            masks[image, rng.choice(self.num_patches, masked_patches, replace=False)] = True
        return masks


class EpochSampler(Sampler):
    """Yields `(epoch, index)` in an order that is a function of (seed, epoch).

        epoch 0: (0, 3) (0, 0) (0, 2) (0, 1)
        epoch 1: (1, 1) (1, 3) (1, 0) (1, 2)

    The epoch travels with the index, so that augmentation repeats exactly after a resume, in every worker.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; accelerate calls this at its start."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng(seed_for(self.seed, "order", self.epoch)).permutation(self.length)
        return iter([(self.epoch, int(index)) for index in order])


def collate_views(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Concatenate the crops of several captions, V = captions x pictures; local rows i L ... belong to picture i."""
    return {name: torch.cat([item[name] for item in items]) for name in items[0]}
