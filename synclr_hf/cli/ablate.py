"""`synclr ablate`: train the rows of the paper's Tables 4 and 5 on one images set and compare them.

Started again, it goes on where it was; rows and seeds that are finished are not trained again.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    from synclr_hf.evaluation.labelled_images import LabelledImages
    from synclr_hf.training.ablation import AblationRow

UNTRAINED = "untrained"
RESULTS_JSON, RESULTS_TEXT = "ablation.json", "ablation.md"


@dataclass(frozen=True)
class Ablation:
    """What is compared, and on what.

    Attributes:
        recipe: the recipe of the whole loss.
        images: folder or Hub id of the images set.
        sides: train and test side of the labelled pictures.
        seeds: seeds of the trainings; the data stay those of the recipe.
        equal: `compute` (each row as many steps as cost what the whole loss costs) or `steps`.
    """

    recipe: Recipe
    images: str
    sides: tuple[LabelledImages, LabelledImages]
    seeds: Sequence[int]
    equal: str

    @property
    def folder(self) -> Path:
        """Folder of everything that is made."""
        return Path(self.recipe.output_dir)


def run_ablation(ablation: Ablation, names: Sequence[str] = ()) -> str:
    """Train and evaluate the rows, all of the first seed first, and return the tables as Markdown.

    Args:
        ablation: what is compared.
        names: rows to train; all of them when empty.

    Raises:
        UserInputError: no such row, or a recipe, images set or folder that cannot be used.
    """
    from accelerate import PartialState

    rows = _rows(ablation, names)
    scores: dict[str, dict[int, dict[str, float]]] = {UNTRAINED: {}, **{row.name: {} for row in rows}}
    for seed in ablation.seeds:
        scores[UNTRAINED][seed] = _scores(ablation, rows[-1], seed, trained=False)
        for row in rows:
            scores[row.name][seed] = _scores(ablation, row, seed)
            with PartialState().main_process_first():
                if PartialState().is_main_process:
                    _write_results(ablation, rows, scores)
    return (ablation.folder / RESULTS_TEXT).read_text()


def _rows(ablation: Ablation, names: Sequence[str]) -> list[AblationRow]:
    """Return the rows with the steps that they are given."""
    from synclr_hf.data.reading import read_images
    from synclr_hf.training.ablation import FULL_ROW, ablation_rows, flops_per_crop, with_steps

    rows = ablation_rows(ablation.recipe.pretraining, len(read_images(ablation.images)[0]["images"]))
    for name in names:
        if name not in [row.name for row in rows]:
            raise unknown_name("row", name, [row.name for row in rows], "--rows all")
    chosen = [row for row in rows if not names or row.name in names]
    if ablation.equal == "steps":
        return chosen
    (full,) = (row for row in rows if row.name == FULL_ROW)
    budget = flops_per_crop(_config(ablation, full, 0))
    factors = [budget / flops_per_crop(_config(ablation, row, 0)) for row in chosen]
    return [replace(row, section=with_steps(row.section, factor)) for row, factor in zip(chosen, factors, strict=True)]


def _config(ablation: Ablation, row: AblationRow, seed: int) -> Any:
    recipe = replace(ablation.recipe, pretraining=row.section, seed=seed)
    return pretraining_config(recipe, images=ablation.images, output_dir=str(_folder(ablation, row, seed)))


def _folder(ablation: Ablation, row: AblationRow, seed: int) -> Path:
    words = re.findall(r"[A-Za-z-]+", row.name)
    return ablation.folder / "runs" / "-".join(words).lower() / f"seed-{seed}"


def _scores(ablation: Ablation, row: AblationRow, seed: int, *, trained: bool = True) -> dict[str, float]:
    """Train one row, unless that is done, and evaluate its encoder, or the encoder that it starts from."""
    from accelerate import PartialState

    from synclr_hf.evaluation.stage import encoder_accuracies
    from synclr_hf.training import SynCLRForPreTraining
    from synclr_hf.training.stage import initial_model, pretrain

    config, name = _config(ablation, row, seed), row.name if trained else UNTRAINED
    folder = _folder(ablation, row, seed) if trained else ablation.folder / "runs" / UNTRAINED / f"seed-{seed}"
    kept = folder.with_name(f"{folder.name}.json")
    if trained:
        sys.stderr.write(f"== {name}, seed {seed}\n")
        pretrain(config)
    with PartialState().main_process_first():
        if not kept.is_file():
            encoder = (SynCLRForPreTraining.from_pretrained(folder) if trained else initial_model(config)).synclr
            told = {"seed": ablation.recipe.seed, "name": f"{name}, seed {seed}"}
            scores = encoder_accuracies(encoder, *ablation.sides, **told)
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_text(kept, json.dumps(scores) + "\n")
    return json.loads(kept.read_text())


def _write_results(ablation: Ablation, rows: Sequence[AblationRow], scores: dict[str, Any]) -> None:
    from synclr_hf.report.ablation import ablation_text

    measured = {name: runs for name, runs in scores.items() if runs}
    steps = {row.name: row.section["training_arguments"]["max_steps"] for row in rows}
    test = ablation.sides[1]
    facts = {"equal": ablation.equal, "test_pictures": len(test), "chance": 1 / len(test.label_names)}
    write_text(ablation.folder / RESULTS_TEXT, ablation_text(measured, steps, **facts))
    told = {**facts, "seeds": list(ablation.seeds), "steps": steps, "scores": measured}
    write_text(ablation.folder / RESULTS_JSON, json.dumps(told, indent=1) + "\n")


def prepare(recipe: Recipe, images: str | None, eval_dataset: str | None) -> tuple[str, tuple[Any, Any]]:
    """Return the images set and the labelled pictures: those named, or else the ones that the recipe makes."""
    from accelerate import PartialState

    from synclr_hf.evaluation.data import labelled_splits

    if images is not None and eval_dataset is None:
        raise UserInputError("--images names the training pictures; type --eval-dataset for the labelled ones as well")
    street = Street.from_recipe(recipe)
    with PartialState().main_process_first():
        if images is None:
            write_captions(street.captions)
            images = str(write_images(street.images))
        if eval_dataset is None:
            write_captions(street.held_out_captions)
            eval_dataset = str(write_images(street.held_out_images))
    return images, labelled_splits(eval_dataset, seed=seed_for(recipe.seed, "ablation"))


def _seeds(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise UserInputError(f"--seeds {text}; allowed: different whole numbers with commas; type --seeds 0,1,2")
    return [int(word) for word in words]


def main(arguments: Sequence[str]) -> None:
    """Parse the options, train what is missing and print the tables."""
    parser = argparse.ArgumentParser(prog="synclr ablate", description=__doc__)
    parser.add_argument("recipe", help="a recipe with the whole loss: YAML file or packaged name")
    parser.add_argument("--output-dir", help="folder of everything that is made (default: the recipe's)")
    parser.add_argument("--seeds", default="0,1,2", help="seeds of the trainings, with commas (default: 0,1,2)")
    parser.add_argument("--rows", default="", metavar="ROWS", help="some of the rows, with commas (default: all)")
    parser.add_argument(
        "--equal", choices=("compute", "steps"), default="compute", help="what all rows have in common"
    )
    parser.add_argument("--images", help="folder or Hub id of an images set (default: the recipe makes one)")
    parser.add_argument("--eval-dataset", help="labelled pictures: folder or Hub id (default: held-out pictures)")
    parser.add_argument("overrides", nargs="*", metavar="section.entry=value", help="entries of the recipe to change")
    options = parser.parse_intermixed_args(arguments)
    recipe = load_recipe(options.recipe, options.overrides)
    recipe = replace(recipe, output_dir=options.output_dir or recipe.output_dir)
    seeds, rows = _seeds(options.seeds), [name.strip() for name in options.rows.split(",") if name.strip()]
    images, sides = prepare(recipe, options.images, options.eval_dataset)
    text = run_ablation(Ablation(recipe, images, sides, seeds, options.equal), rows)
    tell_once(f"{text}ablation: {Path(recipe.output_dir) / RESULTS_JSON}")
