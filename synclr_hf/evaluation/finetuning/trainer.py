"""The Trainer of transformers with the hooks that training a classifier needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from synclr_hf.data.seeds import seed_for
from synclr_hf.data.workers import usable_cores
from synclr_hf.evaluation.encoding.encoders import Encoder
from synclr_hf.evaluation.finetuning.bar import TrainingBar
from synclr_hf.evaluation.finetuning.classifier import AveragedClassifier, classification_loss
from synclr_hf.evaluation.finetuning.data import TrainPictures, WholeBatches, collate
from synclr_hf.evaluation.finetuning.erasing import erased, erasing_boxes
from synclr_hf.evaluation.finetuning.layer_decay import parameter_groups
from synclr_hf.evaluation.finetuning.mixing import mixed, soft_targets
from synclr_hf.evaluation.finetuning.scores import Predictions, not_finite
from synclr_hf.evaluation.finetuning.settings import Schedule, TrainingSettings

_SAVES = 20
"""Checkpoints of a training at most, one at a time on disk."""


class ClassifierArguments(TrainingArguments):
    """Arguments of the Trainer for one process on one device."""

    @property
    def n_gpu(self) -> int:
        """GPUs of one process: at most one, no nn.DataParallel."""
        return min(super().n_gpu, 1)


def training_arguments(
    settings: TrainingSettings,
    schedule: Schedule,
    *,
    folder: Path,
    saves: bool,
    validates: bool,
    device: torch.device,
    seed: int,
) -> ClassifierArguments:
    """Return the arguments that the settings stand for: AdamW, linear warm-up, cosine; bfloat16 on CUDA.

    Gradients are not clipped, as in the reference.

    Args:
        settings: what was asked for.
        schedule: what follows from them.
        folder: of checkpoints.
        saves: whether to write any.
        validates: whether to evaluate after each epoch.
        device: where the encoder is.
        seed: of the run.
    """
    on_gpu = device.type == "cuda"
    workers = min(usable_cores(), 16) if on_gpu else 0  # on a CPU they would take the cores from the training
    return ClassifierArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=schedule.device_batch_size,
        gradient_accumulation_steps=schedule.accumulation,
        learning_rate=schedule.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": min(settings.min_learning_rate / schedule.learning_rate, 1.0)},
        warmup_steps=schedule.warmup_steps,
        max_grad_norm=0.0,
        bf16=on_gpu and torch.cuda.is_bf16_supported(),
        use_cpu=device.type == "cpu",
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        dataloader_pin_memory=on_gpu,
        dataloader_drop_last=True,
        remove_unused_columns=False,
        save_strategy="steps" if saves else "no",
        save_steps=max(1, -(-schedule.total_steps // _SAVES)),
        save_total_limit=1,
        # once an epoch, but by steps: at the end of an epoch a checkpoint would be written before what is logged
        eval_strategy="steps" if validates else "no",
        eval_steps=schedule.steps_per_epoch,
        logging_strategy="steps",
        logging_steps=schedule.steps_per_epoch,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        seed=seed_for(seed, "training") % 2**32,
    )


class ClassifierTrainer(Trainer):
    """Trains an `AveragedClassifier` on `TrainPictures`.

    Adds to the Trainer: erasing, mixup and cutmix on the device, learning rates by layer, the moving average of the
    weights, an order and an augmentation that repeat after a resume, and a bar.

    Args:
        model: what learns.
        args: see `training_arguments`.
        pictures: the train pictures.
        settings: what was asked for.
        schedule: what follows from them.
        encoder: says mean and standard deviation of the pictures.
        validation: predictions of the classifier on validation pictures after each epoch, if there are any.
        description: what the bar says.
    """

    loss_is_scaled_for_ga = False

    def __init__(
        self,
        model: AveragedClassifier,
        args: ClassifierArguments,
        pictures: TrainPictures,
        *,
        settings: TrainingSettings,
        schedule: Schedule,
        encoder: Encoder,
        validation: Predictions | None = None,
        description: str = "fine-tuning",
    ) -> None:
        super().__init__(
            model=model, args=args, train_dataset=pictures, eval_dataset=validation, data_collator=collate
        )
        self.settings, self.schedule = settings, schedule
        self.multi_label = pictures.data.labels.ndim == 2
        self.unreadable: set[int] = set()
        moments = torch.tensor([encoder.image_mean, encoder.image_std], device=args.device).view(2, 3, 1, 1)
        self._mean, self._std = moments
        self.remove_callback(ProgressCallback)
        self.remove_callback(PrinterCallback)
        self._bar = TrainingBar(description, f"{settings.section}.epochs={max(settings.epochs // 10, 1)}")
        self.add_callback(self._bar)
        self.add_callback(_AverageCallback())

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as `transformers.Trainer.train` does, and close the bar whatever happens."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self._bar.close()

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        pictures = self.train_dataset
        return WholeBatches(len(pictures), seed_for(pictures.seed, "order"), self.schedule.batch_size)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make AdamW with the groups of `parameter_groups`."""
        if self.optimizer is None:
            classifier = self.model.classifier
            groups = parameter_groups(
                classifier.trunk,
                classifier.head,
                learning_rate=self.schedule.learning_rate,
                layer_decay=self.settings.layer_decay,
                weight_decay=self.settings.weight_decay,
                section=self.settings.section,
            )
            optimizer_class, arguments = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = optimizer_class(groups, **arguments)
        return self.optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Augment the batch on its device and run the model."""
        self.unreadable.update(inputs["unreadable"])
        pixels, targets = self.augmented(inputs["pixels"], inputs["targets"], inputs["place"])
        # dropout and stochastic depth draw from the global generator, and so does the loader, for its workers
        torch.manual_seed(seed_for(self.train_dataset.seed, "forward", *inputs["place"]) % 2**32)
        logits = model(pixels)
        loss = classification_loss(logits, targets, multi_label=self.multi_label)
        return (loss, {"logits": logits}) if return_outputs else loss

    def augmented(self, pixels: Tensor, labels: Tensor, place: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Normalise, erase, smooth and mix a batch.

        Args:
            pixels: (B, 3, H, W) uint8.
            labels: (B,) int64, or (B, C) of 0 and 1, negative or NaN where a picture counts for nothing in a class;
                these are not smoothed.
            place: (epoch, index) of the first picture; with the seed it decides the random numbers.

        Returns:
            Pictures (B, 3, H, W) and targets (B, C), float32.
        """
        settings, seed = self.settings, seed_for(self.train_dataset.seed, "batch", *place)
        rng = np.random.default_rng(seed)
        pixels = pixels.float().div_(255).sub_(self._mean).div_(self._std)
        pixels = erased(pixels, erasing_boxes(len(pixels), *pixels.shape[-2:], settings.erasing, rng), seed)
        num_classes = self.model.classifier.head.out_features
        if self.multi_label:
            targets = labels.float().masked_fill(labels < 0, torch.nan)  # stays NaN where it is mixed
        else:
            targets = soft_targets(labels, num_classes, settings.label_smoothing)
        return mixed(pixels, targets, rng, mixup=settings.mixup, cutmix=settings.cutmix)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as the Trainer does, and end a training whose loss is not finite.

        Raises:
            UserInputError: the mean loss of an epoch is no finite number.
        """
        super().log(logs, start_time)
        if not math.isfinite(float(logs.get("loss", 0.0))):
            raise not_finite(self.settings.section)

    def evaluate(
        self, eval_dataset: Predictions | None = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> Mapping[str, float]:
        """Score the classifier, not its average, on the validation pictures and log the metrics.

        Args:
            eval_dataset: what to predict; default: that of the Trainer.
            ignore_keys: not used.
            metric_key_prefix: comes before the names.
        """
        predictions = self.eval_dataset if eval_dataset is None else eval_dataset
        scored = predictions.scored(self.model.classifier)[0]
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in scored.metrics.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _AverageCallback(TrainerCallback):
    """Moves the average once an optimizer step, not once a forward pass."""

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **kwargs: Any
    ) -> None:
        model.update_average()
