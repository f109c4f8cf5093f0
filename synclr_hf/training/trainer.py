"""The Trainer of transformers with the hooks that SynCLR needs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Sampler
from transformers import Trainer
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import IntervalStrategy, TrainOutput

from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.objectives.distributed import sum_over_processes, world_size
from synclr_hf.views import EpochSampler, augment, collate_views

from .callbacks import EpochCallback, StepProgressCallback, TeacherCallback
from .checkpoints import last_complete_checkpoint
from .checks import check_first_step, check_plan
from .collapse import CollapseAlarm, collapse_numbers
from .finite import FiniteGuard, not_finite_error
from .modeling_pretraining import SynCLRForPreTraining
from .probe import KNNProbe, knn_top1
from .schedules import GLOBAL_CROPS_OF_THE_PAPER, cosine, scaled_learning_rate
from .sharding import all_finite, keep_losses_in_float32


class SynCLRTrainer(Trainer):
    """Trains `SynCLRForPreTraining` on a `ViewsDataset` with `SynCLRTrainingArguments`.

    Adds to the Trainer: photometric augmentation on the device, parameter groups, schedules and the teacher's update
    (`TeacherCallback`), every part of the loss in the log, an order of the data that repeats after a resume, the
    learning rate by the paper's rule, checks of the first step, a warning when features or prototypes collapse, an end
    before weights that are not finite are saved, and `evaluate` by kNN with a `KNNProbe` as `eval_dataset`.

    Raises:
        UserInputError: see `check_plan`; or the learning rate cannot follow from the data set.
    """

    loss_is_scaled_for_ga = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("data_collator", collate_views)
        super().__init__(*args, **kwargs)
        keep_losses_in_float32(self.accelerator)
        check_plan(self.model, self.args)
        self.model.set_implementation(self.args.implementation)
        if self.eval_dataset is not None:
            self._checked_probe(self.eval_dataset)
        self._rate_line = self._set_learning_rate() if self.train_dataset is not None else ""
        self._epochs = EpochCallback()
        self.add_callback(self._epochs)
        self.add_callback(TeacherCallback())
        self.remove_callback(ProgressCallback)
        self.remove_callback(PrinterCallback)
        self._bar = StepProgressCallback()
        if not self.args.disable_tqdm:
            self.add_callback(self._bar)

    def _set_learning_rate(self) -> str:
        """Set the learning rate by the rule unless it is given, and return a line that says so."""
        base, given = self.args.base_learning_rate, self.args.learning_rate
        crops_each = getattr(self.train_dataset, "crops_per_caption", None)
        if given is not None:
            return f"learning rate {given:g}: as given"
        if crops_each is None:
            raise UserInputError(
                "learning_rate is not set and cannot follow from the batch: the train data set does not say its "
                "crops_per_caption; type learning_rate: 1e-3"
            )
        captions = self.args.train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        crops = captions * crops_each
        self.args = copy.copy(self.args)  # another Trainer with these arguments must not take the rate for given
        self.args.learning_rate = scaled_learning_rate(base, crops)
        return (
            f"learning rate {self.args.learning_rate:.3g}: base {base:g} x {crops:,} global crops / "
            f"{GLOBAL_CROPS_OF_THE_PAPER:,} (set learning_rate to override)"
        )

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train as `transformers.Trainer.train` does.

        Raises:
            UserInputError: see `check_first_step`; or a part of the loss, the gradient or the weights are not finite.
        """
        self._parts: dict[str, torch.Tensor] = {}
        self._parts_count = 0
        self._unreadable_rows = torch.zeros((), device=self.args.device)
        self._last_outputs: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)
        self._guard = FiniteGuard()
        self._alarm: CollapseAlarm | None = None
        self._first_step_checked = False
        self._tell(self._rate_line)
        if checkpoint := kwargs.get("resume_from_checkpoint"):
            self._tell(f"going on from {checkpoint}")
        if self.args.process_index:  # the Trainer seeds all processes alike; each drops paths of its own
            torch.manual_seed(seed_for(self.args.seed, "process", self.args.process_index) % 2**32)
        try:
            return super().train(*args, **kwargs)
        finally:
            self._bar.close()

    @property
    def _bare_model(self) -> SynCLRForPreTraining:
        """The model without what distributes or compiles it."""
        return self.accelerator.unwrap_model(self.model_wrapped, keep_torch_compile=False)

    def _tell(self, line: str) -> None:
        if self.is_world_process_zero():
            self._bar.tell(line)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        seed, lanes = self.args.seed, self.args.world_size * max(self.args.dataloader_num_workers, 1)
        if hasattr(dataset, "sampler"):
            sampler = dataset.sampler(seed=seed, batch_size=self.args.train_batch_size, lanes=lanes)
        else:  # one of the user's own; it is asked for items (epoch, index) as well
            sampler = EpochSampler(len(dataset), seed=seed)
        self._epochs.sampler = sampler
        return sampler

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Move a batch to the device, apply the photometric part of the views there, count rows that were replaced."""
        inputs = super()._prepare_inputs(inputs)
        if "unreadable_rows" in inputs:
            self._unreadable_rows += inputs.pop("unreadable_rows").sum()
        for stream in ("", "local_"):
            parameters = inputs.pop(f"{stream}aug_params", None)
            if parameters is not None:
                inputs[f"{stream}pixel_values"] = augment(
                    inputs[f"{stream}pixel_values"], parameters, self.args.implementation
                )
        return inputs

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[dict[str, Any]], Any]:
        """Take the batches of one optimizer step; several (gradient accumulation) get their targets together."""
        batches, count = super().get_batch_samples(*args, **kwargs)
        model = self._bare_model
        if batches and not self._first_step_checked:
            check_first_step(model, batches, self.args.device)
            self._first_step_checked = True
        if len(batches) > 1:
            batches = [self._prepare_inputs(batch) for batch in batches]
            with self.accelerator.autocast():  # as in forward, which accelerate wraps
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
        is_logged = self._is_logged_next()
        step = {"step": self.state.global_step, "total_steps": self.state.max_steps}
        outputs = model(**inputs, **step, output_assignments=is_logged)
        for name, value in outputs.parts.items():
            self._parts[name] = self._parts.get(name, 0) + value
        self._parts_count += 1
        self._guard.see({**outputs.parts, "loss": outputs.loss}, self.state.global_step + 1)
        if is_logged:
            self._last_outputs = (outputs.teacher_cls, outputs.assignments)
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def _is_logged_next(self) -> bool:
        """Tell whether the step that is being made will be logged; assignments are too large to keep in every step."""
        step, strategy = self.state.global_step + 1, self.args.logging_strategy
        if strategy != IntervalStrategy.STEPS:
            return strategy == IntervalStrategy.EPOCH
        return step % self.state.logging_steps == 0 or (step == 1 and self.args.logging_first_step)

    def _get_grad_norm(self, model: nn.Module, grad_norm: torch.Tensor | None = None) -> torch.Tensor | float:
        """Return the gradient norm and remember whether it is finite (with fp16 the scaler skips such a step)."""
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if self.accelerator.scaler is None:
            norm = torch.as_tensor(grad_norm, device=self.args.device)
            self._guard.see({"gradient norm": norm}, self.state.global_step + 1)
        return grad_norm

    def _stop_unless_finite(self) -> None:
        """End the training on all processes if a number was not finite since it began."""
        found = self._guard.found()
        if found is not None:
            raise self._not_finite(*found)

    def _not_finite(self, name: str, step: int) -> UserInputError:
        checkpoint = last_complete_checkpoint(Path(self.args.output_dir))
        rate = self.args.learning_rate or self.args.base_learning_rate
        return not_finite_error(name, step, checkpoint, rate)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as `transformers.Trainer.save_model` does, but never weights that are not finite."""
        if _internal_call:  # for a checkpoint: all processes are here
            self._stop_unless_finite()
        if not all_finite(self.model.parameters()):
            raise self._not_finite("weights", self.state.global_step)
        super().save_model(output_dir, _internal_call)

    def evaluate(
        self,
        eval_dataset: KNNProbe | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Classify the pictures of a probe by the features of teacher and student.

        Args:
            eval_dataset: the probe; default: that of the Trainer.
            ignore_keys: not used, as there are no predictions to gather.
            metric_key_prefix: comes before the names.

        Returns:
            `eval_knn_top1` of the EMA teacher and `eval_knn_top1_student`, fractions, also logged.

        Raises:
            UserInputError: there is no probe.
        """
        probe = self._checked_probe(self.eval_dataset if eval_dataset is None else eval_dataset)
        if self.is_in_train:
            self._stop_unless_finite()
        model = self._bare_model
        found = knn_top1({"knn_top1": model.synclr, "knn_top1_student": model.student}, probe)
        metrics = {f"{metric_key_prefix}_{name}": accuracy for name, accuracy in found.items()}
        teacher, student = found.values()
        self._tell(f"kNN top-1 at step {self.state.global_step}: teacher {teacher:.1%}, student {student:.1%}")
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @staticmethod
    def _checked_probe(probe: Any) -> KNNProbe:
        if not isinstance(probe, KNNProbe):
            raise UserInputError(
                f"eval_dataset is of the type {type(probe).__name__}; allowed: labelled pictures; "
                "type eval_dataset=KNNProbe(train=..., test=...), or probe: {dataset: ...} in a recipe"
            )
        return probe

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what happened since the last log, over all processes; stop if a number was not finite.

        Added are the mean of every part of the loss, the EMA decay and the weight decay, `rankme` and the use of the
        prototypes in the last batch, and `unreadable_rows`, the rows replaced since the start.
        """
        if self.is_in_train and logs.keys() & {"loss", "train_loss"}:
            self._stop_unless_finite()
        if "loss" in logs and self._parts_count:
            means = {name: value / self._parts_count for name, value in self._parts.items()}
            logs |= _mean_over_processes({**means, **collapse_numbers(*self._last_outputs)})
            logs |= self._replaced_rows()
            step, total = self.state.global_step, self.state.max_steps
            if "teacher" in self._bare_model.requires:
                logs["ema_decay"] = cosine(self.args.ema_decay, self.args.ema_decay_end, step, total)
            logs["weight_decay"] = cosine(self.args.weight_decay, self.args.weight_decay_end, step, total)
            self._alarm = self._alarm or CollapseAlarm.after(self.state.log_history)
            for warning in self._alarm.warnings(step, logs):
                self._tell(warning)
            self._parts, self._parts_count, self._last_outputs = {}, 0, (None, None)
        super().log(logs, start_time)

    def _replaced_rows(self) -> dict[str, float]:
        """Return the number of unreadable rows since the start of the training, if there are any."""
        earlier = [entry["unreadable_rows"] for entry in self.state.log_history if "unreadable_rows" in entry]
        total = int(sum_over_processes(self._unreadable_rows)) + (earlier[-1] if earlier else 0)
        self._unreadable_rows.zero_()
        return {"unreadable_rows": total} if total else {}


def _mean_over_processes(values: dict[str, torch.Tensor]) -> dict[str, float]:
    """Return the means over all processes of scalars, sorted by name."""
    names = sorted(values)
    means = sum_over_processes(torch.stack([values[name].float() for name in names])) / world_size()
    return dict(zip(names, means.tolist(), strict=True))
