"""`synclr continue`: go on training from saved weights on a dataset of images, with a schedule of its own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from synclr_hf.cli.pretrain import pretraining_config, tell_once
from synclr_hf.cli.recipe import Recipe, load_recipe
from synclr_hf.training.continuation import TEMPERATURE_WARMUP
from synclr_hf.training.stage import PretrainingConfig, pretrain


def continuation_config(options: argparse.Namespace) -> PretrainingConfig:
    """Make the configuration of `synclr pretrain` that goes on from the weights of `--from`."""
    recipe = load_recipe(options.config, options.overrides)
    entries = {**recipe.pretraining, "initial_weights": options.source}
    if not any(override.startswith("pretraining.objectives") for override in options.overrides):
        entries |= _without_warmup(recipe)
    lora = {} if entries.get("lora") is None else entries["lora"]
    if options.lora_rank is not None and isinstance(lora, dict):  # anything else is refused by the stage
        entries["lora"] = {**lora, "rank": options.lora_rank}
    seed = recipe.seed if options.seed is None else options.seed
    recipe = replace(recipe, seed=seed, pretraining=entries)
    return pretraining_config(recipe, images=options.dataset, output_dir=options.output_dir)


def _without_warmup(recipe: Recipe) -> dict[str, list]:
    """Leave the temperature's warm-up out of a recipe's objectives: it is written for prototypes that know nothing."""
    objectives = recipe.pretraining.get("objectives")
    if not isinstance(objectives, list) or not all(isinstance(settings, dict) for settings in objectives):
        return {}  # nothing is given, or the stage refuses it
    return {
        "objectives": [
            {name: value for name, value in settings.items() if name != TEMPERATURE_WARMUP} for settings in objectives
        ]
    }


def main(arguments: Sequence[str]) -> None:
    """Parse the options of the stage and run it."""
    parser = argparse.ArgumentParser(
        prog="synclr continue",
        description=__doc__,
        epilog="Without --config, crops, batch and decays are those of the first training as far as they are known, "
        "and the learning rate is a tenth of its highest one (all of it for adapters, and where the weights were "
        "continued before); see synclr_hf.training.continuation.",
    )
    parser.add_argument(
        "--from", dest="source", required=True, help="folder or Hub id of a pre-training model with heads and teacher"
    )
    parser.add_argument("--dataset", required=True, help="folder or Hub id of the images set")
    parser.add_argument("--output-dir", required=True, help="folder to write")
    parser.add_argument("--seed", type=int, help="of order, views and adapters (default: the recipe's, or 0)")
    parser.add_argument("--config", help="a recipe whose `pretraining` section changes the settings (default: none)")
    parser.add_argument("--lora-rank", type=int, help="train adapters of this rank instead of the encoder's weights")
    parser.add_argument(
        "overrides", nargs="*", metavar="section.entry=value", help="e.g. pretraining.training_arguments.max_steps=500"
    )
    config = continuation_config(parser.parse_intermixed_args(arguments))
    views, training = config.views_config(), config.trainer_arguments()
    rate = "by the rule" if training.learning_rate is None else f"{training.learning_rate:g}"
    tell_once(
        f"continuing {config.initial_weights}: learning rate {rate}, EMA decay from "
        f"{training.ema_decay:g}, crops of {views.global_crop_size} and {views.local_crop_size} px"
    )
    tell_once(f"pretraining: {pretrain(config)}")
