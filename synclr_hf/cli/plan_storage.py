"""What captions, pictures and checkpoints of a plan take on disks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synclr_hf.cli.estimates import LONGEST_CAPTION_ROW_BYTES, NATURAL_PICTURE_BYTES, Storage
from synclr_hf.cli.parameters import checkpoint_bytes, entry, section
from synclr_hf.cli.plan_text import data_size
from synclr_hf.cli.recipe import Recipe
from synclr_hf.images.config import ImagesConfig

if TYPE_CHECKING:
    from synclr_hf.cli.probe import Probe

NATURAL_SIZE = 256
"""Side of the pictures that `NATURAL_PICTURE_BYTES` is about."""


def caption_bytes(probe: Probe | None) -> tuple[float, str]:
    """Return the bytes of a row of captions, and where the figure is from."""
    if probe is not None and probe.row_bytes is not None:
        return probe.row_bytes, f"{probe.row_bytes:.0f} bytes a row, measured"
    return LONGEST_CAPTION_ROW_BYTES, f"assumed: at most {LONGEST_CAPTION_ROW_BYTES} bytes a row (77 tokens)"


def picture_bytes(given: float | None, images: ImagesConfig, probe: Probe | None) -> tuple[float, str]:
    """Return the bytes of a stored picture: given, measured or assumed; and where the figure is from."""
    if given is not None:
        return given, f"{given / 1e3:.1f} kB a picture, given"
    if probe is not None and probe.row_bytes is not None:
        size = probe.row_bytes / images.images_per_caption
        toy = " on pictures of the toy world, which are smaller than natural ones"
        return size, f"{size / 1e3:.1f} kB a picture, measured{toy if images.image_generator == 'toy' else ''}"
    size = NATURAL_PICTURE_BYTES * (images.size / NATURAL_SIZE) ** 2
    return size, (
        f"assumed: {size / 1e3:.1f} kB a picture of {images.size} px (natural ones of {NATURAL_SIZE} px as JPEG, "
        f"quality 95: {NATURAL_PICTURE_BYTES / 1e3:.0f} kB)"
    )


def checkpoint_storage(recipe: Recipe) -> Storage:
    """Return what the checkpoints of a recipe take at most."""
    model, checkpoint = checkpoint_bytes(recipe.pretraining)
    kept = int(entry(section(recipe.pretraining, "training_arguments"), "save_total_limit", 2))
    source = f"{kept} kept, one being written, and the model ({data_size(model)} in float32) at the end"
    return Storage("checkpoints", (kept + 1) * checkpoint + model, source)
