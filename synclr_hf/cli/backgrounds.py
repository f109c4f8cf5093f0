"""`synclr backgrounds`: ask a language model where each concept is plausibly seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from synclr_hf.captions.background_lists import BackgroundsConfig, concepts_without_places, write_backgrounds
from synclr_hf.cli.options import run_stage, stage_options

_NAMED = 20


def main(arguments: Sequence[str]) -> None:
    """Parse the options of the stage, run it, and name the concepts that it found nothing for."""
    options = stage_options(BackgroundsConfig, "backgrounds", arguments)
    run_stage(options, "backgrounds", write_backgrounds)
    if names := concepts_without_places(Path(options.config.output_dir).expanduser()):
        more = f", and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        print(f"concepts without a usable place ({len(names):,}): {', '.join(names[:_NAMED])}{more}")
