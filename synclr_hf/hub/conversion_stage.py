"""A whole conversion: read, convert, write, load again, compare with the original weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import Dinov2Model, PreTrainedModel

from synclr_hf.errors import UserInputError
from synclr_hf.models import SynCLRConfig, SynCLRModel
from synclr_hf.training import SynCLRForPreTraining

from .cards import model_card
from .conversion import LeftOut, OriginalEncoder, build_encoder, find_encoder
from .dinov2 import save_dinov2
from .export import checked_empty_folder, checked_encoder_folder, whole_folder, write_encoder_folder
from .original_checkpoint import OriginalCheckpoint, read_original
from .original_encoder import feature_difference
from .pretraining_conversion import OriginalPreTraining, build_pretraining, find_pretraining

LARGEST_DIFFERENCE = 1e-6
"""Of features, which are of order 1, in float64; in float32 rounding grows with the weights, so it is told only."""

BESIDE_THE_WEIGHTS = "state of the training run beside the weights; a training here starts its optimizer anew"

ORIGIN = """\
converted from `{file}`, a checkpoint in the format of the authors' code of SynCLR
([arXiv 2312.17742](https://arxiv.org/abs/2312.17742)) and StableRep
([arXiv 2306.00984](https://arxiv.org/abs/2306.00984)). {which}"""

DATA = """\
The file does not state it; what its authors say of it applies, and their terms. The image processor removes mean and
deviation of ImageNet, as the authors' training code does; their fine-tuning code of SynCLR removes those of CLIP."""


@dataclass
class ConversionReport:
    """What a conversion found, wrote and measured.

    Attributes:
        config: the encoder's configuration.
        left_out: reason -> names in the file that were not converted.
        settings: what of the training state was not in the weights, one line each.
        differences: in what a training will go on differently, one line each.
        folders: what was written: `encoder` or `pretraining`, and `dinov2`.
        feature_differences: part -> largest absolute difference of its features to those of the original weights, in
            float32.
    """

    config: SynCLRConfig
    left_out: LeftOut
    settings: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    folders: dict[str, Path] = field(default_factory=dict)
    feature_differences: dict[str, float] = field(default_factory=dict)


def convert_checkpoint(
    checkpoint: Path | str,
    output_dir: Path | str,
    *,
    pretraining: bool = False,
    weights: str | None = None,
    dinov2_dir: Path | str | None = None,
    num_attention_heads: int | None = None,
) -> ConversionReport:
    """Convert a checkpoint of the authors' code to folders that transformers loads, and measure the result.

    Args:
        checkpoint: path of the file.
        output_dir: folder of the encoder, or of the whole `SynCLRForPreTraining`.
        pretraining: whether to write the latter; the file must be a training checkpoint.
        weights: `teacher` (default) or `student`, where the file holds both and the encoder is written.
        dinov2_dir: folder of a copy of the encoder (with `pretraining`: of the teacher) in the layout of Dinov2.
        num_attention_heads: where the width does not tell.

    Raises:
        UserInputError: the file or a folder cannot be used; nothing is written then.
        RuntimeError: the features of what was written differ from the original ones.
    """
    if pretraining and weights is not None:
        raise UserInputError(f"--weights {weights} with --pretraining, which keeps both; leave one of them out")
    folder = checked_empty_folder(output_dir, "--output-dir") if pretraining else checked_encoder_folder(output_dir)
    dinov2_folder = None if dinov2_dir is None else checked_empty_folder(dinov2_dir, "--dinov2")
    if dinov2_folder and (dinov2_folder.is_relative_to(folder) or folder.is_relative_to(dinov2_folder)):
        raise UserInputError(f"--dinov2 '{dinov2_folder}' and --output-dir '{folder}'; type two folders side by side")
    if Path(checkpoint).expanduser().resolve().is_relative_to(folder):
        raise UserInputError(f"--output-dir '{folder}' holds the checkpoint; type the name of a new or empty folder")
    original = read_original(checkpoint)
    state = find_pretraining(original, num_attention_heads) if pretraining else None
    encoder = find_encoder(original, weights or "teacher", num_attention_heads)
    report = ConversionReport(encoder.config, encoder.left_out)
    if state is not None:
        report = ConversionReport(encoder.config, state.left_out, state.settings, state.differences)
    if original.other_entries:
        report.left_out[BESIDE_THE_WEIGHTS] = list(original.other_entries)
    if dinov2_folder is not None:
        report.folders["dinov2"] = save_dinov2(build_encoder(encoder), dinov2_folder)
        copy = Dinov2Model.from_pretrained(dinov2_folder)
        report.feature_differences["dinov2"] = _compared("dinov2", encoder.tensors, copy)
    if state is not None:
        _write_pretraining(state, folder, report)
    else:
        _write_encoder(original, encoder, folder, weights or "teacher", report)
    return report


def _compared(part: str, weights: dict[str, torch.Tensor], model: PreTrainedModel) -> float:
    """Return the difference of features in float32, and make sure in float64 that it is one of rounding."""
    told, exact = (feature_difference(weights, model, dtype) for dtype in (torch.float32, torch.float64))
    if not exact <= LARGEST_DIFFERENCE:
        raise RuntimeError(f"the features of the {part} that was written differ by {exact} from the original ones")
    return told


def _write_encoder(
    original: OriginalCheckpoint, encoder: OriginalEncoder, folder: Path, weights: str, report: ConversionReport
) -> None:
    """Write the encoder's folder and load it again."""
    which = "The file held one encoder."
    if f"{weights}.backbone.pos_embed" in original.tensors:
        which = f"These are the weights of the {weights}."
    model = build_encoder(encoder)
    origin = ORIGIN.format(file=original.path.name, which=which)
    count = model.num_parameters()
    card = model_card(model.config, where=folder.name, num_parameters=count, origin=origin, data=DATA)
    write_encoder_folder(model, folder, card=card)
    report.folders["encoder"] = folder
    loaded = SynCLRModel.from_pretrained(folder)
    report.feature_differences["encoder"] = _compared("encoder", encoder.tensors, loaded)


def _write_pretraining(state: OriginalPreTraining, folder: Path, report: ConversionReport) -> None:
    """Write the whole training state and load it again."""
    with whole_folder(folder) as unfinished:
        build_pretraining(state).save_pretrained(unfinished)
    report.folders["pretraining"] = folder
    loaded = SynCLRForPreTraining.from_pretrained(folder)
    for weights, model in {"teacher": loaded.synclr, "student": loaded.student}.items():
        report.feature_differences[weights] = _compared(weights, state.encoders[weights], model)
