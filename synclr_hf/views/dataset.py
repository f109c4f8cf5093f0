"""From image rows to batches: a map-style dataset and its collator.

Everything random is a function of (seed, epoch, index): the same after a resume, whatever the workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.implementation import check_implementation

from .configuration import MAX_GLOBAL_CROPS, ViewsConfig
from .decoding import RowDecoder
from .multi_crop import Crops, fast_crops, plain_crops
from .photometric import draw_parameters
from .sampling import BlockSampler, EpochSampler

IMAGE_IDS_PER_CAPTION = 1000
LARGEST_CAPTION_ID = 2**63 // (IMAGE_IDS_PER_CAPTION * MAX_GLOBAL_CROPS)
"""The ids of its views must fit in 64 bits."""
_CROPS = {"plain": plain_crops, "fast": fast_crops}
_PREFIXES = {"global": "", "local": "local_"}
ROWS_LOOKED_AT = 8
"""Rows whose pictures are counted before the training."""


class ViewsDataset(Dataset):
    """Crops of the pictures of one caption.

    Item `(epoch, index)` is a dict of tensors. N pictures have G global crops each, V = N G, and every global crop has
    L local ones: `pixel_values` `(V, 3, H, W)` and `local_pixel_values` `(V L, 3, h, w)` uint8, `aug_params` `(V, 9)`
    and `local_aug_params` `(V L, 9)` float32, `bool_masked_pos` `(V, P)` bool, `caption_ids`, `image_ids`, `view_ids`
    and, with class names, `class_ids` `(V,)` int64. Crop g of picture n is row n G + g. `unreadable_rows` `(1,)` int64
    is 1 where the row could not be used and the next stands in its place. `collate_views` joins items to a batch and
    adds `masked_positions` `(M,)` int64, the flat places of its masked patches.

    Args:
        rows: anything indexable by number that gives image rows with undecoded pictures: `caption_id`, `images`, and
            `concept` where there are class names.
        config: settings of the views.
        patch_size: side of the encoder's patches in pixels; decides P.
        seed: seed of the run.
        class_names: names of all concepts; the place of a row's concept among them is its class.
        implementation: `plain`: Pillow cuts the crops of pictures that are decoded whole; `fast`: the same crops by
            `fast_crops`, equal but for single levels. All numbers drawn are the same.

    Attributes:
        crops_per_caption: V of one item.

    Raises:
        UserInputError: if there are no rows, fewer pictures of a caption than asked for, fewer than two global crops
            of a caption, the patch size divides no crop, or there is no such implementation.
    """

    def __init__(
        self,
        rows: Sequence[dict[str, Any]],
        config: ViewsConfig,
        *,
        patch_size: int,
        seed: int,
        class_names: Sequence[str] | None = None,
        implementation: str = "fast",
    ) -> None:
        config.check_patch_size(patch_size)
        if len(rows) == 0:
            raise UserInputError(
                "the image set has no rows; make one: type synclr images --captions ... --output-dir ..."
            )
        num_images = _pictures_used(_pictures_found(rows), config)
        self.rows, self.config, self.seed = rows, config, seed
        self.crops_per_caption = num_images * config.num_global_crops
        self.num_patches = (config.global_crop_size // patch_size) ** 2
        self.class_ids = None if class_names is None else {name: place for place, name in enumerate(class_names)}
        check_implementation(implementation)
        self._crops_of = _CROPS[implementation]
        self._decoder = RowDecoder(rows, num_images, config.max_unreadable_share)

    def __len__(self) -> int:
        return len(self.rows)

    def sampler(self, *, seed: int, batch_size: int, lanes: int) -> EpochSampler | BlockSampler:
        """Return the order of training: a permutation, or block by block where rows come in blocks (`ParquetRows`).

        Args:
            seed: seed of the order.
            batch_size: captions of a batch of one process.
            lanes: processes x workers of each, at least 1.

        Raises:
            UserInputError: the rows do not fill one batch of every lane.
        """
        block_lengths = getattr(self.rows, "block_lengths", None)
        if block_lengths is None:
            return EpochSampler(len(self), seed)
        return BlockSampler(block_lengths, seed=seed, batch_size=batch_size, lanes=lanes)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        epoch, index = key
        rng = np.random.default_rng(seed_for(self.seed, "views", epoch, index))
        start = rng.bit_generator.state

        def views_of(pictures: list[Any]) -> Crops:
            rng.bit_generator.state = start  # a row before may have been found broken after numbers were drawn for it
            return self._crops_of(pictures, self.config, rng)

        choice = np.random.default_rng(seed_for(self.seed, "pictures", epoch, index))
        decoded = self._decoder.decode(index, choice, views_of)
        crops = decoded.views
        item = self._draw_parameters(crops, rng)
        for stream, prefix in _PREFIXES.items():
            if stream in crops:
                item[f"{prefix}pixel_values"] = crops[stream]
        item["bool_masked_pos"] = torch.from_numpy(self._draw_masks(rng))
        item["unreadable_rows"] = torch.tensor([int(decoded.replaced)])
        return item | self._ids(decoded.row, decoded.places)

    def _draw_parameters(self, crops: Crops, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        kinds = self._draw_kinds(len(crops["global"]), rng)
        drawn = {"aug_params": [draw_parameters(self.config, False, rng, kind) for kind in kinds]}
        if "local" in crops:
            drawn["local_aug_params"] = [draw_parameters(self.config, True, rng) for _ in crops["local"]]
        return {name: torch.from_numpy(np.stack(rows)) for name, rows in drawn.items()}

    def _draw_kinds(self, num_crops: int, rng: np.random.Generator) -> list[int | None]:
        """Return the kind of each global crop: (coin of its picture + g) modulo 2; a single crop draws its own."""
        per_picture = self.config.num_global_crops
        if per_picture == 1:
            return [None] * num_crops
        coins = rng.integers(2, size=num_crops // per_picture).tolist()
        return [(coin + crop) % 2 for coin in coins for crop in range(per_picture)]

    def _ids(self, row: dict[str, Any], places: np.ndarray) -> dict[str, torch.Tensor]:
        caption_id, num_crops = row["caption_id"], self.config.num_global_crops
        if not isinstance(caption_id, int | np.integer) or not 0 <= caption_id < LARGEST_CAPTION_ID:
            raise UserInputError(
                f"caption_id {caption_id!r} of '{row.get('caption', 'a row')}'; allowed: whole numbers, 0 to "
                f"{LARGEST_CAPTION_ID - 1}; type an images set with one number a caption"
            )
        image_ids = (caption_id * IMAGE_IDS_PER_CAPTION + torch.from_numpy(places)).repeat_interleave(num_crops)
        crop_numbers = torch.arange(self.crops_per_caption) % num_crops
        ids = {
            "caption_ids": torch.full_like(image_ids, caption_id),
            "image_ids": image_ids,
            "view_ids": image_ids * MAX_GLOBAL_CROPS + crop_numbers,
        }
        if self.class_ids is not None:
            ids["class_ids"] = torch.full_like(image_ids, self._class_of(row))
        return ids

    def _class_of(self, row: dict[str, Any]) -> int:
        concept = row.get("concept")
        if concept not in self.class_ids:
            raise UserInputError(
                f"concept '{concept}' of caption {row['caption_id']} is not among the {len(self.class_ids)} class "
                f"names ({', '.join(list(self.class_ids)[:3])}, ...); type the images set that they were taken from"
            )
        return self.class_ids[concept]

    def _draw_masks(self, rng: np.random.Generator) -> np.ndarray:
        """Mask a fixed number of patches of a fixed number of crops, both chosen at random; `(V, P)` bool."""
        masks = np.zeros((self.crops_per_caption, self.num_patches), dtype=bool)
        masked_patches = int(self.num_patches * self.config.masked_patch_fraction)
        masked_crops = int(self.crops_per_caption * self.config.masked_image_fraction)
        for crop in rng.choice(self.crops_per_caption, masked_crops, replace=False):
            masks[crop, rng.choice(self.num_patches, masked_patches, replace=False)] = True
        return masks


def _pictures_found(rows: Sequence[dict[str, Any]]) -> int:
    """Return how many pictures most captions have, by the first rows; those with fewer are replaced."""
    counts = Counter(len(rows[place]["images"] or []) for place in range(min(len(rows), ROWS_LOOKED_AT)))
    return counts.most_common(1)[0][0]


def _pictures_used(found: int, config: ViewsConfig) -> int:
    """Return how many of the `found` pictures of each caption are used."""
    used = found if config.images_per_caption is None else config.images_per_caption
    if found < used:
        raise UserInputError(
            f"images_per_caption {used}: the captions of the image set have {found}; allowed: 1 to {found}; "
            f"type images_per_caption: {found}"
        )
    if used * config.num_global_crops < 2:
        raise UserInputError(
            f"images per caption {used}: pictures of one caption are each other's positives; allowed: 2 or more; type "
            "--images-per-caption 4 when the pictures are made, or num_global_crops: 2"
        )
    return used


def collate_views(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Concatenate crops of captions: V = captions x pictures x global crops; local rows i L ... belong to row i.

    Returns:
        What the items hold, and where they hold `bool_masked_pos` `(V, P)` also `masked_positions` `(M,)` int64 of the
        whole batch.
    """
    batch = {name: torch.cat([item[name] for item in items]) for name in items[0]}
    if "bool_masked_pos" in batch:
        batch["masked_positions"] = masked_positions_of(batch["bool_masked_pos"])
    return batch


def masked_positions_of(bool_masked_pos: torch.Tensor) -> torch.Tensor:
    """Return the flat places i P + p `(M,)` int64 of the masked patches in `(V, P)` bool, ascending.

    The collator does it on the CPU: on a device the host would wait for all that came before to know their number.
    """
    return bool_masked_pos.flatten().nonzero().squeeze(1)
