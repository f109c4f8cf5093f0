"""The Trainer of transformers with the hooks that SynCLR needs."""

from __future__ import annotations

import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from synclr_hf.objectives.distributed import sum_over_processes, world_size
from synclr_hf.views import EpochSampler, augment, collate_views

from .callbacks import StepProgressCallback, TeacherCallback
from .schedules import cosine

logger = logging.getLogger(__name__)


class SynCLRTrainer(Trainer):
    """Trains `SynCLRForPreTraining` on a `ViewsDataset` with `SynCLRTrainingArguments`.

    Adds to the Trainer: photometric augmentation on the device, parameter groups, schedules and the teacher's update
    (`TeacherCallback`), every part of the loss in the log, and an order of the data that repeats after a resume.
    """

    loss_is_scaled_for_ga = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("data_collator", collate_views)
        super().__init__(*args, **kwargs)
        self._parts: dict[str, torch.Tensor] = {}
        self._parts_count = 0
        self.add_callback(TeacherCallback())
        self.remove_callback(ProgressCallback)
        self.remove_callback(PrinterCallback)
        if not self.args.disable_tqdm:
            self.add_callback(StepProgressCallback())

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> EpochSampler:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        return EpochSampler(len(dataset), seed=self.args.seed)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Move a batch to the device and apply the photometric part of the views there."""
        inputs = super()._prepare_inputs(inputs)
        for stream in ("", "local_"):
            parameters = inputs.pop(f"{stream}aug_params", None)
            if parameters is not None:
                inputs[f"{stream}pixel_values"] = augment(inputs[f"{stream}pixel_values"], parameters)
        return inputs

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[dict[str, Any]], Any]:
        """Take the batches of one optimizer step; several (gradient accumulation) get their targets together."""
        batches, count = super().get_batch_samples(*args, **kwargs)
        if len(batches) > 1:
            batches = [self._prepare_inputs(batch) for batch in batches]
            model = self.accelerator.unwrap_model(self.model_wrapped)
            with self.compute_loss_context_manager():
                targets = model.window_targets(batches, self.state.global_step, self.state.max_steps)
            batches = [{**batch, "targets": own} for batch, own in zip(batches, targets, strict=True)]
        return batches, count

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make AdamW with two groups; unlike in the reference, tokens and positions do not decay either."""
        if self.optimizer is None:
            groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
            for name, parameter in (self.model if model is None else model).named_parameters():
                if parameter.requires_grad:
                    decayed = parameter.ndim >= 2 and not name.endswith(("_token", "position_embeddings", "weight_g"))
                    groups[decayed].append(parameter)
            optimizer_class, arguments = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = optimizer_class(
                [
                    {"params": parameters, "decayed": decayed, "weight_decay": self.args.weight_decay * decayed}
                    for decayed, parameters in groups.items()
                ],
                **arguments,
            )
        return self.optimizer

    def _save_rng_state(self, output_dir: str) -> None:
        """Wait until every process has written: the Trainer's state, which comes next, says that all is there."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Run the model and remember the parts of its loss on the device."""
        outputs = model(**inputs, step=self.state.global_step, total_steps=self.state.max_steps)
        for name, value in outputs.parts.items():
            self._parts[name] = self._parts.get(name, 0) + value
        self._parts_count += 1
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of every part since the last log (over all processes), the EMA decay and the weight decay."""
        if "loss" in logs and self._parts_count:
            names = sorted(self._parts)
            means = torch.stack([self._parts[name].float() for name in names]) / self._parts_count
            means = sum_over_processes(means) / world_size()
            logs |= dict(zip(names, means.tolist(), strict=True))
            step, total = self.state.global_step, self.state.max_steps
            logs["ema_decay"] = cosine(self.args.ema_decay, self.args.ema_decay_end, step, total)
            logs["weight_decay"] = cosine(self.args.weight_decay, self.args.weight_decay_end, step, total)
            self._parts, self._parts_count = {}, 0
        super().log(logs, start_time)


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step of a checkpoint's folder."""
    return int(checkpoint.name.rpartition("-")[2])


def last_complete_checkpoint(folder: Path) -> Path | None:
    """Find the newest checkpoint that is whole; the Trainer's state is the last file of one.

    A killed process leaves one without that state; a machine that lost its power can leave one with files cut short.
    """
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
        except (OSError, ValueError):
            continue
        cut = sorted(path.name for path in checkpoint.iterdir() if _is_cut(path))
        if not cut:
            return checkpoint
        logger.warning("%s is passed over: %s cannot be read to the end", checkpoint, ", ".join(cut))
    return None


def _is_cut(path: Path) -> bool:
    """Say whether a file of tensors lacks its end."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt"):
                return False
        except SafetensorError:
            return True
    return path.suffix in (".pt", ".pth") and not zipfile.is_zipfile(path)
