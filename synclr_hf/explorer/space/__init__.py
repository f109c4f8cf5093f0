"""The repository of a Space that shows an encoder: a page, its settings, and this package as it is installed here.

The package is on no index, and requirements.txt is installed before the other files of a Space are there; so it lies
unpacked beside `app.py`, where Python finds it first, and requirements.txt lists what it needs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib import resources

from huggingface_hub import HfApi, SpaceCardData

from synclr_hf.errors import UserInputError
from synclr_hf.explorer.config import SPACE_FILE
from synclr_hf.hub.patience import client, patiently
from synclr_hf.hub.repository import MARK_FILE, Repository, check_repo_id, mark_file
from synclr_hf.hub.sending import send_all
from synclr_hf.hub.wheel import requirements, wheel_files

GRADIO = "6.31.0"
"""Version of gradio that the Space runs."""


@dataclass(frozen=True)
class SpaceConfig:
    """What a Space shows, and where it goes.

    Attributes:
        space: `org/name` of the Space.
        model: `org/name` of the encoder on the Hub.
        index: `org/name` of the index on the Hub; `None`: PCA maps only.
        private: make a new Space private.
        replace: write over a Space that holds other things.
    """

    space: str
    model: str
    index: str | None = None
    private: bool = False
    replace: bool = False

    def __post_init__(self) -> None:
        """Refuse what the Hub does not take for names (`UserInputError`)."""
        check_repo_id("--space", self.space)


def page_files(config: SpaceConfig) -> dict[str, bytes]:
    """Return the files of the page: `app.py`, `README.md`, `requirements.txt`, `explorer.json`."""
    folder = resources.files("synclr_hf.explorer.space")
    told = {"model": config.model, "index": config.index}
    return {
        "app.py": (folder / "app.py").read_bytes(),
        "README.md": (_front_matter(config) + (folder / "README.md").read_text(encoding="utf-8")).encode(),
        "requirements.txt": ("\n".join(requirements("space")) + "\n").encode(),
        SPACE_FILE: (json.dumps(told, indent=1) + "\n").encode(),
    }


def space_repository(config: SpaceConfig) -> Repository:
    """Say what the Space's repository would hold; nothing is sent and nothing asked."""
    mark = sha256(f"space of {config.model}".encode()).hexdigest()[:32]
    files = {**wheel_files(), **page_files(config), MARK_FILE: mark_file(mark)}
    return Repository(config.space, "space", mark, files, "--space")


def publish_space(config: SpaceConfig, *, api: HfApi | None = None) -> tuple[str, Sequence[str]]:
    """Put the Space on the Hub, behind what it shows.

    Args:
        config: what it shows.
        api: a client with an endpoint or a token of its own; default: those of the environment.

    Returns:
        Its address, and lines that its owner should read.

    Raises:
        UserInputError: the model or the index is not on the Hub, no right to write, or other things lie there.
    """
    api = api or client()
    notes = []
    if not patiently(config.model, lambda: api.repo_exists(config.model)):
        raise UserInputError(
            f"there is no model '{config.model}' on the Hub for the Space to show; publish it first: type synclr "
            f"publish RUN --to {config.model}"
        )
    index = config.index
    if index is not None and not patiently(index, lambda: api.repo_exists(index, repo_type="dataset")):
        raise UserInputError(
            f"there is no index '{index}' on the Hub for the Space to show; make one: type synclr index --model "
            f"{config.model} --images IMAGES --output-dir FOLDER --push-to-hub {index}"
        )
    for name, kind in ((config.model, "model"), (index, "dataset")):
        if name is not None and patiently(name, partial(api.repo_info, name, repo_type=kind)).private:
            notes.append(f"'{name}' is private: give the Space a secret HF_TOKEN that may read it")
    if index is None:
        notes.append("without an index the Space shows PCA maps only; build one with synclr index")
    plan = [space_repository(config)]
    return send_all(plan, api, private=config.private, replace=config.replace)[0], notes


def _front_matter(config: SpaceConfig) -> str:
    shown = [config.model, *([config.index] if config.index else [])]
    card = SpaceCardData(
        title="SynCLR explorer",
        emoji="🔎",
        colorFrom="green",
        colorTo="blue",
        sdk="gradio",
        sdk_version=GRADIO,
        python_version="3.12",
        app_file="app.py",
        license="apache-2.0",
        short_description="What an encoder sees that learned from made pictures",
        models=[config.model],
        datasets=[config.index] if config.index else None,
        preload_from_hub=shown,
        suggested_hardware="cpu-basic",
        tags=["synclr", "image-search", "visualization"],
    )
    return f"---\n{card.to_yaml()}\n---\n\n"
