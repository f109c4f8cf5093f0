"""`synclr captions`: write captions for a list of concepts."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import HfArgumentParser

from synclr_hf.captions.stage import CaptionsConfig, write_captions


def main(arguments: Sequence[str]) -> None:
    """Parse the options of the stage and run it."""
    (config,) = HfArgumentParser(CaptionsConfig, prog="synclr captions").parse_args_into_dataclasses(arguments)
    print(f"captions: {write_captions(config)}")
