"""Settings of the views: how pictures become crops."""

from __future__ import annotations

from dataclasses import dataclass, field

from synclr_hf.data.checks import check_integer
from synclr_hf.errors import UserInputError

MAX_GLOBAL_CROPS = 10
"""Global crops of a picture that ids have room for."""


@dataclass
class ViewsConfig:
    """Multi-crop and BYOL augmentation as in the reference, sizes as in the paper (3.4, B.1).

    Args:
        global_crop_size: side of a global crop in pixels; a multiple of the encoder's patch size.
        local_crop_size: side of a local crop in pixels; a multiple of the patch size (96; 98 for patches of 14).
        num_global_crops: global crops of each picture, at most 10; paper 1. Of two or more, crops in turn get BYOL's
            two kinds of augmentation.
        num_local_crops: local crops of each global crop; paper 4.
        images_per_caption: pictures of a caption that are used; where it has more, others are drawn in every epoch.
            All when left out.
        global_crop_scale: area of a global crop as a fraction of the picture, (least, most).
        local_crop_scale: the same for local crops.
        downsample_probability: chance that a picture is first shrunk and enlarged again (StableRep, paper B.1).
        downsample_sizes: short sides in pixels to shrink to, one is drawn.
        color_jitter: strengths of brightness, contrast, saturation (factors 1 - s ... 1 + s) and hue (turns, ± s).
        color_jitter_probability: chance of colour jitter.
        grayscale_probability: chance of losing all colour.
        blur_sigma: standard deviation of the Gaussian blur in pixels, (least, most); the kernel has 9 taps.
        local_blur_probability: chance of blur of a local crop. A global crop is one of two kinds by a coin: always
            blurred and never solarised, or blurred with probability 0.1 and solarised with 0.2 (reference).
        masked_image_fraction: of the global crops of each caption, chosen at random; rounded down. Paper: half.
        masked_patch_fraction: of the patches of a masked crop, chosen at random; rounded down. Paper: half.
        max_unreadable_share: of the rows that a worker of the data loader has read; where more have corrupt or missing
            pictures (and more than 20), training stops.
    """

    global_crop_size: int = 224
    local_crop_size: int = 96
    num_global_crops: int = 1
    num_local_crops: int = 4
    images_per_caption: int | None = None
    global_crop_scale: list[float] = field(default_factory=lambda: [0.32, 1.0])
    local_crop_scale: list[float] = field(default_factory=lambda: [0.08, 0.32])
    downsample_probability: float = 0.05
    downsample_sizes: list[int] = field(default_factory=lambda: [64, 128])
    color_jitter: list[float] = field(default_factory=lambda: [0.4, 0.4, 0.2, 0.1])
    color_jitter_probability: float = 0.8
    grayscale_probability: float = 0.2
    blur_sigma: list[float] = field(default_factory=lambda: [0.1, 2.0])
    local_blur_probability: float = 0.5
    masked_image_fraction: float = 0.5
    masked_patch_fraction: float = 0.5
    max_unreadable_share: float = 0.05

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        for name in ("global_crop_scale", "local_crop_scale"):
            scale = getattr(self, name)
            if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
                raise UserInputError(f"{name} {scale}: allowed: 0 < least <= most <= 1; type {name}: [0.32, 1.0]")
        for name in (f for f in self.__dataclass_fields__ if f.endswith(("probability", "fraction", "share"))):
            if not 0 <= getattr(self, name) <= 1:
                raise UserInputError(f"{name} {getattr(self, name)}: allowed: 0 to 1; type {name}: 0.5")
        if len(self.color_jitter) != 4 or not self.downsample_sizes or len(self.blur_sigma) != 2:
            raise UserInputError(
                f"color_jitter {self.color_jitter}, downsample_sizes {self.downsample_sizes}, blur_sigma "
                f"{self.blur_sigma}: allowed: four numbers, one size or more, two numbers; "
                "type color_jitter: [0.4, 0.4, 0.2, 0.1]"
            )
        if self.num_local_crops < 0:
            raise UserInputError(
                f"num_local_crops {self.num_local_crops}: allowed: 0 or more; type num_local_crops: 4"
            )
        check_integer("num_global_crops:", self.num_global_crops, minimum=1, maximum=MAX_GLOBAL_CROPS, example=2)
        if self.images_per_caption is not None:
            check_integer("images_per_caption:", self.images_per_caption, minimum=1, example=4)

    def check_patch_size(self, patch_size: int) -> None:
        """Refuse crop sizes that `patch_size` does not divide.

        Raises:
            UserInputError: names the size and the nearest allowed ones.
        """
        for name in ("global_crop_size", "local_crop_size")[: 1 + bool(self.num_local_crops)]:
            size = getattr(self, name)
            if size < patch_size or size % patch_size:
                below = max(size // patch_size, 1) * patch_size
                raise UserInputError(
                    f"{name} {size} is not divisible by patch_size {patch_size}; allowed: multiples of {patch_size}; "
                    f"type {name}: {below} or {below + patch_size}"
                )
