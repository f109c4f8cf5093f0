"""`synclr images`: draw several pictures of every caption."""

from __future__ import annotations

from collections.abc import Sequence

from synclr_hf.cli.options import run_stage, stage_options
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.stage import write_images


def main(arguments: Sequence[str]) -> None:
    """Parse the options of the stage and run it."""
    run_stage(stage_options(ImagesConfig, "images", arguments, executors=True), "images", write_images)
