"""Arguments of the Trainer: what SynCLR adds to those of transformers, and the defaults it changes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from synclr_hf.errors import UserInputError


@dataclass
class SynCLRTrainingArguments(TrainingArguments):
    """Arguments of `SynCLRTrainer`; a batch is counted in captions, each with all its pictures.

    `gradient_accumulation_steps` gives the gradients of one batch that many times as large: the teacher's keys and the
    assignments of masked patches are those of all batches of an optimizer step.

    Parameters that control the teacher and the schedules:
        ema_decay: decay of the teacher's moving average at the first step; cosine to `ema_decay_end`. Paper 0.994.
        ema_decay_end: the decay at the last step. Paper 1.
        weight_decay_end: weight decay at the last step; starts at `weight_decay`, cosine. Paper 0.04 to 0.2.

    Raises:
        UserInputError: if a decay is outside [0, 1].
    """

    ema_decay: float = field(default=0.994, metadata={"help": "EMA decay of the teacher at the first step."})
    ema_decay_end: float = field(default=1.0, metadata={"help": "EMA decay of the teacher at the last step."})
    weight_decay_end: float = field(default=0.2, metadata={"help": "Weight decay at the last step."})
    weight_decay: float = field(default=0.04, metadata={"help": "Weight decay at the first step."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Schedule of the learning rate."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "The batch is made of views, not of columns."}
    )
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "Every parameter is used."})
    dataloader_drop_last: bool = field(
        default=True, metadata={"help": "All batches have the same number of captions."}
    )

    def __post_init__(self) -> None:
        """Refuse values that mean nothing; pin memory only where there is a GPU to copy to."""
        super().__post_init__()
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.cuda.is_available()
        for name in ("ema_decay", "ema_decay_end"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserInputError(f"{name} {getattr(self, name)}: allowed: 0 to 1; type {name}: 0.994")
