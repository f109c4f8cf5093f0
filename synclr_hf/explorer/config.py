"""What is shown: from what the user typed to an encoder and an index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from synclr_hf.errors import UserInputError
from synclr_hf.explorer.index.stage import PIXELS, UNTRAINED, IndexConfig

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


def run_index_config(run: object, **changes: object) -> IndexConfig:
    """Return the settings of a run's own index: its encoder, the same untrained, and raw pixels, to compare.

    Args:
        run: folder of the run.
        **changes: other settings of `IndexConfig`.
    """
    folder = Path(str(run))
    encoder = str(folder / "encoder")
    models = [encoder, f"{UNTRAINED}{encoder}", PIXELS]
    settings = {"model": models, "images": str(folder / "images"), "max_pictures": MOST_PICTURES, **changes}
    return IndexConfig(output_dir=str(folder / "index"), **settings)  # type: ignore[arg-type]


def _is_on_the_hub(repo_id: str) -> bool:
    from huggingface_hub import HfApi

    try:
        return HfApi().repo_exists(repo_id, repo_type="dataset")
    except Exception:  # offline, or the name of no repository: then there is none
        return False
