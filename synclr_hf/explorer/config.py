"""What is shown: from what the user typed to an encoder and an index."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synclr_hf.data.settings import settings_from
from synclr_hf.errors import UserInputError
from synclr_hf.explorer.index.stage import PIXELS, UNTRAINED, IndexConfig

SPACE_FILE = "explorer.json"
"""Beside the `app.py` of a Space: names its model and index."""
MOST_PICTURES = 4000
"""Of the index that a run makes of its own pictures."""


@dataclass(frozen=True)
class ExplorerConfig:
    """What is shown.

    Attributes:
        model: the encoder: a folder or a Hub id.
        index: folder or Hub id of an index; `None`: there is none, and only PCA maps can be looked at.
        may_build: how an index can be built where there is none, on the page too; `None`: not here.
    """

    model: str
    index: str | None = None
    may_build: IndexConfig | None = None

    @property
    def model_name(self) -> str:
        """What the page calls the model: a Hub id, or the last two parts of a folder's path, never more of it."""
        return "/".join(part for part in self.model.rstrip("/").split("/")[-2:] if part not in ("", ".", ".."))


def run_config(run: str, *, index: str | None = None, find: Callable[[str], bool] | None = None) -> ExplorerConfig:
    """Say what `synclr demo RUN_OR_HUB_ID` shows.

    Args:
        run: folder of a run with `encoder/`, folder of an encoder alone, or a Hub id.
        index: folder or Hub id of an index; default: `index/` of the run, or ID-index on the Hub if it is there.
        find: tells whether a data set is on the Hub; default: asks it.

    Raises:
        UserInputError: there is no encoder.
    """
    folder = Path(run).expanduser()
    if not folder.exists():
        if run.startswith((".", "/", "~")) or run.count("/") > 1:
            raise UserInputError(
                f"there is no folder '{run}'; type the folder of a run, e.g. outputs/quickstart, of an encoder, or "
                "ORG/NAME on the Hub"
            )
        if index is None and (find or _is_on_the_hub)(f"{run}-index"):
            index = f"{run}-index"
        return ExplorerConfig(run, index)
    if (folder / "encoder" / "config.json").is_file():
        model, own = folder / "encoder", folder / "index"
        if index is None and (own / "run.json").is_file():
            index = str(own)
        build = None
        if index is None and (folder / "images" / "run.json").is_file():
            build = run_index_config(folder)
        return ExplorerConfig(str(model), index, build)
    if (folder / "config.json").is_file():
        return ExplorerConfig(str(folder), index)
    raise UserInputError(
        f"'{run}' holds no encoder (needed: encoder/config.json or config.json); type the folder of a finished run, "
        "e.g. outputs/quickstart, of an encoder, or ORG/NAME on the Hub"
    )


def run_index_config(run: str | Path, entries: Mapping[str, Any] | None = None) -> IndexConfig:
    """Return the settings of a run's own index: its encoder, the same untrained, and raw pixels, to compare.

    Args:
        run: folder of the run.
        entries: other settings of `IndexConfig`, as a recipe has them.

    Raises:
        UserInputError: an entry that there is not, or one that cannot be used.
    """
    folder = Path(run)
    encoder = str(folder / "encoder")
    settings = {
        "output_dir": str(folder / "index"),
        "model": [encoder, f"{UNTRAINED}{encoder}", PIXELS],
        "images": str(folder / "images"),
        "max_pictures": MOST_PICTURES,
    }
    return settings_from(IndexConfig, {**settings, **(entries or {})}, "index")


def _is_on_the_hub(repo_id: str) -> bool:
    from huggingface_hub import HfApi

    try:
        return HfApi().repo_exists(repo_id, repo_type="dataset")
    except Exception:  # offline, or the name of no repository: then there is none
        return False


def space_config(folder: Path) -> ExplorerConfig:
    """Say what a Space shows: what the variables `MODEL` and `INDEX` name, else what `explorer.json` says.

    Args:
        folder: where the Space's files lie.

    Raises:
        UserInputError: no model is named.
    """
    try:
        told = json.loads((folder / SPACE_FILE).read_text(encoding="utf-8"))
        model, index = told.get("model"), told.get("index")
    except (OSError, ValueError, AttributeError):
        model = index = None
    if os.environ.get("MODEL"):
        model, index = os.environ["MODEL"], None
    index = os.environ.get("INDEX") or index
    if not model:
        raise UserInputError(f"no model is named; write {SPACE_FILE}, or set the variable MODEL of the Space")
    return ExplorerConfig(model, index)
