"""Writes an encoder so that it loads everywhere: weights, configuration, image processor, remote code, card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import BitImageProcessorPil
from transformers.image_utils import PILImageResampling

import synclr_hf.models
from synclr_hf.data.pictures import IMAGENET_MEAN, IMAGENET_STD
from synclr_hf.errors import UserInputError
from synclr_hf.hub.cards import model_card
from synclr_hf.models import SynCLRModel
from synclr_hf.training import SynCLRForPreTraining, SynCLRPreTrainingConfig

REMOTE_CODE = ("configuration_synclr.py", "modeling_synclr.py")
AUTO_MAP = {
    "AutoConfig": "configuration_synclr.SynCLRConfig",
    "AutoModel": "modeling_synclr.SynCLRModel",
    "AutoModelForImageClassification": "modeling_synclr.SynCLRForImageClassification",
    "AutoBackbone": "modeling_synclr.SynCLRBackbone",
}
WEIGHTS = ("teacher", "student")


def image_processor(image_size: int) -> BitImageProcessorPil:
    """Make the processor of an encoder: bicubic to the short side, centre crop, ImageNet mean and deviation."""
    return BitImageProcessorPil(
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
        resample=PILImageResampling.BICUBIC,
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
    )


def export_encoder(
    pretraining_dir: Path | str,
    output_dir: Path | str,
    *,
    weights: str = "teacher",
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write the encoder of a saved pre-training model to a folder that `AutoModel.from_pretrained` reads.

    Args:
        pretraining_dir: folder of a saved `SynCLRForPreTraining`.
        output_dir: folder to write; replaced as a whole, so that a killed export leaves no half of one.
        weights: `teacher` (the moving average, default) or `student`.
        facts: what the report of the run says (`report.json`), for the card; `None`: nothing is known.

    Raises:
        UserInputError: if `weights` is neither, `pretraining_dir` holds no pre-training model, or `output_dir` holds
            anything but an earlier export.
    """
    if weights not in WEIGHTS:
        raise UserInputError(f"weights '{weights}'; allowed: {', '.join(WEIGHTS)}; type --weights teacher")
    output_dir = checked_encoder_folder(output_dir)
    pretraining = SynCLRForPreTraining.from_pretrained(_checked_pretraining(pretraining_dir))
    encoder: SynCLRModel = pretraining.synclr if weights == "teacher" else pretraining.student
    encoder.config.exported_weights = weights
    card = model_card(
        encoder.config,
        where=output_dir.name,
        num_parameters=encoder.num_parameters(),
        weights=weights,
        facts=facts,
    )
    return write_encoder_folder(encoder, output_dir, card=card)


def write_encoder_folder(encoder: SynCLRModel, output_dir: Path, *, card: str) -> Path:
    """Write an encoder with its processor, its remote code and its card.

    Args:
        encoder: its configuration becomes that of an export: no stochastic depth, positions interpolated by size.
        output_dir: what `checked_encoder_folder` returned; replaced as a whole.
        card: text of `README.md`.
    """
    encoder.config.drop_path_rate = 0.0
    encoder.config.interpolate_offset = 0.0
    encoder.config.auto_map = dict(AUTO_MAP)
    encoder.config.architectures = ["SynCLRModel"]
    with whole_folder(output_dir) as unfinished:
        encoder.save_pretrained(unfinished)
        image_processor(encoder.config.image_size).save_pretrained(unfinished)
        for name in REMOTE_CODE:
            shutil.copyfile(Path(synclr_hf.models.__file__).parent / name, unfinished / name)
        (unfinished / "README.md").write_text(card)
    return output_dir


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a folder beside `folder` to write to; it takes its place at the end, so that no half of one is left."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _checked_pretraining(folder: Path | str) -> Path:
    """Return the folder if a finished pre-training model is in it."""
    folder = Path(folder).expanduser()
    try:
        kind = json.loads((folder / "config.json").read_text())["model_type"]
    except (OSError, ValueError, KeyError):
        kind = None
    if kind != SynCLRPreTrainingConfig.model_type or not (folder / "model.safetensors").is_file():
        raise UserInputError(
            f"--pretraining '{folder}' holds no finished pre-training model; "
            "type the folder that synclr pretrain wrote"
        )
    return folder


def checked_empty_folder(folder: Path | str, option: str) -> Path:
    """Return the whole path of a folder that is new or empty.

    Raises:
        UserInputError: if there is something in it, or a file of that name.
    """
    folder = Path(folder).expanduser().resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserInputError(f"{option} '{folder}' holds other things; type the name of a new or empty folder")
    return folder


def checked_encoder_folder(folder: Path | str) -> Path:
    """Return the whole path of a folder that is new, empty, or an encoder that was written here before.

    Raises:
        UserInputError: if it holds anything else.
    """
    folder = Path(folder).expanduser().resolve()
    try:
        ours = json.loads((folder / "config.json").read_text())["auto_map"]["AutoConfig"] == AUTO_MAP["AutoConfig"]
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    return folder if ours else checked_empty_folder(folder, "--output-dir")
