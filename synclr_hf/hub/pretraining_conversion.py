"""Converts a training checkpoint of the authors' code to a whole `SynCLRForPreTraining`, so that it can go on here."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from synclr_hf.errors import UserInputError
from synclr_hf.training import SynCLRForPreTraining, SynCLRPreTrainingConfig

from .conversion import LeftOut, check_tensors, find_encoder, sort_out
from .export import WEIGHTS
from .original_checkpoint import OriginalCheckpoint, read_original
from .original_layout import renamed
from .original_settings import differences, drop_path_rate, objective_settings

ENCODERS = {"teacher": "synclr.", "student": "student."}
HEADS = {
    "student.proj.mlp.": "objectives.multi_positive.projector.",
    "teacher.proj.mlp.": "objectives.multi_positive.teacher_projector.",
    "student.pred.mlp.": "objectives.multi_positive.predictor.",
    "student.dino_head.mlp.": "objectives.ibot.head.mlp.",
    "teacher.dino_head.mlp.": "objectives.ibot.teacher_head.mlp.",
    "student.dino_head.last_layer.": "objectives.ibot.head.",
    "teacher.dino_head.last_layer.": "objectives.ibot.teacher_head.",
}
"""Prefixes of the reference's heads -> ours; the layers behind them have the same numbers."""

NO_PART_OF_THE_TRAINING = (
    (r"(ibot|dino)_loss\.center", "the centre of the targets, which Sinkhorn-Knopp does without"),
    (r"(student|teacher)\.backbone\.mask_token", "the mask token, because no objective here masks"),
    (r"student\.feature_decoder\..+", "the decoder of masked feature prediction, no objective here"),
)
IMAGE_LEVEL_HEAD = (r"(student|teacher)\.dino_head\..+", "the head of the image-level DINO loss, no objective here")

TRAINING_OFFSET = 0.1
"""`interpolate_offset` of the reference's training."""


@dataclass(frozen=True)
class OriginalPreTraining:
    """The training state that was found in a checkpoint.

    Attributes:
        tensors: the weights under our names, the fused ones split.
        config: what shapes, options and the paper tell.
        encoders: `teacher` and `student` under the bare names of timm.
        left_out: what is not converted.
        settings: what the shapes do not tell: one line each, the value and where it is from.
        differences: one line each, in what the training will go on differently.
    """

    tensors: dict[str, torch.Tensor]
    config: SynCLRPreTrainingConfig
    encoders: dict[str, dict[str, torch.Tensor]]
    left_out: LeftOut
    settings: list[str]
    differences: list[str]


def convert_original_pretraining(
    checkpoint: Path | str, *, num_attention_heads: int | None = None
) -> SynCLRForPreTraining:
    """Convert a training checkpoint of SynCLR: student, EMA teacher, and the heads of its objectives.

    Temperatures, weights and stochastic depth come from the `args` of the file, or else from the paper. Positions of
    the local crops are interpolated as the reference trains (`interpolate_offset` 0.1). The optimizer starts anew.

    Args:
        checkpoint: path of a `.pth` or `.safetensors` file with `student.*` and `teacher.*`.
        num_attention_heads: as for `convert_original`.

    Returns:
        The model in float32 and in evaluation mode.

    Raises:
        UserInputError: as `convert_original`, and where the file holds no training state or other heads.
    """
    return build_pretraining(find_pretraining(read_original(checkpoint), num_attention_heads))


def build_pretraining(found: OriginalPreTraining) -> SynCLRForPreTraining:
    """Make the `SynCLRForPreTraining` of a training state that was found."""
    model = SynCLRForPreTraining(found.config)
    model.load_state_dict(found.tensors)
    return model.eval()


def find_pretraining(original: OriginalCheckpoint, num_attention_heads: int | None = None) -> OriginalPreTraining:
    """Find the training state in a checkpoint; arguments and errors of `convert_original_pretraining`."""
    if not all(f"{weights}.backbone.pos_embed" in original.tensors for weights in WEIGHTS):
        raise UserInputError(
            f"--pretraining: '{original.path}' holds no student and teacher; needed: a training checkpoint of "
            "SynCLR with student.* and teacher.*; leave --pretraining out for the encoder alone"
        )
    found = {weights: find_encoder(original, weights, num_attention_heads) for weights in WEIGHTS}
    objectives, known = _objectives(original)
    settings = []
    for objective in objectives:
        arguments, lines = objective_settings(original, objective["name"])
        objective |= arguments
        settings += lines
    rate, line = drop_path_rate(original, found["teacher"].config.hidden_size)
    encoder_config = copy.deepcopy(found["teacher"].config)
    encoder_config.interpolate_offset = TRAINING_OFFSET
    config = SynCLRPreTrainingConfig(encoder_config=encoder_config, objectives=objectives, student_drop_path_rate=rate)
    encoders = {weights: encoder.tensors for weights, encoder in found.items()}
    tensors, taken = _under_our_names(original, encoders, config)
    left_out = sort_out(original, [name for name in original.tensors if name not in taken], known)
    _check(original, tensors, config)
    return OriginalPreTraining(tensors, config, encoders, left_out, [*settings, line], differences(original))


def _objectives(original: OriginalCheckpoint) -> tuple[list[dict[str, Any]], tuple[tuple[str, str], ...]]:
    """Return the objectives that the heads belong to, as far as shapes tell, and what may lie beside them."""
    tensors, objectives = original.tensors, []
    projector, predictor = (
        [tensor for name, tensor in tensors.items() if name.startswith(f"student.{head}.mlp.") and tensor.ndim == 2]
        for head in ("proj", "pred")
    )
    if projector:
        sizes = {"head_hidden_size": projector[0].shape[0], "head_output_size": projector[-1].shape[0]}
        layers = {"projector_layers": len(projector), "predictor_layers": len(predictor)}
        objectives.append({"name": "multi_positive", **sizes, **layers})
    # Both DINO losses use one kind of head; each leaves a centre in the file.
    image_level = "dino_loss.center" in tensors and "ibot_loss.center" not in tensors
    head = [tensors.get(f"student.dino_head.{name}") for name in ("mlp.0.weight", "last_layer.weight_v")]
    if not image_level and all(tensor is not None and tensor.ndim == 2 for tensor in head):
        sizes = {"head_hidden_size": head[0].shape[0], "head_bottleneck_size": head[1].shape[1]}
        objectives.append({"name": "ibot", "num_prototypes": head[1].shape[0], **sizes})
    if not objectives:
        raise UserInputError(
            f"--pretraining: '{original.path}' holds no heads that are trained here (student.proj and student.pred, "
            "or student.dino_head with ibot_loss.center); leave --pretraining out for the encoder alone"
        )
    return objectives, (*NO_PART_OF_THE_TRAINING, IMAGE_LEVEL_HEAD) if image_level else NO_PART_OF_THE_TRAINING


def _under_our_names(
    original: OriginalCheckpoint, encoders: dict[str, dict[str, torch.Tensor]], config: SynCLRPreTrainingConfig
) -> tuple[dict[str, torch.Tensor], set[str]]:
    """Return the weights under our names, and the original names of what they were made of."""
    tensors, taken = {}, set()
    for weights, prefix in ENCODERS.items():
        used = dict(encoders[weights])
        if not config.encoder_config.use_mask_token:
            used.pop("mask_token", None)
        tensors |= {f"{prefix}{name}": tensor for name, tensor in renamed(used).items()}
        taken |= {f"{weights}.backbone.{name}" for name in used}
    objectives = {objective["name"] for objective in config.objectives}
    for name, tensor in original.tensors.items():
        for theirs, ours in HEADS.items():
            if name.startswith(theirs) and ours.split(".")[1] in objectives:
                tensors[name.replace(theirs, ours, 1)] = tensor
                taken.add(name)
    return tensors, taken


def _check(original: OriginalCheckpoint, tensors: dict[str, torch.Tensor], config: SynCLRPreTrainingConfig) -> None:
    """Compare with what the model will have; heads are told under their names in the file."""
    if config.encoder_config.use_mask_token and "synclr.embeddings.mask_token" not in tensors:
        raise UserInputError(
            f"--pretraining: '{original.path}' was trained without a mask token (--mask_style mae), which iBOT here "
            "needs; leave --pretraining out for the encoder alone"
        )
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in SynCLRForPreTraining(config).state_dict().items()}
    by_length = sorted(HEADS.items(), key=lambda pair: len(pair[1]), reverse=True)

    def original_name(name: str) -> str:
        return next((name.replace(ours, theirs, 1) for theirs, ours in by_length if name.startswith(ours)), name)

    try:
        check_tensors(
            original,
            {original_name(name): tensor for name, tensor in tensors.items()},
            {original_name(name): shape for name, shape in expected.items()},
        )
    except UserInputError as error:
        raise UserInputError(
            f"{error}, or, if its heads were trained otherwise (--contrast_mlp_norm bn, --dino_n_layers), "
            "leave --pretraining out for the encoder alone"
        ) from error
