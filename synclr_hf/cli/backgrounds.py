"""`synclr backgrounds`: ask a language model where each concept is plausibly seen."""

from __future__ import annotations

from collections.abc import Sequence

from synclr_hf.captions.background_lists import BackgroundsConfig, write_backgrounds
from synclr_hf.cli.options import run_stage, stage_options


def main(arguments: Sequence[str]) -> None:
    """Parse the options of the stage and run it."""
    options = stage_options(BackgroundsConfig, "backgrounds", arguments, executors=True)
    run_stage(options, "backgrounds", write_backgrounds)
