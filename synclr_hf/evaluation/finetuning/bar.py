"""What a user sees while a protocol trains."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from synclr_hf.data.progress import Progress

LONG_ON_A_CPU = 20_000
"""Pictures through the network, all steps together, from which a training without a GPU is told to be long."""


class TrainingBar(TrainerCallback):
    """Shows the steps, the forward passes of a step that has several, and the last loss.

    A step of the paper's 1,024 pictures takes minutes on a CPU; the passes show that it moves.

    Args:
        description: what is going on.
        shorter: what to type for a shorter training.
    """

    def __init__(self, description: str, shorter: str) -> None:
        self.description, self.shorter = description, shorter
        self.progress: Progress | None = None
        self._passes, self._loss = 0, ""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar; say where a stopped training goes on, and that one without a GPU takes long."""
        self.progress = Progress(self.description, total=state.max_steps, unit="step", initial=state.global_step)
        self._passes = 0
        if state.global_step:
            self.progress.message(f"{self.description}: goes on behind step {state.global_step:,}")
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
        steps = state.max_steps - state.global_step
        if args.device.type == "cpu" and steps * batch >= LONG_ON_A_CPU:
            self.progress.message(
                f"{self.description}: {steps:,} steps of {batch:,} pictures without a GPU; the bar tells how long "
                f"that takes. The same command goes on behind the last checkpoint; for less type {self.shorter}"
            )

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell the forward passes of a step that is not done."""
        self._passes += 1
        self._note(f"pass {self._passes} of {args.gradient_accumulation_steps}")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the bar."""
        self._passes = 0
        if self.progress:
            self.progress.update(1)
        self._note("")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the loss."""
        if "loss" in (logs or {}):
            self._loss = f"loss {float(logs['loss']):.3f}"
            self._note("")

    def close(self) -> None:
        """Close the bar if it is open."""
        if self.progress:
            self.progress.close()
            self.progress = None

    def _note(self, passes: str) -> None:
        if self.progress:
            self.progress.note(", ".join(text for text in (self._loss, passes) if text))
