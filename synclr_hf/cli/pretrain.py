"""`synclr pretrain`: train an encoder on an images set; under `accelerate launch` on many processes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from synclr_hf.cli.recipe import Recipe, load_recipe
from synclr_hf.data.settings import settings_from
from synclr_hf.training.stage import PretrainingConfig, pretrain


def pretraining_config(
    recipe: Recipe, *, images: str | None = None, output_dir: str | None = None
) -> PretrainingConfig:
    """Make the configuration of the stage from a recipe; its folders lie in the recipe's `output_dir`."""
    root = Path(recipe.output_dir)
    folders = {"images": images or str(root / "images"), "output_dir": output_dir or str(root / "pretraining")}
    return settings_from(PretrainingConfig, {**recipe.pretraining, "seed": recipe.seed, **folders}, "pretraining")


def tell_once(line: str) -> None:
    """Print a line on the first of the processes that a launcher started."""
    from accelerate import PartialState

    if PartialState().is_main_process:
        print(line, flush=True)


def main(arguments: Sequence[str]) -> None:
    """Parse the options of the stage and run it."""
    parser = argparse.ArgumentParser(prog="synclr pretrain", description=__doc__)
    parser.add_argument(
        "--config", default="toyworld", help="a recipe: YAML file or packaged name (default: toyworld)"
    )
    parser.add_argument("--images", help="folder or Hub id of the images set (default: images of the recipe's folder)")
    parser.add_argument("--output-dir", help="folder to write (default: pretraining in the recipe's folder)")
    parser.add_argument("--seed", type=int, help="seed of the run (default: the recipe's)")
    parser.add_argument("overrides", nargs="*", metavar="section.entry=value", help="entries of the recipe to change")
    options = parser.parse_intermixed_args(arguments)
    recipe = load_recipe(options.config, options.overrides)
    if options.seed is not None:
        recipe = replace(recipe, seed=options.seed)
    folder = pretrain(pretraining_config(recipe, images=options.images, output_dir=options.output_dir))
    tell_once(f"pretraining: {folder}")
