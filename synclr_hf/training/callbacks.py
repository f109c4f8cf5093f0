"""What happens around a step or an epoch: schedules, the teacher's update, the order of the data, the bar."""

from __future__ import annotations

import sys
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState

from synclr_hf.data.progress import Progress
from synclr_hf.views import BlockSampler, EpochSampler

from .arguments import SynCLRTrainingArguments
from .schedules import cosine


class TeacherCallback(TrainerCallback):
    """Sets the weight decay before a step and moves the teacher after it, once an optimizer step."""

    def on_step_begin(
        self,
        args: SynCLRTrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: torch.optim.Optimizer,
        **kwargs: Any,
    ) -> None:
        """Set the weight decay of the groups that decay (paper B.1: cosine)."""
        decay = cosine(args.weight_decay, args.weight_decay_end, state.global_step, state.max_steps)
        for group in optimizer.param_groups:
            if group["decayed"]:
                group["weight_decay"] = decay

    def on_optimizer_step(
        self,
        args: SynCLRTrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module,
        **kwargs: Any,
    ) -> None:
        """Move the teacher (paper B.1: cosine from 0.994 to 1); where nothing requires one it copies the student."""
        model = extract_model_from_parallel(model, keep_torch_compile=False)
        decay = cosine(args.ema_decay, args.ema_decay_end, state.global_step, state.max_steps)
        model.update_teacher(decay if "teacher" in model.requires else 0.0)


class EpochCallback(TrainerCallback):
    """Tells the sampler the epoch; after a resume of several processes accelerate does not reach it.

    Attributes:
        sampler: the order of the training, once it is known.
    """

    sampler: EpochSampler | BlockSampler | None = None

    def on_epoch_begin(
        self, args: SynCLRTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Pass on the number of whole epochs done."""
        if self.sampler is not None:
            self.sampler.set_epoch(int(state.epoch or 0))


class StepProgressCallback(TrainerCallback):
    """Shows the steps and the last loss, and moves at least twice a second."""

    def __init__(self) -> None:
        self.progress: Progress | None = None

    def on_train_begin(
        self, args: SynCLRTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar where training (re)starts."""
        if state.is_world_process_zero:
            self.progress = Progress("pretraining", total=state.max_steps, unit="step", initial=state.global_step)

    def on_step_end(
        self, args: SynCLRTrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the bar."""
        if self.progress:
            self.progress.update(1)

    def on_log(
        self,
        args: SynCLRTrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the loss."""
        if self.progress and "loss" in (logs or {}):
            self.progress.note(f"loss {float(logs['loss']):.3f}")

    def tell(self, text: str) -> None:
        """Write one line on standard error, above the bar if there is one."""
        if self.progress:
            self.progress.message(text)
        else:
            sys.stderr.write(f"{text}\n")

    def close(self) -> None:
        """Close the bar if it is open."""
        if self.progress:
            self.progress.close()
            self.progress = None
