"""`synclr backgrounds`: ask a language model where each concept is plausibly seen."""

from __future__ import annotations

from collections.abc import Sequence

from synclr_hf.captions.background_lists import BackgroundsConfig, concepts_without_places, write_backgrounds
from synclr_hf.cli.options import stage_options

_NAMED = 20


def main(arguments: Sequence[str]) -> None:
    """Parse the options of the stage, run it, and name the concepts that it found nothing for."""
    config, options = stage_options(BackgroundsConfig, "backgrounds", arguments)
    folder = write_backgrounds(config, workers=options.workers)
    print(f"backgrounds: {folder}")
    if names := concepts_without_places(folder):
        more = f", and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        print(f"no usable place came back for {len(names):,} concepts: {', '.join(names[:_NAMED])}{more}")
