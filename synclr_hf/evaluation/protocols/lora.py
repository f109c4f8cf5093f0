"""Low-rank adapters (LoRA, Hu et al. 2021) on the query and value projections and a linear head; the rest is frozen.

Not in the paper: it stands beside fine-tuning for what a small part of the weights can learn. All
settings are our choice: query and value projections of rank 16 with alpha twice the rank, epochs, rates, and a milder
augmentation (crops and flips, no mixing, no torchvision).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext, Outcome
from synclr_hf.evaluation.finetuning.adapters import add_adapters, merge_adapters
from synclr_hf.evaluation.finetuning.classifier import Classifier
from synclr_hf.evaluation.finetuning.run import train_and_score
from synclr_hf.evaluation.finetuning.settings import TrainingSettings


@dataclass(frozen=True)
class Config:
    """Settings of LoRA.

    Attributes:
        rank: of the product of the two matrices that is added to a weight.
        alpha: the product counts `alpha / rank` times.
        dropout: of what goes into an adapter, in training.
        epochs: passes over the train pictures.
        batch_size: pictures an optimizer step; no more than there are.
        device_batch_size: pictures a forward pass at most; changes memory, not the batch.
        base_learning_rate: highest learning rate at a batch of 256 pictures; at another it is linear in the batch.
        weight_decay: of the adapters' matrices and the head's.
        warmup_epochs: linear warm-up from 0; by default a fifth of the epochs.
        label_smoothing: share of a target that goes to all classes alike.
        crop_scale: smallest share of a picture's area in a random crop.
        test_crop: share of the short side that test pictures keep.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.1
    epochs: int = 30
    batch_size: int = 128
    device_batch_size: int = 64
    base_learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_epochs: float | None = None
    label_smoothing: float = 0.1
    crop_scale: float = 0.25
    test_crop: float = 1.0


def evaluate(context: EvaluationContext, config: Config) -> Outcome:
    """Train adapters and a head, add the adapters to the weights, and score once on the test pictures.

    Raises:
        UserInputError: see `train_and_score`; a setting that cannot be used, or an encoder without separate query and
            value projections.
    """
    entries = asdict(config)
    adapters = {name: entries.pop(name) for name in ("rank", "alpha", "dropout")}
    settings = TrainingSettings(section="lora", **entries)
    _check("rank", config.rank, config.rank >= 1 and float(config.rank).is_integer(), "a whole number from 1", 16)
    _check("alpha", config.alpha, config.alpha > 0, "a number above 0", 32)
    _check("dropout", config.dropout, 0 <= config.dropout < 1, "a number from 0, below 1", 0.1)

    def prepare(classifier: Classifier) -> Mapping[str, Any]:
        names = add_adapters(classifier.trunk, **adapters)
        return {**adapters, "target_modules": sorted({name.rpartition(".")[2] for name in names})}

    return train_and_score(
        context, settings, prepare=prepare, finish=lambda classifier: merge_adapters(classifier.trunk)
    )


def _check(name: str, value: Any, good: bool, allowed: str, example: float) -> None:
    if not good:
        raise UserInputError(f"lora.{name}={value} cannot be used; allowed: {allowed}; type lora.{name}={example:g}")
