"""Arguments of the Trainer: what SynCLR adds to those of transformers, and the defaults it changes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from synclr_hf.data.checks import check_integer, check_number
from synclr_hf.errors import UserInputError
from synclr_hf.implementation import check_implementation

PROBE_METRICS = ("knn_top1", "knn_top1_student")
"""What `SynCLRTrainer.evaluate` measures, of the teacher and of the student; larger is better."""


@dataclass
class SynCLRTrainingArguments(TrainingArguments):
    """Arguments of `SynCLRTrainer`; a batch is counted in captions, each with all its pictures.

    `gradient_accumulation_steps` gives the gradients of one batch that many times as large: the teacher's keys and the
    assignments of masked patches are those of all batches of an optimizer step. Activations are those of one batch,
    but the assignments of all stay in memory: masked patches x prototypes x 4 bytes (6.6 GB for 128 captions with the
    paper's settings).

    Parameters that control the learning rate:
        learning_rate: its highest value; `None`: `base_learning_rate` x global crops of an optimizer step / 32,768.
        base_learning_rate: at the paper's 32,768 global crops. Paper 2e-3, for L/14 1.5e-3.

    Parameters that control the teacher and the schedules:
        ema_decay: decay of the teacher's moving average at the first step; cosine to `ema_decay_end`. Paper 0.994.
        ema_decay_end: the decay at the last step. Paper 1.
        weight_decay_end: weight decay at the last step; starts at `weight_decay`, cosine. Paper 0.04 to 0.2.

    Parameters that control the speed:
        implementation: `fast`, or `plain`: the readable reference with the same results.

    Raises:
        UserInputError: if a batch has no captions or a step no batches, a decay is outside [0, 1], a learning rate is
            no positive number, the implementation is none of the two, or the best model is chosen by something that
            `SynCLRTrainer.evaluate` does not measure.
    """

    learning_rate: float | None = field(
        default=None, metadata={"help": "Highest learning rate; by default it follows from the global crops a step."}
    )
    base_learning_rate: float = field(default=2e-3, metadata={"help": "Learning rate at 32,768 global crops a step."})
    ema_decay: float = field(default=0.994, metadata={"help": "EMA decay of the teacher at the first step."})
    ema_decay_end: float = field(default=1.0, metadata={"help": "EMA decay of the teacher at the last step."})
    weight_decay_end: float = field(default=0.2, metadata={"help": "Weight decay at the last step."})
    weight_decay: float = field(default=0.04, metadata={"help": "Weight decay at the first step."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Schedule of the learning rate."})
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Show the loss as it is; one that is not finite stops the training."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "The batch is made of views, not of columns."}
    )
    implementation: str = field(
        default="fast", metadata={"help": "`fast`, or `plain`: the readable reference with the same results."}
    )
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "Every parameter is used."})
    dataloader_drop_last: bool = field(
        default=True, metadata={"help": "All batches have the same number of captions."}
    )

    @property
    def n_gpu(self) -> int:
        """GPUs of one process: at most one, because nn.DataParallel would contrast each part of a batch alone."""
        return min(super().n_gpu, 1)

    def __post_init__(self) -> None:
        """Refuse values that mean nothing; pin memory, and copy without waiting, where there is a GPU to copy to."""
        for name, example in {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}.items():
            check_integer(f"{name}:", getattr(self, name), minimum=1, example=example)
        if self.metric_for_best_model is None and (self.load_best_model_at_end or self.save_strategy == "best"):
            self.metric_for_best_model = PROBE_METRICS[0]
        if getattr(self, "activation_checkpointing", False) is None:  # a newer name; the old one alone is warned of
            self.activation_checkpointing = self.gradient_checkpointing
        super().__post_init__()
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.cuda.is_available()
        if self.dataloader_pin_memory and self.implementation == "fast":
            self.accelerator_config.non_blocking = True  # the next batch is copied while this one is computed
        check_implementation(self.implementation)
        for name in ("ema_decay", "ema_decay_end"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserInputError(f"{name} {getattr(self, name)}: allowed: 0 to 1; type {name}: 0.994")
        if self.learning_rate is not None:
            if isinstance(self.learning_rate, str):
                self.learning_rate = _as_number(self.learning_rate)
            check_number("learning_rate:", self.learning_rate, minimum=0, above_minimum=True, example=1e-3)
        check_number("base_learning_rate:", self.base_learning_rate, minimum=0, above_minimum=True, example=2e-3)
        metric = (self.metric_for_best_model or PROBE_METRICS[0]).removeprefix("eval_")
        if metric not in PROBE_METRICS:
            raise UserInputError(
                f"metric_for_best_model {metric}; allowed: {', '.join(PROBE_METRICS)}; "
                f"type metric_for_best_model: {PROBE_METRICS[0]}"
            )


def _as_number(value: str) -> float | str:
    """Read a text as a number if it is one: YAML takes `1e-3` for a text."""
    try:
        return float(value)
    except ValueError:
        return value
