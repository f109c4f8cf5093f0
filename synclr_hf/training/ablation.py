"""The rows of the paper's Tables 4 and 5 as changes to one configuration, and steps that cost every row the same.

Table 4 adds the parts of the loss to multi-positive contrast one by one; Table 5 has other supervision for the same
pictures. Supervised contrast, which the paper does not show, stands beside them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from synclr_hf.errors import UserInputError
from synclr_hf.objectives import IBOTObjective

from .modeling_pretraining import SynCLRForPreTraining
from .stage import PretrainingConfig

FULL_ROW = "+EMA +iBOT +multi-crop"
"""The row whose steps the configuration gives: the paper's whole loss."""
ROWS = (
    "multi-positive",
    "+EMA",
    "+EMA +iBOT",
    "+EMA +multi-crop",
    FULL_ROW,
    "supervised",
    "SimCLR",
    "supervised contrast",
)
"""Names of the rows; the first five are Table 4; the first, the sixth and the seventh Table 5."""
TEMPERATURE_WARMUP = "teacher_temperature_warmup_steps"


@dataclass(frozen=True)
class AblationRow:
    """One training of the tables.

    Attributes:
        name: its name in the tables.
        config: its pre-training, but for folder and seed.
    """

    name: str
    config: PretrainingConfig


def ablation_rows(config: PretrainingConfig, images_per_caption: int) -> list[AblationRow]:
    """Make the rows from the configuration of the whole loss.

    Every row sees as many global crops in a step. Without multi-crop there are no local crops; without EMA the
    student's projections are contrasted with each other; SimCLR sees two crops of one picture of a caption.

    Args:
        config: with the objectives `multi_positive` and `ibot`, with local crops and a number of steps.
        images_per_caption: pictures of a caption in the images set.

    Raises:
        UserInputError: a part of the whole loss or the number of steps is missing, or the batch cannot be halved.
    """
    objectives = {settings["name"]: settings for settings in config.model_config().objectives}
    views, arguments = config.views_config(), config.trainer_arguments()
    if set(objectives) != {"multi_positive", "ibot"} or views.num_local_crops == 0:
        raise UserInputError(
            "an ablation starts from the whole loss: objectives multi_positive and ibot, and local crops; "
            "type synclr ablate ablation_toyworld, or take these parts into the recipe"
        )
    if arguments.max_steps <= 0:
        raise UserInputError(
            "an ablation needs a number of steps; type pretraining.training_arguments.max_steps=850 "
            "in place of num_train_epochs"
        )
    crops = arguments.per_device_train_batch_size * (views.images_per_caption or images_per_caption)
    if crops % 2:
        raise UserInputError(
            f"per_device_train_batch_size x pictures of a caption is {crops}; an ablation needs an even number"
        )
    contrast, ibot = objectives["multi_positive"], objectives["ibot"]
    alone = {**contrast, "teacher": False}
    no_locals = {"num_local_crops": 0}
    two_crops = {**no_locals, "num_global_crops": 2, "images_per_caption": 1}
    changes: list[tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]] = [
        ([alone], no_locals, {}),
        ([contrast], no_locals, {}),
        ([contrast, ibot], no_locals, {}),
        ([contrast], {}, {}),
        ([contrast, ibot], {}, {}),
        ([{"name": "cross_entropy"}], no_locals, {}),
        ([{**alone, "ids": "images"}], two_crops, {"per_device_train_batch_size": crops // 2}),
        ([{**alone, "ids": "classes"}], no_locals, {}),
    ]
    return [
        AblationRow(
            name,
            replace(
                config,
                objectives=own,
                views={**config.views, **own_views},
                training_arguments={**config.training_arguments, **own_arguments},
            ),
        )
        for name, (own, own_views, own_arguments) in zip(ROWS, changes, strict=True)
    ]


def flops_per_crop(config: PretrainingConfig) -> int:
    """Count the floating-point operations of a training step for one global crop and what belongs to it.

    Forward passes of student and teacher, heads, losses and the backward pass, counted on two crops on the CPU; the
    part of the contrast that grows with the square of the batch (0.3 % in the paper's setting) is left out. Counted is
    the plain implementation: equal compute should not depend on what a fast one need not do.
    """
    model, views = SynCLRForPreTraining(config.model_config()), config.views_config()
    model.set_implementation("plain")
    model.set_attn_implementation("eager")  # fused kernels are not counted on every device
    patches = (views.global_crop_size // config.model_config().encoder_config.patch_size) ** 2
    masks = torch.zeros(2, patches, dtype=torch.bool)
    masks[0, : int(patches * views.masked_patch_fraction)] = True  # half of the crops are masked
    one, rows = torch.zeros(2, dtype=torch.long), torch.arange(2)
    batch = {
        "pixel_values": torch.zeros(2, 3, views.global_crop_size, views.global_crop_size),
        "caption_ids": one,
        "image_ids": one,
        "class_ids": one,
        "view_ids": rows,
        "bool_masked_pos": masks,
    }
    if views.num_local_crops:
        size = views.local_crop_size
        batch["local_pixel_values"] = torch.zeros(2 * views.num_local_crops, 3, size, size)
    with FlopCounterMode(display=False) as counter:
        model(**batch).loss.backward()
    return counter.get_total_flops() // 2


def with_steps(config: PretrainingConfig, factor: float) -> PretrainingConfig:
    """Return the configuration with `factor` times as many steps, the warm-ups included."""
    arguments = config.trainer_arguments()
    steps = {"max_steps": round(arguments.max_steps * factor)}
    if arguments.warmup_steps >= 1:  # below 1 it is a share of the steps
        steps["warmup_steps"] = round(arguments.warmup_steps * factor)
    default = IBOTObjective.__init__.__kwdefaults__[TEMPERATURE_WARMUP]
    objectives = [
        {**settings, TEMPERATURE_WARMUP: round(settings.get(TEMPERATURE_WARMUP, default) * factor)}
        if settings["name"] == "ibot"
        else settings
        for settings in config.model_config().objectives
    ]
    return replace(config, objectives=objectives, training_arguments={**config.training_arguments, **steps})
