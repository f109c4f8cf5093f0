"""Which checkpoints of a run folder are whole."""

from __future__ import annotations

import json
import logging
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

logger = logging.getLogger(__name__)


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step of a checkpoint's folder."""
    return int(checkpoint.name.rpartition("-")[2])


def last_complete_checkpoint(folder: Path) -> Path | None:
    """Find the newest checkpoint that is whole; the Trainer's state is the last file of one.

    A killed process leaves one without that state; a machine that lost its power can leave one with files cut short.
    """
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    for checkpoint in sorted(found, key=step_of, reverse=True):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
        except (OSError, ValueError):
            continue
        cut = sorted(path.name for path in checkpoint.iterdir() if _is_cut(path))
        if not cut:
            return checkpoint
        logger.warning("%s is passed over: %s cannot be read to the end", checkpoint, ", ".join(cut))
    return None


def _is_cut(path: Path) -> bool:
    """Say whether a file of tensors lacks its end."""
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt"):
                return False
        except SafetensorError:
            return True
    return path.suffix in (".pt", ".pth") and not zipfile.is_zipfile(path)
