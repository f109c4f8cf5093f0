"""The rows of the paper's Tables 4 and 5 as changes to one recipe, and steps that cost every row the same.

Table 4 adds the parts of the loss to multi-positive contrast one by one; Table 5 has other supervision for the same
pictures. Supervised contrast, which the paper does not show, stands beside them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from synclr_hf.errors import UserInputError

from .modeling_pretraining import SynCLRForPreTraining
from .stage import PretrainingConfig

FULL_ROW = "all"
"""The row whose steps the recipe gives: the paper's whole loss."""


@dataclass(frozen=True)
class AblationRow:
    """One training of the tables.

    Attributes:
        name: its name in the tables, and of its folder.
        tables: numbers of the paper's tables that have it; none for one that the paper does not show.
        section: the section `pretraining` of its recipe.
    """

    name: str
    tables: tuple[int, ...]
    section: dict[str, Any]


def ablation_rows(pretraining: Mapping[str, Any], images_per_caption: int) -> list[AblationRow]:
    """Make the rows from the section `pretraining` of a recipe that has the whole loss.

    Every row sees as many global crops in a step. Without multi-crop there are no local crops; without EMA the
    student's projections are contrasted with each other; SimCLR sees two crops of one picture of a caption.

    Args:
        pretraining: the section, with the objectives `multi_positive` and `ibot` and with local crops.
        images_per_caption: pictures of a caption in the images set.

    Raises:
        UserInputError: a part of the whole loss is missing, or the batch cannot be halved.
    """
    objectives = {settings["name"]: dict(settings) for settings in pretraining.get("objectives") or []}
    if set(objectives) != {"multi_positive", "ibot"} or pretraining.get("views", {}).get("num_local_crops") == 0:
        raise UserInputError(
            "an ablation starts from the whole loss: objectives multi_positive and ibot, and local crops; "
            "type synclr ablate toyworld, or take these parts into the recipe"
        )
    contrast, ibot = objectives["multi_positive"], objectives["ibot"]
    alone = {**contrast, "teacher": False}
    used = pretraining.get("views", {}).get("images_per_caption") or images_per_caption
    pairs = pretraining.get("training_arguments", {}).get("per_device_train_batch_size", 8) * used
    if pairs % 2:
        raise UserInputError(
            f"per_device_train_batch_size x pictures of a caption is {pairs}; an ablation needs an even number"
        )
    no_locals = {"num_local_crops": 0}
    simclr = {**no_locals, "num_global_crops": 2, "images_per_caption": 1}

    def row(
        name: str, tables: tuple[int, ...], own: list[dict[str, Any]], **changes: Mapping[str, Any]
    ) -> AblationRow:
        section = {**copy.deepcopy(dict(pretraining)), "objectives": own}
        for part, entries in changes.items():
            section[part] = {**section.get(part, {}), **entries}
        return AblationRow(name, tables, section)

    return [
        row("multi-positive", (4, 5), [alone], views=no_locals),
        row("+EMA", (4,), [contrast], views=no_locals),
        row("+EMA +iBOT", (4,), [contrast, ibot], views=no_locals),
        row("+EMA +multi-crop", (4,), [contrast]),
        row(FULL_ROW, (4,), [contrast, ibot]),
        row("supervised", (5,), [{"name": "cross_entropy"}], views=no_locals),
        row(
            "SimCLR",
            (5,),
            [{**alone, "ids": "images"}],
            views=simclr,
            training_arguments={"per_device_train_batch_size": pairs // 2},
        ),
        row("supervised contrast", (), [{**alone, "ids": "classes"}], views=no_locals),
    ]


def flops_per_crop(config: PretrainingConfig) -> int:
    """Count the floating-point operations of a training step for one global crop and what belongs to it.

    Forward passes of student and teacher, heads, losses and the backward pass, counted on two crops on the CPU; the
    part of the contrast that grows with the square of the batch (0.3 % in the paper's setting) is left out.
    """
    model, views = SynCLRForPreTraining(config.model_config()), config.views_config()
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


def with_steps(section: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """Return the section with `factor` times as many steps, the warm-ups included."""
    section = copy.deepcopy(dict(section))
    arguments = section["training_arguments"]
    for name in ("max_steps", "warmup_steps"):
        if arguments.get(name, 0) >= 1:  # a warm-up below 1 is a share of the steps
            arguments[name] = round(arguments[name] * factor)
    for settings in section["objectives"]:
        name = "teacher_temperature_warmup_steps"
        if name in settings:
            settings[name] = round(settings[name] * factor)
    return section
