"""`synclr captions`: write captions for a list of concepts."""

from __future__ import annotations

from collections.abc import Sequence

from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.cli.options import run_stage, stage_options


def main(arguments: Sequence[str]) -> None:
    """Parse the options of the stage and run it."""
    run_stage(stage_options(CaptionsConfig, "captions", arguments), "captions", write_captions)
