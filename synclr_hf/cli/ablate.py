"""`synclr ablate`: train the rows of the paper's Tables 4 and 5 on one images set and compare them.

Started again, it goes on where it was; rows and seeds that are finished are not trained again.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synclr_hf.captions.stage import write_captions
from synclr_hf.cli.pretrain import pretraining_config, tell_once
from synclr_hf.cli.recipe import Recipe, load_recipe
from synclr_hf.cli.run import Street
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.shards import write_text
from synclr_hf.errors import UserInputError, unknown_name
from synclr_hf.images.stage import write_images

if TYPE_CHECKING:
    from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
    from synclr_hf.training.ablation import AblationRow
    from synclr_hf.training.stage import PretrainingConfig

UNTRAINED = "untrained"
RESULTS_JSON, RESULTS_TEXT = "ablation.json", "ablation.md"


@dataclass(frozen=True)
class Ablation:
    """What is compared, and on what.

    Attributes:
        folder: where everything goes.
        rows: what is trained, with the steps of each.
        sides: train and test side of the labelled pictures.
        seeds: seeds of the trainings; the data stay the same.
        equal: `compute` (each row as many steps as cost what the whole loss costs) or `steps`.
        evaluation_seed: seed of the linear probe.
    """

    folder: Path
    rows: Sequence[AblationRow]
    sides: tuple[LabelledImages, LabelledImages]
    seeds: Sequence[int]
    equal: str
    evaluation_seed: int


def run_ablation(ablation: Ablation) -> str:
    """Train and evaluate the rows, all of the first seed first, and return the tables as Markdown.

    Under a launcher all processes train, and the first one evaluates while the others wait.
    """
    from accelerate import PartialState

    scores: dict[str, dict[int, dict[str, float]]] = {UNTRAINED: {}, **{row.name: {} for row in ablation.rows}}
    for seed in ablation.seeds:
        scores[UNTRAINED][seed] = _scores(ablation, ablation.rows[-1], seed, trained=False)
        for row in ablation.rows:
            scores[row.name][seed] = _scores(ablation, row, seed)
            if PartialState().is_main_process:
                _write_results(ablation, scores)
            PartialState().wait_for_everyone()
    return (ablation.folder / RESULTS_TEXT).read_text()


def _scores(ablation: Ablation, row: AblationRow, seed: int, *, trained: bool = True) -> dict[str, float]:
    """Train one row, unless that is done, and evaluate its encoder, or the encoder that it starts from."""
    from accelerate import PartialState

    from synclr_hf.training.stage import pretrain

    name = row.name if trained else UNTRAINED
    folder = ablation.folder / "runs" / "-".join(re.findall(r"[A-Za-z-]+", name)).lower() / f"seed-{seed}"
    config = replace(row.config, output_dir=str(folder), seed=seed)
    if trained:
        if PartialState().is_main_process:
            sys.stderr.write(f"== {name}, seed {seed}\n")
        pretrain(config)
    kept, told = folder.with_name(f"{folder.name}.json"), _fingerprint(ablation, config)
    with PartialState().main_process_first():
        if not kept.is_file() or json.loads(kept.read_text()).get("fingerprint") != told:
            scores = _evaluated(ablation, config, trained=trained, name=f"{name}, seed {seed}")
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_text(kept, json.dumps({"scores": scores, "fingerprint": told}) + "\n")
    return json.loads(kept.read_text())["scores"]


def _fingerprint(ablation: Ablation, config: PretrainingConfig) -> str:
    """Return a checksum of what an evaluation depends on: the training, the labelled pictures, the seed."""
    settings = {name: value for name, value in asdict(config).items() if name not in ("output_dir", "images")}
    facts = [settings, [side.fingerprint for side in ablation.sides], ablation.evaluation_seed]
    return blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _evaluated(ablation: Ablation, config: PretrainingConfig, *, trained: bool, name: str) -> dict[str, float]:
    from synclr_hf.evaluation.side_by_side import encoder_accuracies
    from synclr_hf.training import SynCLRForPreTraining
    from synclr_hf.training.stage import random_model

    model = SynCLRForPreTraining.from_pretrained(config.output_dir) if trained else random_model(config)
    return encoder_accuracies(model.synclr, *ablation.sides, seed=ablation.evaluation_seed, name=name)


def _write_results(ablation: Ablation, scores: dict[str, Any]) -> None:
    from synclr_hf.report.ablation import ablation_text

    measured = {name: runs for name, runs in scores.items() if runs}
    steps = {row.name: row.config.trainer_arguments().max_steps for row in ablation.rows}
    test = ablation.sides[1]
    facts = {"equal": ablation.equal, "test_pictures": len(test), "chance": 1 / len(test.label_names)}
    write_text(ablation.folder / RESULTS_TEXT, ablation_text(measured, steps, **facts))
    told = {**facts, "seeds": list(ablation.seeds), "steps": steps, "scores": measured}
    write_text(ablation.folder / RESULTS_JSON, json.dumps(told, indent=1) + "\n")


def planned_rows(recipe: Recipe, street: Street, images: str | None, names: Sequence[str]) -> list[AblationRow]:
    """Make the rows before anything is drawn or trained.

    Args:
        recipe: the recipe of the whole loss.
        street: its stages.
        images: folder or Hub id of an images set; `None`: the one that the recipe makes.
        names: rows to train; all of them when empty.

    Raises:
        UserInputError: no such row, or the recipe or the images set cannot be used.
    """
    from synclr_hf.training.ablation import ROWS, ablation_rows
    from synclr_hf.training.stage import read_rows

    for name in names:
        if name not in ROWS:
            raise unknown_name("row", name, ROWS, f'--rows "{ROWS[1]},{ROWS[-1]}", or leave it out for all of them')
    config = pretraining_config(recipe, images=images)
    each = street.images.images_per_caption if images is None else len(read_rows(config)[1][0]["images"])
    return [row for row in ablation_rows(config, each) if not names or row.name in names]


def at_equal_compute(rows: Sequence[AblationRow], whole: PretrainingConfig) -> list[AblationRow]:
    """Give every row as many steps as cost what the whole loss costs."""
    from synclr_hf.training.ablation import flops_per_crop, with_steps

    budget = flops_per_crop(whole)
    return [replace(row, config=with_steps(row.config, budget / flops_per_crop(row.config))) for row in rows]


def labelled_pictures(
    recipe: Recipe, street: Street, images: str | None, eval_dataset: str | None
) -> tuple[LabelledImages, LabelledImages]:
    """Draw what is not named, the first process alone, and return train and test side of the labelled pictures."""
    from accelerate import PartialState

    from synclr_hf.evaluation.labelled.data import labelled_splits

    with PartialState().main_process_first():
        if images is None:
            write_captions(street.captions)
            write_images(street.images)
        if eval_dataset is None:
            write_captions(street.held_out_captions)
            eval_dataset = str(write_images(street.held_out_images))
    return labelled_splits(eval_dataset, seed=seed_for(recipe.seed, "ablation"))


def _seeds(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    good = all(word.isdecimal() and int(word) < 2**32 for word in words)
    if not good or len({int(word) for word in words}) < len(words):
        raise UserInputError(f"--seeds {text}; allowed: different whole numbers with commas; type --seeds 0,1,2")
    return [int(word) for word in words]


def main(arguments: Sequence[str]) -> None:
    """Parse the options, train what is missing and print the tables."""
    parser = argparse.ArgumentParser(prog="synclr ablate", description=__doc__)
    parser.add_argument("recipe", help="a recipe with the whole loss: YAML file or packaged name")
    parser.add_argument("--output-dir", help="folder of everything that is made (default: the recipe's)")
    parser.add_argument("--seeds", default="0,1,2", help="seeds of the trainings, with commas (default: 0,1,2)")
    some = 'some of the rows, with commas, e.g. "+EMA,SimCLR" (default: every row)'
    parser.add_argument("--rows", default="", metavar="ROWS", help=some)
    parser.add_argument(
        "--equal", choices=("compute", "steps"), default="compute", help="what all rows have in common"
    )
    parser.add_argument("--images", help="folder or Hub id of an images set (default: the recipe makes one)")
    labelled = "labelled pictures: folder or Hub id (default: held-out pictures; needed with --images)"
    parser.add_argument("--eval-dataset", help=labelled)
    parser.add_argument("overrides", nargs="*", metavar="section.entry=value", help="entries of the recipe to change")
    options = parser.parse_intermixed_args(arguments)
    seeds, names = _seeds(options.seeds), [name.strip() for name in options.rows.split(",") if name.strip()]
    recipe = load_recipe(options.recipe, options.overrides)
    recipe = replace(recipe, output_dir=options.output_dir or recipe.output_dir)
    if options.images is not None and options.eval_dataset is None:
        raise UserInputError("--images names the training pictures; type --eval-dataset for the labelled ones as well")
    street = Street.from_recipe(recipe)
    rows = planned_rows(recipe, street, options.images, names)
    if options.equal == "compute":
        rows = at_equal_compute(rows, pretraining_config(recipe))
    sides = labelled_pictures(recipe, street, options.images, options.eval_dataset)
    folder = Path(recipe.output_dir)
    text = run_ablation(Ablation(folder, rows, sides, seeds, options.equal, recipe.seed))
    tell_once(f"{text}ablation: {folder / RESULTS_JSON}")
