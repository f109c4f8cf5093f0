"""Finds a saved `SynCLRForPreTraining` to go on from: in a folder, or on the Hub."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

from synclr_hf.data.runs import RUN_FILE
from synclr_hf.errors import UserInputError
from synclr_hf.models import SynCLRConfig

from .checkpoints import last_complete_checkpoint
from .configuration_pretraining import SynCLRPreTrainingConfig

HISTORY_FILE = "history.json"
"""The Trainer's log, written last: a folder that holds it is finished."""
SUBFOLDER = "pretraining"
"""Where the pre-training model lies in the folder of a run, and in a repository that was published from one."""
WEIGHTS = "model*.safetensors*"
"""The weights, and the list of their parts where there are several."""

_FACTS = ("config.json", RUN_FILE, HISTORY_FILE)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WHAT_HOLDS_ONE = "the folder of synclr pretrain, of synclr run, of synclr convert --pretraining, or a Hub id org/name"


def find_source(source: str | Path, *, with_weights: bool = True) -> Path:
    """Return the folder of the pre-training model that a path or a Hub id stands for.

    Args:
        source: a folder with the model in it or under `pretraining/`, a checkpoint of the Trainer, or `org/name` of a
            repository with the same contents.
        with_weights: `False` downloads what is known about the weights only.

    Raises:
        UserInputError: nothing is there, the Hub cannot be reached, or it is something else, such as an encoder alone.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _pretraining_in(folder, str(source))
    if folder.exists() or not _HUB_ID.fullmatch(str(source)):
        kind = "is a file" if folder.exists() else "does not exist"
        raise UserInputError(
            f"initial weights '{source}': this {kind}; allowed: {_WHAT_HOLDS_ONE}; type --from FOLDER"
        )
    repo_id = str(source)
    root = _download(repo_id, [*_FACTS, *(f"{SUBFOLDER}/{name}" for name in _FACTS)])
    if with_weights:
        prefix = f"{SUBFOLDER}/" if _model_type(root) != SynCLRPreTrainingConfig.model_type else ""
        root = _download(repo_id, [f"{prefix}{WEIGHTS}"])
    return _pretraining_in(root, repo_id, with_weights=with_weights)


def encoder_address(source: str) -> str:
    """Return what `SynCLRModel.from_pretrained` takes to read the teacher: a folder, or the Hub id itself."""
    return str(find_source(source)) if Path(source).expanduser().is_dir() else source


def read_facts(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what is told beside a saved model: the configuration of its run, and its log; empty where it is not.

    Args:
        folder: what `find_source` returned; a checkpoint is told about in the folder around it.
    """
    is_checkpoint = folder.name.startswith("checkpoint-")
    record = _read_json((folder.parent if is_checkpoint else folder) / RUN_FILE)
    configuration = record.get("configuration") if isinstance(record, dict) else None
    state = _read_json(folder / "trainer_state.json") if is_checkpoint else None
    history = state.get("log_history") if isinstance(state, dict) else _read_json(folder / HISTORY_FILE)
    return configuration or {}, history or []


def weights_fingerprint(folder: Path) -> str:
    """Return a checksum over the files of the weights, the same wherever they lie."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("model*.safetensors")):
        with open(path, "rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:32]


def _pretraining_in(root: Path, source: str, *, with_weights: bool = True) -> Path:
    """Return `root` or its `pretraining/`, whichever holds the model."""
    for folder in (root, root / SUBFOLDER):
        if _model_type(folder) == SynCLRPreTrainingConfig.model_type:
            if with_weights and not any(folder.glob(WEIGHTS)):
                raise UserInputError(
                    f"initial weights '{source}': no {WEIGHTS} beside the configuration; save it again"
                )
            return folder
        checkpoint = last_complete_checkpoint(folder)
        if checkpoint is not None:
            raise UserInputError(
                f"initial weights '{source}': the training there is not finished; finish it, or go on from its last "
                f"checkpoint: type --from {checkpoint}"
            )
    kind = _model_type(root)
    if kind == SynCLRConfig.model_type:
        raise UserInputError(
            f"initial weights '{source}': this holds an encoder only; heads and teacher are needed: look for "
            f"{SUBFOLDER}/ beside it, or type {_WHAT_HOLDS_ONE}"
        )
    found = f"a model of the type '{kind}'" if kind else "no model"
    raise UserInputError(f"initial weights '{source}': this holds {found}; allowed: {_WHAT_HOLDS_ONE}")


def _download(repo_id: str, patterns: list[str]) -> Path:
    try:
        return Path(snapshot_download(repo_id, allow_patterns=patterns, library_name="synclr_hf"))
    except (HfHubHTTPError, HTTPError, HFValidationError, OSError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise UserInputError(
            f"initial weights '{repo_id}': there is no such folder, and it cannot be loaded from the Hub ({reason}); "
            f"allowed: {_WHAT_HOLDS_ONE}"
        ) from error


def _model_type(folder: Path) -> str | None:
    config = _read_json(folder / "config.json")
    return config.get("model_type") if isinstance(config, dict) else None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
