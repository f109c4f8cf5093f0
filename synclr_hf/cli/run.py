"""`synclr run`: a whole recipe, stage by stage; started again, it goes on where it was."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.cli.clock import RunClock
from synclr_hf.cli.machine import machine
from synclr_hf.cli.recipe import SET_BY_THE_RUN, Recipe, load_recipe, packaged_recipes
from synclr_hf.data.checks import check_integer
from synclr_hf.data.progress import Progress
from synclr_hf.data.reading import read_images
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.settings import settings_from
from synclr_hf.errors import UserInputError
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.stage import write_images

CLOCK_FILE = "measurements.json"
HELD_OUT_WORDS = (
    "Pictures that training never saw, with a seed of their own for captions and pictures; the label is the concept. "
    "A short caption may occur in training as well, with other pictures."
)
PACKAGES = ("synclr-hf", "torch", "transformers", "datasets", "accelerate", "huggingface-hub")


@dataclass
class EvaluationPlan:
    """Entries of the section `evaluation` of a recipe.

    Args:
        held_out_captions: captions of the held-out pictures, drawn with a seed of their own.
        held_out_images_per_caption: pictures of each of them.
        datasets: more labelled image data sets: folders or Hub ids.
    """

    held_out_captions: int = 600
    held_out_images_per_caption: int = 2
    datasets: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse what the stages could not name better."""
        if not isinstance(self.datasets, list) or not all(isinstance(name, str) for name in self.datasets):
            raise UserInputError(
                f"datasets {self.datasets!r}; allowed: a list of names; type datasets: [path/or/hub-id]"
            )
        check_integer("held_out_captions:", self.held_out_captions, minimum=3, example=600)
        check_integer("held_out_images_per_caption:", self.held_out_images_per_caption, minimum=2, example=2)


@dataclass
class Street:
    """The configurations of all stages, made and checked before the first one starts."""

    captions: CaptionsConfig
    images: ImagesConfig
    held_out_captions: CaptionsConfig
    held_out_images: ImagesConfig
    pretraining: Any
    evaluation: EvaluationPlan
    index: Any
    publish: Any

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> Street:
        """Make them; the held-out pictures differ from the training pictures in their seed and their number only."""
        from synclr_hf.cli.pretrain import pretraining_config
        from synclr_hf.explorer.config import run_index_config
        from synclr_hf.hub.publication import PublishConfig

        root = Path(recipe.output_dir)
        plan = settings_from(EvaluationPlan, recipe.evaluation, "evaluation")

        def captions(folder: Path, seed: int, **changes: Any) -> CaptionsConfig:
            entries = {**recipe.captions, "seed": seed, "output_dir": str(folder / "captions"), **changes}
            return settings_from(CaptionsConfig, entries, "captions")

        def images(folder: Path, seed: int, **changes: Any) -> ImagesConfig:
            folders = {"captions": str(folder / "captions"), "output_dir": str(folder / "images")}
            return settings_from(ImagesConfig, {**recipe.images, "seed": seed, **folders, **changes}, "images")

        held_out, held_out_seed = root / "held_out", seed_for(recipe.seed, "held out")
        return cls(
            captions=captions(root, recipe.seed),
            images=images(root, recipe.seed),
            held_out_captions=captions(held_out, held_out_seed, num_captions=plan.held_out_captions),
            held_out_images=images(held_out, held_out_seed, images_per_caption=plan.held_out_images_per_caption),
            pretraining=pretraining_config(recipe),
            evaluation=plan,
            index=None if recipe.index is None else run_index_config(root, recipe.index),
            publish=settings_from(PublishConfig, recipe.publish, "publish") if recipe.publish else None,
        )

    def settings(self) -> dict[str, Any]:
        """Return the settings of every stage, defaults included; seeds and folders follow from those of the run."""
        sections = {"captions": self.captions, "images": self.images, "pretraining": self.pretraining}
        told = {
            section: {
                name: value for name, value in asdict(config).items() if name not in SET_BY_THE_RUN.get(section, {})
            }
            for section, config in {**sections, "evaluation": self.evaluation}.items()
        }
        told["pretraining"]["views"] = asdict(self.pretraining.views_config())
        return told


def run(recipe: Recipe) -> Path:
    """Run every stage of a recipe and return the path of the report.

    Raises:
        UserInputError: an entry, a folder or a data set cannot be used; nothing that was finished is lost.
    """
    with Progress("loading torch and transformers"):
        from synclr_hf.cli.publish import publish_run
        from synclr_hf.evaluation import side_by_side
        from synclr_hf.evaluation.labelled.data import labelled_splits
        from synclr_hf.explorer.index.stage import build_index
        from synclr_hf.hub import export_encoder
        from synclr_hf.report.stage import build_report
        from synclr_hf.training.stage import HISTORY_FILE, pretrain, run_encoders

        street = Street.from_recipe(recipe)
        other_sides = {path: labelled_splits(path, seed=recipe.seed) for path in street.evaluation.datasets}
        probe_pictures = street.pretraining.probe_pictures()
    root = Path(recipe.output_dir)
    told = json.dumps([recipe.seed, street.settings()], sort_keys=True)
    clock = RunClock(root / CLOCK_FILE, blake2b(told.encode(), digest_size=8).hexdigest())
    features = root / "features"
    with clock.stage("captions"):
        write_captions(street.captions)
    with clock.stage("images"):
        write_images(street.images)
    with clock.stage("held-out pictures"):
        write_captions(street.held_out_captions)
        write_images(street.held_out_images)
        sides = labelled_splits(street.held_out_images.output_dir, seed=recipe.seed)
    with clock.stage("pretraining"):
        # The test side of the held-out pictures is left for the evaluation: the probe may choose a checkpoint.
        trained = pretrain(street.pretraining, probe_pictures=probe_pictures or sides[0])
    with clock.stage("evaluation"):
        encoders = run_encoders(street.pretraining)
        config = side_by_side.EvaluationConfig(cache_dir=str(features))
        evaluation, *others = (
            side_by_side.evaluate_encoders(encoders, *pair, seed=recipe.seed, config=config, name=name)
            for name, pair in {"held-out pictures": sides, **other_sides}.items()
        )
        evaluation["description"] = HELD_OUT_WORDS
    with clock.stage("report"):
        facts = {
            "evaluation": evaluation,
            "other_evaluations": dict(zip(other_sides, others, strict=True)),
            "seconds": {name: seconds for name, seconds in clock.seconds.items() if name != "report"},
            "peak_memory_gib": clock.peak_memory_gib,
            "config": {"output_dir": recipe.output_dir, "seed": recipe.seed, **street.settings()},
            "seed": recipe.seed,
            "machine": machine(),
            "versions": {name: version(name) for name in PACKAGES},
        }
        export_encoder(trained, root / "encoder", facts=facts)
        report = build_report(
            root,
            facts=facts,
            images=read_images(street.images.output_dir),
            history=json.loads((trained / HISTORY_FILE).read_text()),
            encoders={name: encoders[name] for name in ("trained", "untrained")},
            train=sides[0],
            test=sides[1],
            cache_dir=features,
        )
    if street.index is not None:
        with clock.stage("index"):
            build_index(street.index)
    if street.publish is not None:
        for line in publish_run(root, street.publish):
            print(line)
    return report


def main(arguments: Sequence[str]) -> None:
    """Parse the options and run the recipe."""
    parser = argparse.ArgumentParser(prog="synclr run", description=__doc__)
    names = ", ".join(packaged_recipes())
    parser.add_argument("recipe", help=f"a YAML file, or the name of a packaged recipe: {names}")
    parser.add_argument("--output-dir", help="folder of everything that is made (default: the recipe's)")
    parser.add_argument("--seed", type=int, help="seed of the whole run (default: the recipe's)")
    parser.add_argument(
        "--eval-dataset", action="append", default=[], help="a labelled image data set: folder or Hub id; repeatable"
    )
    parser.add_argument("overrides", nargs="*", metavar="section.entry=value", help="entries of the recipe to change")
    options = parser.parse_intermixed_args(arguments)
    recipe = load_recipe(options.recipe, options.overrides)
    recipe = replace(
        recipe,
        output_dir=options.output_dir or recipe.output_dir,
        seed=recipe.seed if options.seed is None else options.seed,
    )
    if options.eval_dataset:
        named = recipe.evaluation.get("datasets") or []
        if isinstance(named, list):  # anything else is refused where the section is read
            recipe.evaluation = {**recipe.evaluation, "datasets": [*named, *options.eval_dataset]}
    print(f"report: {run(recipe)}")
