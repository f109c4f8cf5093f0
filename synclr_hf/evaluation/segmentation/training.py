"""UperNet trained by the Trainer of transformers."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import TrainOutput

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.finetuning.bar import TrainingBar

SAVED = 20
"""Checkpoints in a long run; the last one is kept."""
SAVED_AFTER = 200
"""Steps between two checkpoints at least."""


class PlainModule(nn.Module):
    """A model of transformers as a module like any other.

    The Trainer renames the weights of a `PreTrainedModel` when it saves them and reads them back by their own names:
    a run that goes on from a checkpoint would not have the weights it stopped with.

    Args:
        model: takes `pixel_values` and `labels`, gives a `loss`.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the loss of a batch of crops."""
        return {"loss": self.model(pixel_values=pixel_values, labels=labels).loss}


class SegmentationTrainer(Trainer):
    """Takes the items in order, and the parameter groups as they are given.

    Args:
        model: of transformers; see `PlainModule`.
        groups: for AdamW.
        description: what the progress bar says.
        **kwargs: of `Trainer`; the data set is drawn already, its length is steps x batch.
    """

    def __init__(
        self, *, model: PreTrainedModel, groups: list[dict[str, Any]], description: str, **kwargs: Any
    ) -> None:
        super().__init__(model=PlainModule(model), **kwargs)
        self._groups = groups
        self.remove_callback(ProgressCallback)
        self.remove_callback(PrinterCallback)
        self._bar = TrainingBar(description, f"upernet.steps={max(self.args.max_steps // 100, 1)}")
        self.add_callback(self._bar)

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train as `transformers.Trainer.train` does, and close the bar whatever happens."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self._bar.close()

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make AdamW of the groups."""
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(self._groups)
        return self.optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as the Trainer does, and end a training whose loss is not finite.

        Raises:
            UserInputError: the mean loss of the last steps is no finite number.
        """
        super().log(logs, start_time)
        loss = float(logs.get("loss", 0.0))
        if not math.isfinite(loss):
            raise UserInputError(
                f"the loss of UperNet is {loss} at step {self.state.global_step}; allowed: finite numbers; type a "
                "smaller upernet.learning_rate"
            )


def train(trainer: SegmentationTrainer) -> None:
    """Train from the last whole checkpoint in the output folder, or from the start.

    Raises:
        UserInputError: the loss is not finite.
    """
    whole = [file.parent for file in Path(trainer.args.output_dir).glob("checkpoint-*/trainer_state.json")]
    last = max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)
    for folder in Path(trainer.args.output_dir).glob("checkpoint-*"):  # one that was being written
        if folder not in whole:
            shutil.rmtree(folder)
    trainer.train(resume_from_checkpoint=None if last is None else str(last))


def training_arguments(
    folder: Path, *, steps: int, batch_size: int, at_once: int, warm_up: int, seed: int, device: torch.device
) -> TrainingArguments:
    """Return the settings of a run: linear decay to zero, bfloat16 on CUDA, no clipping (as mmsegmentation's recipes).

    Args:
        folder: of the checkpoints.
        steps: of the optimizer.
        batch_size: crops a step.
        at_once: crops a forward pass, a divisor of `batch_size`.
        warm_up: steps in which the learning rates rise from zero.
        seed: of stochastic depth.
        device: where the encoder is.
    """
    on_cuda = device.type == "cuda"
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=batch_size // at_once,
        lr_scheduler_type="linear",
        warmup_steps=warm_up,
        max_grad_norm=0.0,
        save_strategy="steps",
        save_steps=max(steps // SAVED, SAVED_AFTER),
        save_total_limit=1,
        logging_steps=max(min(steps // 100, 50), 1),
        logging_nan_inf_filter=False,  # else the bar is told the mean of the finite ones
        bf16=on_cuda and torch.cuda.is_bf16_supported(),
        use_cpu=device.type == "cpu",
        dataloader_num_workers=8 if on_cuda else 0,
        dataloader_pin_memory=on_cuda,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        seed=seed % 2**32,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs of one process would change the batch
    return arguments
