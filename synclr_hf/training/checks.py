"""Mistakes that a contrastive loss would swallow: found before training, or in its first optimizer step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.trainer_utils import IntervalStrategy

from synclr_hf.errors import UserInputError
from synclr_hf.objectives import MultiPositiveObjective
from synclr_hf.objectives.distributed import gather_rows

from .arguments import SynCLRTrainingArguments
from .modeling_pretraining import SynCLRForPreTraining

NEEDED = ("pixel_values", "caption_ids", "image_ids", "view_ids")
NEEDED_BY = {"masked": "bool_masked_pos", "classes": "class_ids"}
"""What an objective requires -> the key of the batch that gives it."""


def check_plan(model: SynCLRForPreTraining, arguments: SynCLRTrainingArguments) -> None:
    """Refuse accumulation without a teacher, one caption an optimizer step, and what FSDP cannot do.

    Args:
        model: may be on the meta device.
        arguments: of the training.

    Raises:
        UserInputError: says why it would not train, and what to type.
    """
    batch, steps = arguments.train_batch_size, arguments.gradient_accumulation_steps
    probed = arguments.eval_strategy != IntervalStrategy.NO
    if arguments.fsdp and (steps > 1 or probed):
        entry = (
            f"eval_strategy: {arguments.eval_strategy.value}" if probed else f"gradient_accumulation_steps: {steps}"
        )
        raise UserInputError(
            f"{entry} with fsdp: it calls parts of a model whose weights are cut over the processes; allowed: without "
            "fsdp, or without it; type eval_strategy: 'no' (leave the probe out) and gradient_accumulation_steps: 1"
        )
    for name, objective in _contrasts(model).items():
        if steps > 1 and "teacher" not in objective.requires:
            raise UserInputError(
                f"gradient_accumulation_steps {steps}: objective '{name}' contrasts the student's own features of a "
                "batch with each other; in parts they would meet fewer of them, another loss (the whole one would "
                "need cached gradients); allowed: 1, or a teacher; type gradient_accumulation_steps: 1 and a larger "
                f"per_device_train_batch_size, or teacher: true for '{name}'"
            )
        if batch * steps * arguments.world_size == 1 and objective.ids != "image_ids":
            raise UserInputError(
                f"one caption an optimizer step: objective '{name}' has nothing to contrast it with; allowed: 2 or "
                "more captions; type per_device_train_batch_size: 2 or more"
            )


def check_first_step(
    model: SynCLRForPreTraining, batches: Sequence[dict[str, Any]], device: torch.device | str
) -> None:
    """Refuse batches that lack what the objectives need, or whose ids leave nothing to learn; all processes ask.

    Args:
        model: what is trained.
        batches: those of this process in one optimizer step.
        device: where processes gather.

    Raises:
        UserInputError: names the missing keys and those found, or the id that all or no two crops share.
    """
    needed = [*NEEDED, *(key for requirement, key in NEEDED_BY.items() if requirement in model.requires)]
    for batch in batches:
        if missing := [key for key in needed if batch.get(key) is None]:
            raise UserInputError(
                f"the batch lacks {', '.join(missing)}; found: {', '.join(batch) or 'nothing'}; "
                "type train_dataset=ViewsDataset(...), which gives all of them (class_ids with class_names=...)"
            )
    if "masked" in model.requires and not any(batch["bool_masked_pos"].any() for batch in batches):
        raise UserInputError(
            "no patch of the step is masked, so iBOT has nothing to predict; type masked_image_fraction: 0.5 and "
            "masked_patch_fraction: 0.5 (both are rounded down: of the crops of a caption, of the patches of a crop)"
        )
    for name, objective in _contrasts(model).items():
        ids = gather_rows(torch.cat([batch[objective.ids] for batch in batches]).to(device))
        what, different = objective.ids.removesuffix("_ids"), ids.unique()
        if len(different) == 1:
            raise UserInputError(
                f"all {len(ids)} crops of the step belong to {what} {int(different[0])}: nothing to contrast with "
                f"for objective '{name}'; type per_device_train_batch_size: 2 or more"
            )
        if len(different) == len(ids):
            raise UserInputError(
                f"each of the {len(ids)} crops of the step has its own {what}: no positives for objective '{name}'; "
                f"needed: {objective.ids} that crops share; type num_global_crops: 2 under views:, or give more "
                "images of each caption"
            )


def _contrasts(model: SynCLRForPreTraining) -> dict[str, MultiPositiveObjective]:
    return {name: part for name, part in model.objectives.items() if isinstance(part, MultiPositiveObjective)}
