"""How a classifier is trained: plain numbers, checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from synclr_hf.errors import UserInputError


@dataclass(frozen=True)
class TrainingSettings:
    """What the trainer is told; `fine_tuning.Config` and `lora.Config` say what each stands for.

    Attributes:
        section: name of the protocol, for the errors: `section.name=value` is what the user types.
        epochs: passes over the train pictures.
        batch_size: pictures an optimizer step; no more than there are.
        device_batch_size: pictures a forward pass at most; gradients of several are added up.
        base_learning_rate: highest learning rate at a batch of 256 pictures; at another it is linear in the batch.
        min_learning_rate: where the cosine ends.
        layer_decay: each layer learns at this share of the rate of the layer above it.
        weight_decay: of AdamW.
        warmup_epochs: linear warm-up from 0; `None`: a fifth of the epochs.
        crop_scale: smallest share of a picture's area in a random crop; the largest is 1.
        rand_augment: RandAugment by torchvision.
        rand_augment_magnitude: its strength, 0 to 10.
        rand_augment_std: standard deviation of the strength.
        label_smoothing: share of a target that goes to all classes alike.
        erasing: probability that a box of a picture becomes noise.
        mixup: alpha of the Beta distribution; 0 is off.
        cutmix: alpha of the Beta distribution; 0 is off.
        ema_decay: of the moving average of the weights, an optimizer step; 0 is off.
        test_crop: share of the short side that test pictures keep.
    """

    section: str
    epochs: int
    batch_size: int
    device_batch_size: int
    base_learning_rate: float
    min_learning_rate: float = 1e-6
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    warmup_epochs: float | None = None
    crop_scale: float = 0.08
    rand_augment: bool = False
    rand_augment_magnitude: float = 9.0
    rand_augment_std: float = 0.5
    label_smoothing: float = 0.0
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema_decay: float = 0.0
    test_crop: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values that mean nothing.

        Raises:
            UserInputError: names the setting, what is allowed and what to type.
        """
        for name, example in {"epochs": 100, "batch_size": 1024, "device_batch_size": 128}.items():
            self._check(name, lambda value: float(value).is_integer() and value >= 1, "a whole number from 1", example)
        self._check("base_learning_rate", lambda value: value > 0, "a number above 0", 5e-5)
        self._check("min_learning_rate", lambda value: value >= 0, "a number from 0", 1e-6)
        self._check("weight_decay", lambda value: value >= 0, "a number from 0", 0.05)
        self._check("rand_augment_std", lambda value: value >= 0, "a number from 0", 0.5)
        self._check("rand_augment_magnitude", lambda value: 0 <= value <= 10, "a number from 0 to 10", 9)
        self._check("mixup", lambda value: value >= 0, "a number from 0", 0.8)
        self._check("cutmix", lambda value: value >= 0, "a number from 0", 1)
        self._check("erasing", lambda value: 0 <= value <= 1, "a number from 0 to 1", 0.25)
        self._check("label_smoothing", lambda value: 0 <= value < 1, "a number from 0, below 1", 0.1)
        self._check("ema_decay", lambda value: 0 <= value < 1, "a number from 0, below 1", 0.9999)
        for name, example in {"layer_decay": 0.65, "crop_scale": 0.08, "test_crop": 0.95}.items():
            self._check(name, lambda value: 0 < value <= 1, "a number above 0, up to 1", example)
        if self.warmup_epochs is not None:
            allowed = f"a number from 0, below the {self.epochs} epochs"
            self._check("warmup_epochs", lambda value: 0 <= value < self.epochs, allowed, self.epochs / 5)

    def _check(self, name: str, good: Callable[[Any], bool], allowed: str, example: float) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not good(value):
            option = f"{self.section}.{name}="
            raise UserInputError(f"{option}{value} cannot be used; allowed: {allowed}; type {option}{example:g}")


@dataclass(frozen=True)
class Schedule:
    """What follows from the settings and the number of train pictures.

    Attributes:
        batch_size: pictures an optimizer step.
        device_batch_size: pictures a forward pass; divides `batch_size`.
        learning_rate: highest learning rate of the last layer.
        steps_per_epoch: whole batches of the train pictures; the pictures left over are others in each epoch.
        warmup_epochs: in epochs.
        warmup_steps: the same in optimizer steps.
        total_steps: optimizer steps of the training.
    """

    batch_size: int
    device_batch_size: int
    learning_rate: float
    steps_per_epoch: int
    warmup_epochs: float
    warmup_steps: int
    total_steps: int

    @property
    def accumulation(self) -> int:
        """Forward passes of an optimizer step."""
        return self.batch_size // self.device_batch_size


def schedule(settings: TrainingSettings, num_pictures: int) -> Schedule:
    """Fit the settings to a number of train pictures.

        batch_size 1,024, device_batch_size 128, 300 pictures: 3 forward passes of 100 pictures, 1 step an epoch

    Args:
        settings: what was asked for.
        num_pictures: train pictures, at least one.
    """
    wanted = min(settings.batch_size, num_pictures)
    passes = math.ceil(wanted / settings.device_batch_size)
    each = wanted // passes
    batch_size = passes * each
    steps_per_epoch = num_pictures // batch_size
    warmup = settings.epochs / 5 if settings.warmup_epochs is None else settings.warmup_epochs
    return Schedule(
        batch_size=batch_size,
        device_batch_size=each,
        learning_rate=settings.base_learning_rate * batch_size / 256,
        steps_per_epoch=steps_per_epoch,
        warmup_epochs=warmup,
        warmup_steps=round(warmup * steps_per_epoch),
        total_steps=settings.epochs * steps_per_epoch,
    )
