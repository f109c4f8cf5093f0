"""`synclr images`: draw several pictures of every caption."""

from __future__ import annotations

from collections.abc import Sequence

from synclr_hf.cli.options import stage_options
from synclr_hf.images.stage import ImagesConfig, write_images


def main(arguments: Sequence[str]) -> None:
    """Parse the options of the stage and run it."""
    config, options = stage_options(ImagesConfig, "images", arguments)
    print(f"images: {write_images(config, workers=options.workers)}")
