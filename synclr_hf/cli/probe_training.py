"""A few optimizer steps of a recipe on this machine, on random pictures in memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import TrainerCallback, TrainerControl

from synclr_hf.cli.estimates import Rate
from synclr_hf.cli.pretrain import pretraining_config
from synclr_hf.cli.probe import PATIENCE, Probe, at_most, device_name
from synclr_hf.cli.recipe import Recipe
from synclr_hf.data.progress import Progress
from synclr_hf.data.settings import settings_from
from synclr_hf.training import SynCLRForPreTraining, SynCLRTrainer, SynCLRTrainingArguments
from synclr_hf.training.stage import PretrainingConfig, initial_model
from synclr_hf.views import ViewsDataset

FEW_CAPTIONS = 2
"""A step of so many tells how large a batch fits into the time; a contrast needs two."""

SET_UP_SECONDS = 10.0
"""A Trainer takes some before its first step."""

STEPS_WANTED = 4
STEPS_AT_MOST = 1_000_000

_NOTHING_BUT_STEPS = {
    "gradient_accumulation_steps": 1,
    "warmup_steps": 0,
    "dataloader_num_workers": 0,
    "disable_tqdm": True,
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "logging_strategy": "no",
    "push_to_hub": False,
    "report_to": "none",
    "save_strategy": "no",
}
"""Entries of the Trainer that a probe changes: nothing is saved, logged or sent, pictures are in memory."""


def trial_config(recipe: Recipe) -> PretrainingConfig:
    """Return the settings of a recipe's training for this machine: without a GPU it is in float32.

    Raises:
        UserInputError: the recipe cannot be trained.
    """
    if not device_name()[1]:
        arguments = recipe.pretraining.get("training_arguments") or {}
        on_cpu = {**arguments, "use_cpu": True, "bf16": False, "fp16": False}
        recipe = replace(recipe, pretraining={**recipe.pretraining, "training_arguments": on_cpu})
    return pretraining_config(recipe)


def probe_training(config: PretrainingConfig, images_per_caption: int, size: int, seconds: float) -> Probe:
    """Train for some seconds: on a GPU in batches of the recipe, on a CPU in smaller ones that fit into the time.

    Args:
        config: of the recipe, see `trial_config`.
        images_per_caption: pictures that a caption has.
        size: their side in pixels.
        seconds: how long.

    Returns:
        Pictures a second, each with all its crops.

    Raises:
        UserInputError: the recipe cannot be trained.
    """
    if "classes" in config.model_config().requires and config.class_names is None:
        config = replace(config, class_names=["one", "other"])
    start = time.perf_counter()
    with Progress("probing pre-training: building the model"):
        model = initial_model(config)
    loaded = time.perf_counter() - start
    trial = _Trial(config, model, images_per_caption, size, seconds)
    with Progress("probing pre-training"), at_most(PATIENCE * seconds + SET_UP_SECONDS):
        (trial.on_gpu if device_name()[1] else trial.on_cpu)()
    return trial.found(loaded)


class _StepClock(TrainerCallback):
    """Measures optimizer steps and ends the training when the time is up; the data loader does not count.

    Attributes:
        steps: seconds of each.
    """

    def __init__(self, seconds: float, device: torch.device) -> None:
        self.seconds, self.device = seconds, device
        self.steps: list[float] = []
        self._start = 0.0

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start."""
        self._start = self._now()

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **kwargs: Any) -> None:
        """Student and teacher have moved."""
        self.steps.append(self._now() - self._start)
        control.should_training_stop |= sum(self.steps) >= self.seconds and len(self.steps) > 1


class _QuietTrainer(SynCLRTrainer):
    """The Trainer as it is, without its lines: they are about a training that does not take place."""

    def _tell(self, line: str) -> None:
        """Say nothing."""


class _Trial:
    """Trains until there is something to tell."""

    def __init__(
        self, config: PretrainingConfig, model: SynCLRForPreTraining, images: int, size: int, seconds: float
    ) -> None:
        self.config, self.model, self.images, self.size, self.seconds = config, model, images, size, seconds
        self.wanted = self.batch = config.trainer_arguments().per_device_train_batch_size
        self.clock = _StepClock(seconds, torch.device("cpu"))
        self.precision = ""

    def on_gpu(self) -> None:
        """Train in batches of the recipe, or half as large until they fit."""
        while True:
            try:
                self.train(self.batch, STEPS_AT_MOST)
                return
            except torch.OutOfMemoryError:
                if self.batch // 2 < FEW_CAPTIONS:
                    raise
            self.batch //= 2
            self.model.zero_grad()
            torch.cuda.empty_cache()

    def on_cpu(self) -> None:
        """Make a small step, and then some that are as large as the time allows."""
        few = min(FEW_CAPTIONS, self.wanted)
        self.train(few, 1)
        if self.clock.steps[0] < self.seconds:
            fits = int(few * self.seconds / (STEPS_WANTED * self.clock.steps[0]))
            self.train(max(few, min(self.wanted, fits)), STEPS_AT_MOST)

    def train(self, batch: int, steps: int) -> None:
        """Train for some steps, or until the time is up."""
        config, model_config = self.config, self.config.model_config()
        views = config.views_config()
        if "local" not in model_config.requires:
            views = replace(views, num_local_crops=0)
        patch_size = model_config.encoder_config.patch_size
        rows = _random_rows(batch, self.images, self.size, config.class_names or ["none"])
        with TemporaryDirectory(prefix="synclr_plan_") as folder:
            changes = {"output_dir": folder, "per_device_train_batch_size": batch, "max_steps": steps}
            entries = {**config.training_arguments, **_NOTHING_BUT_STEPS, **changes}
            arguments = settings_from(SynCLRTrainingArguments, entries, "training_arguments")
            data = ViewsDataset(
                rows,
                views,
                patch_size=patch_size,
                seed=0,
                class_names=config.class_names,
                implementation=arguments.implementation,
            )
            trainer = _QuietTrainer(model=self.model, args=arguments, train_dataset=data)
            self.batch, self.clock = batch, _StepClock(self.seconds, trainer.args.device)
            self.precision = "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "float32"
            trainer.add_callback(self.clock)
            trainer.train()

    def found(self, load_seconds: float) -> Probe:
        """Return what was measured."""
        steps = self.clock.steps[1:] or self.clock.steps
        if not steps:
            return Probe(
                None,
                f"one step of {self.batch} captions took longer than {PATIENCE * self.seconds + SET_UP_SECONDS:g} s",
            )
        used = self.config.views_config().images_per_caption or self.images
        count = f"{len(steps)} step{'s' * (len(steps) > 1)}"
        remarks = [f"{count} of {self.batch} captions of {used} pictures, in {self.precision}"]
        if self.batch < self.wanted:
            remarks.append(f"the recipe's batch of {self.wanted} did not fit into the probe")
        if len(self.clock.steps) == 1:
            remarks.append("the only step counts, its warm-up included")
        name, is_gpu = device_name()
        rate = self.batch * used * len(steps) / sum(steps)
        return Probe(Rate(rate, name, is_gpu, True, load_seconds, tuple(remarks)))


def _random_rows(captions: int, images: int, size: int, concepts: Sequence[str]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)

    def picture() -> Image.Image:
        return Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8))

    return [
        {
            "caption_id": number,
            "concept": concepts[number % len(concepts)],
            "images": [picture() for _ in range(images)],
        }
        for number in range(captions)
    ]
