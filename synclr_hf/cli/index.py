"""`synclr index`: pictures with what encoders see in them, ready to be searched."""

from __future__ import annotations

from collections.abc import Sequence

from synclr_hf.cli.options import run_stage, stage_options
from synclr_hf.explorer.index.stage import IndexConfig, build_index

EPILOG = "Look at it with synclr demo MODEL --index OUTPUT_DIR."


def main(arguments: Sequence[str]) -> None:
    """Parse the options of the stage and run it."""
    options = stage_options(IndexConfig, "index", models_together(arguments), epilog=EPILOG)
    run_stage(options, "index", build_index)


def models_together(arguments: Sequence[str]) -> list[str]:
    """Put the values of several `--model` behind one: argparse would take the last one only."""
    others: list[str] = []
    models: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word == "--model":
            while left and not left[0].startswith("--"):
                models.append(left.pop(0))
        elif word.startswith("--model="):
            models.append(word.partition("=")[2])
        else:
            others.append(word)
    return [*others, "--model", *models] if models else others
