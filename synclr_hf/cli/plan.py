"""`synclr plan`: what captions, pictures and pre-training will take, before anything is paid for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synclr_hf.captions.stage import CaptionsConfig
from synclr_hf.cli.estimates import (
    NATURAL_PICTURE_BYTES,
    Files,
    Plan,
    Rate,
    StageWork,
    Storage,
    training_of,
)
from synclr_hf.cli.options import settings_parser
from synclr_hf.cli.plan_communication import communication_of
from synclr_hf.cli.plan_storage import caption_bytes, checkpoint_storage, picture_bytes
from synclr_hf.cli.plan_text import plan_record, plan_text
from synclr_hf.cli.recipe import Recipe, load_recipe
from synclr_hf.data.checks import COUNT, check_integer, check_number
from synclr_hf.data.extension import RunSize
from synclr_hf.data.settings import settings_from
from synclr_hf.data.shards import write_text
from synclr_hf.errors import UserInputError, unknown_name
from synclr_hf.images.config import ImagesConfig
from synclr_hf.training.communication import Cluster

if TYPE_CHECKING:
    from synclr_hf.cli.probe import Probe

DEFAULT_RECIPE = "synclr_vitb16"

PROCESSES = {"synclr_vitb16": 64, "synclr_vitl14": 128} | dict.fromkeys(
    ("ablation_vitb16", "stablerep", "simclr", "supcon"), 16
)
"""Packaged recipe -> processes for which its batch is meant, as its comments say; others are meant for one."""


@dataclass
class PlanConfig:
    """What captions, pictures and pre-training will take: GPU-hours, days, bytes. What is not given is measured here.

    Attributes:
        captions: number of captions; `150M` stands for 150 million. Default: the recipe's.
        images_per_caption: pictures of each. Default: the recipe's, or 4.
        config: recipe, a YAML file or a packaged name, whose models and training are planned. Default: the training of
            `synclr_vitb16`, and no models.
        captions_per_step: captions of an optimizer step over all GPUs. Default: as the recipe is meant.
        language_model: as in `synclr captions`; it is probed unless --captions-per-second is given.
        image_generator: as in `synclr images`; it is probed unless --images-per-second is given.
        guidance_scale: as in `synclr images`.
        num_inference_steps: as in `synclr images`.
        size: side of the stored pictures, in pixels. Default: the recipe's, or 256.
        size_drawn: as in `synclr images`.
        scheduler: as in `synclr images`.
        adapter: as in `synclr images`.
        dtype: precision of language model and image generator. Default: auto.
        batch_size: pictures drawn at once.
        captions_per_second: rate of one GPU, instead of a probe.
        images_per_second: pictures drawn by one GPU a second, instead of a probe.
        train_images_per_second: pictures trained on by one GPU a second, instead of a probe.
        bytes_per_image: of a stored picture. Default: as the probe finds it.
        gpus: numbers of GPUs to tell the time for.
        node_bandwidth: GB/s that a GPU sends to others of its machine (8 GPUs), for the estimate of communication. 400
            is what all-reduces reach over NVLink 4; PCIe 5 gives about 40.
        network_bandwidth: GB/s that a GPU sends to other machines. 50 is a network card of 400 Gbit/s for each GPU.
        price: of a GPU-hour, in any currency.
        probe_seconds: how long each stage is measured.
        json: file to write the plan to, for programs.
    """

    captions: int | None = field(default=None, metadata=COUNT)
    images_per_caption: int | None = None
    config: str | None = None
    captions_per_step: int | None = field(default=None, metadata=COUNT)
    language_model: str | None = None
    image_generator: str | None = None
    guidance_scale: float | None = None
    num_inference_steps: int | None = None
    size: int | None = None
    size_drawn: int | None = None
    scheduler: str | None = None
    adapter: str | None = None
    dtype: str | None = None
    batch_size: int | None = None
    captions_per_second: float | None = None
    images_per_second: float | None = None
    train_images_per_second: float | None = None
    bytes_per_image: float | None = None
    gpus: list[int] = field(default_factory=lambda: [1, 8, 64])
    node_bandwidth: float = 400.0
    network_bandwidth: float = 50.0
    price: float | None = None
    probe_seconds: float = 20.0
    json: str | None = None

    def __post_init__(self) -> None:
        """Refuse settings that cannot be used (`UserInputError`)."""
        if self.captions is None and self.config is None:
            raise UserInputError(
                "--captions is missing; allowed: a number such as 150M, or the recipe's; type --captions 150M, or "
                f"--config {DEFAULT_RECIPE}"
            )
        for name, example in {"captions": 1000, "captions_per_step": 8192}.items():
            if (value := getattr(self, name)) is not None:
                check_integer(_option(name), value, minimum=1, example=example)
        for name, example in _NUMBERS.items():
            if (value := getattr(self, name)) is not None:
                check_number(_option(name), value, minimum=0, above_minimum=True, example=example)
        for number in self.gpus:
            check_integer("--gpus", number, minimum=1, example=8)
        self.gpus = sorted(set(self.gpus))


_NUMBERS = {
    "captions_per_second": 100,
    "images_per_second": 1.5,
    "train_images_per_second": 1000,
    "bytes_per_image": NATURAL_PICTURE_BYTES,
    "node_bandwidth": 400,
    "network_bandwidth": 50,
    "price": 2.5,
    "probe_seconds": 20,
}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def make_plan(config: PlanConfig, overrides: Sequence[str] = ()) -> Plan:
    """Measure what is not given, and reckon.

    Args:
        config: what is planned.
        overrides: `section.entry=value`, entries of the recipe to change.

    Raises:
        UserInputError: a setting cannot be used, or a model cannot be loaded.
    """
    recipe = _recipe(config, overrides)
    captions, images = _captions_config(config, recipe), _images_config(config, recipe)
    rows, each = captions.num_captions, images.images_per_caption
    training = training_of(
        recipe.pretraining,
        captions=rows,
        images_per_caption=each,
        processes=PROCESSES.get(config.config or DEFAULT_RECIPE, 1),
        captions_per_step=config.captions_per_step,
    )
    shards = [RunSize(rows, stage.rows_per_shard).num_shards for stage in (captions, images)]
    probes = _probes(config, recipe, captions, images)
    works = (
        _work("captions", rows, "captions", shards[0], config.captions_per_second, probes),
        _work("images", rows * each, "pictures", shards[1], config.images_per_second, probes),
        _work(
            "pre-training",
            training.pictures,
            "pictures",
            training.captions_per_step,
            config.train_images_per_second,
            probes,
        ),
    )
    communication = communication_of(
        recipe.pretraining,
        training,
        works[-1].rate,
        config.gpus,
        Cluster(node_bandwidth=config.node_bandwidth * 1e9, network_bandwidth=config.network_bandwidth * 1e9),
    )
    efficiency = {one.devices: one.efficiency for one in communication if one.efficiency is not None}
    works = (*works[:-1], replace(works[-1], efficiency=efficiency))
    caption_size, caption_source = caption_bytes(probes.get("captions"))
    picture_size, picture_source = picture_bytes(config.bytes_per_image, images, probes.get("images"))
    speeds = [work.rate.per_second if work.rate else None for work in works]
    return Plan(
        captions=rows,
        images_per_caption=each,
        recipe=config.config or DEFAULT_RECIPE,
        training=training,
        works=works,
        storage=(
            Storage("captions", rows * caption_size, caption_source),
            Storage("pictures", rows * each * picture_size, picture_source),
            Storage(
                "pictures, copied",
                rows * each * picture_size,
                "cache of datasets where the training runs; none with pretraining.streaming=true",
            ),
            checkpoint_storage(recipe),
        ),
        files=(
            Files("captions", rows, captions.rows_per_shard, caption_size, speeds[0]),
            Files("images", rows, images.rows_per_shard, each * picture_size, speeds[1] and speeds[1] / each),
        ),
        devices=tuple(config.gpus),
        price=config.price,
        communication=communication,
        node_bandwidth=config.node_bandwidth,
        network_bandwidth=config.network_bandwidth,
    )


def _recipe(config: PlanConfig, overrides: Sequence[str]) -> Recipe:
    """Return the recipe; where none is named, the training of the default one and nothing else of it."""
    if config.config is not None:
        return load_recipe(config.config, overrides)
    ours = [override for override in overrides if override.startswith("pretraining.")]
    others = load_recipe(None, [override for override in overrides if override not in ours])
    return replace(others, pretraining=load_recipe(DEFAULT_RECIPE, ours).pretraining)


def _typed(config: PlanConfig, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(config, name)) is not None}


def _captions_config(config: PlanConfig, recipe: Recipe) -> CaptionsConfig:
    entries = {**recipe.captions, **_typed(config, ("language_model", "dtype")), "output_dir": "plan"}
    if config.language_model == "toy":
        entries = {**entries, "concepts": None, "backgrounds": None}  # it knows its own world only
    if config.captions is not None:
        entries["num_captions"] = config.captions
    return settings_from(CaptionsConfig, entries, "captions")


def _images_config(config: PlanConfig, recipe: Recipe) -> ImagesConfig:
    entries = {**recipe.images, **_typed(config, _OF_IMAGES), "output_dir": "plan", "captions": "plan"}
    return settings_from(ImagesConfig, entries, "images")


_OF_IMAGES = (
    "images_per_caption",
    "image_generator",
    "guidance_scale",
    "num_inference_steps",
    "size",
    "size_drawn",
    "scheduler",
    "adapter",
    "dtype",
    "batch_size",
)


def _probes(config: PlanConfig, recipe: Recipe, captions: CaptionsConfig, images: ImagesConfig) -> dict[str, Probe]:
    """Measure the stages whose rate is not given and whose model is known; what they need is imported here."""
    probes = {}
    seconds, trained = config.probe_seconds, None
    if config.train_images_per_second is None:
        from synclr_hf.cli.probe_training import probe_training, trial_config

        trained = trial_config(recipe)  # what is wrong with it is told before anything is measured
    named = config.config is not None  # a recipe that names no model means the stages' own, the toy world
    if config.captions_per_second is None and (named or config.language_model or "language_model" in recipe.captions):
        from synclr_hf.cli.probe import probe_captions

        with _or_given("captions"):
            probes["captions"] = probe_captions(captions, seconds)
    if config.images_per_second is None and (named or config.image_generator or "image_generator" in recipe.images):
        from synclr_hf.cli.probe import probe_images

        with _or_given("images"):
            probes["images"] = probe_images(images, seconds)
    if trained is not None:
        probes["pre-training"] = probe_training(trained, images.images_per_caption, images.size, seconds)
    return probes


@contextmanager
def _or_given(stage: str) -> Iterator[None]:
    """Say in the error of a stage that cannot be measured that its rate may be given."""
    try:
        yield
    except UserInputError as error:
        raise UserInputError(f"{error}; or give its rate: type {_INSTEAD[stage][0]} RATE") from error


def _work(stage: str, amount: int, unit: str, pieces: int, given: float | None, probes: dict[str, Probe]) -> StageWork:
    if given is not None:
        return StageWork(stage, amount, unit, pieces, Rate(given))
    option, model = _INSTEAD[stage]
    if stage not in probes:
        return StageWork(stage, amount, unit, pieces, None, f"type {model} to measure it here, or {option} RATE")
    failure = f"not measured: {probes[stage].failure}; type {option} RATE"
    return StageWork(stage, amount, unit, pieces, probes[stage].rate, failure if probes[stage].failure else "")


_INSTEAD = {
    "captions": ("--captions-per-second", "--language-model MODEL"),
    "images": ("--images-per-second", "--image-generator MODEL"),
    "pre-training": ("--train-images-per-second", ""),
}
"""Stage -> options that give its rate, or name what is to be measured."""


_OVERRIDE = re.compile(r"\w+(\.\w+)+=")


def _check_file(path: Path) -> None:
    """Find out before anything is measured whether the plan can be written."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UserInputError(f"--json {path} cannot be written; allowed: a file in a folder that is there")


def main(arguments: Sequence[str]) -> None:
    """Parse the options, measure what is not given, and print the plan."""
    parser = settings_parser(PlanConfig, stage="plan")
    parser.add_argument("overrides", nargs="*", metavar="section.entry=value", help="entries of the recipe to change")
    overrides = [word for word in arguments if _OVERRIDE.match(word)]  # --gpus would take those that follow it
    config, _, unknown = parser.parse_args_into_dataclasses(
        [word for word in arguments if word not in overrides], return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        raise unknown_name("option", unknown[0], parser._option_string_actions, "synclr plan --help")
    if config.json is not None:
        _check_file(Path(config.json))
    try:
        plan = make_plan(config, overrides)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; nothing was kept") from None
    print(plan_text(plan))
    if config.json is not None:
        write_text(Path(config.json), json.dumps(plan_record(plan), indent=1) + "\n")
