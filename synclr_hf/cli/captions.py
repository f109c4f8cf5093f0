"""`synclr captions`: write captions for a list of concepts."""

from __future__ import annotations

from collections.abc import Sequence

from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.cli.options import stage_options


def main(arguments: Sequence[str]) -> None:
    """Parse the options of the stage and run it."""
    config, options = stage_options(CaptionsConfig, "captions", arguments)
    print(f"captions: {write_captions(config, workers=options.workers)}")
