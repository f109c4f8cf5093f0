"""`synclr images`: draw several pictures of every caption, or those of one row again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from synclr_hf.cli.options import run_stage, stage_options
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.regenerate import regenerate
from synclr_hf.images.stage import write_images

REGENERATE = "--regenerate"
_EPILOG = (
    f"synclr images {REGENERATE} ROW draws the pictures of a row again and compares; synclr images {REGENERATE} -h"
)


def main(arguments: Sequence[str]) -> None:
    """Parse the options of the stage and run it."""
    if any(argument.partition("=")[0] == REGENERATE for argument in arguments):
        _regenerate(arguments)
        return
    options = stage_options(ImagesConfig, "images", arguments, epilog=_EPILOG, executors=True)
    run_stage(options, "images", write_images)


def _regenerate(arguments: Sequence[str]) -> None:
    """Exit with status 1 if the pictures are not the same."""
    parser = argparse.ArgumentParser(
        prog="synclr images",
        description="Make the pictures of a row again, from what the row says of them, and compare them with those "
        "that it holds. regenerated-ROW.png in the current folder shows both, the new ones below. The exit status is "
        "0 if they are the same, and 1 if they are not.",
    )
    parser.add_argument(
        REGENERATE, metavar="ROW", type=int, required=True, help="number of the row in the set, from 0"
    )
    parser.add_argument(
        "--output-dir",
        "--images",
        metavar="SET",
        dest="images",
        default="outputs/images",
        help="the set: a folder that synclr images wrote, or ORG/NAME on the Hub (default: outputs/images)",
    )
    asks_for_help = {"-h", "--help"} & set(arguments)
    options = parser.parse_args(["--help"] if asks_for_help else arguments)
    made = regenerate(options.images, options.regenerate)
    sheet = f"regenerated-{options.regenerate}.png"
    made.sheet().save(sheet)
    print(f"{made.told()}\nstored above new: {sheet}")
    if not made.is_same:
        sys.exit(1)
