"""`synclr images`: draw several pictures of every caption."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import HfArgumentParser

from synclr_hf.images.stage import ImagesConfig, write_images


def main(arguments: Sequence[str]) -> None:
    """Parse the options of the stage and run it."""
    (config,) = HfArgumentParser(ImagesConfig, prog="synclr images").parse_args_into_dataclasses(arguments)
    print(f"images: {write_images(config)}")
