"""The files of a data set on the Hub: shards, card and its pictures, and what an index has beside them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from synclr_hf.data.extension import RunSize, first_state
from synclr_hf.data.reading import check_complete
from synclr_hf.data.runs import noted_shards, read_record
from synclr_hf.data.shards import CARD_FOLDER, DATA_FOLDER
from synclr_hf.hub.repository import MARK_FILE, Repository, mark_file, mark_of

_BESIDE = ("index.json", "cards/*.md", "faiss/*")
"""What an index has beside its shards."""


def dataset_repository(
    folder: Path, stage: str, repo_id: str, *, option: str = "--to", roots: Sequence[str] = ()
) -> Repository:
    """Say what of a stage's folder would be published: its shards, its card and the card's pictures.

    Args:
        folder: folder of a finished stage.
        stage: which one, e.g. `captions`.
        repo_id: `org/name` of the data set on the Hub.
        option: the option that named it, for errors.
        roots: paths of this machine that the card shall not show; default: that of the folder.

    Raises:
        UserInputError: the stage is not finished.
    """
    check_complete(folder, stage)
    record = read_record(folder)
    mark = dataset_mark(record)
    files: dict[str, Path | bytes] = {f"{DATA_FOLDER}/{path.name}": path for path in _shards(folder)}
    files |= {f"{CARD_FOLDER}/{path.name}": path for path in sorted((folder / CARD_FOLDER).glob("*.png"))}
    files |= {path.relative_to(folder).as_posix(): path for pattern in _BESIDE for path in folder.glob(pattern)}
    files["README.md"] = published_card(folder, repo_id, roots)
    files[MARK_FILE] = mark_file(mark)
    notes = noted_shards(folder, RunSize.of(record))
    return Repository(repo_id, "dataset", mark, files, option, {note.file: note.sha256 for _, note in notes})


def index_repository(folder: Path, repo_id: str, model: str, roots: Sequence[str] = ()) -> Repository:
    """Say what of a run's own index would be published: its encoder is called there as it is on the Hub.

    Args:
        folder: folder of the finished index.
        repo_id: `org/name` of the index on the Hub.
        model: `org/name` of the run's encoder on the Hub.
        roots: paths of this machine that the card shall not show.

    Raises:
        UserInputError: the index is not finished.
    """
    plain = dataset_repository(folder, "index", repo_id, option="--index-to", roots=roots)
    files = dict(plain.files)
    for name in ("index.json", "README.md"):
        content = files[name]
        text = content.decode() if isinstance(content, bytes) else content.read_text(encoding="utf-8")
        for quote in ('"', "`"):
            for before in ("", "untrained:"):
                text = text.replace(f"{quote}{before}encoder{quote}", f"{quote}{before}{model}{quote}")
        files[name] = text.encode()
    return replace(plain, files=files)


def dataset_mark(record: Mapping[str, Any]) -> str:
    """Return what tells the data set of a run from others; `record` is what its `run.json` says.

    An extended run is the same run.
    """
    return mark_of(first_state(record))


def published_card(folder: Path, repo_id: str, roots: Sequence[str] = ()) -> bytes:
    """Return a stage's card as it stands on the Hub: with its name there, and no path of this machine."""
    card = (folder / "README.md").read_text(encoding="utf-8").replace("PATH_OR_HUB_ID", repo_id)
    roots = [*(roots or local_roots(folder)), *_paths_of(read_record(folder))]
    return without_roots(card, roots).encode()


def _shards(folder: Path) -> list[Path]:
    return sorted((folder / DATA_FOLDER).glob("*.parquet"))


def local_roots(run: Path) -> list[str]:
    """Return the folders here whose names would stand in cards and reports, the longest first."""
    roots = {str(run), str(run.resolve())}
    try:
        roots.add(str(json.loads((run / "report.json").read_text())["config"]["output_dir"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return sorted((root for root in roots if root.startswith("/")), key=len, reverse=True)


def _paths_of(record: Mapping[str, Any]) -> list[str]:
    """Return the absolute paths among the settings of a run, the longest first."""
    words = [*map(str, record["configuration"].values()), *shlex.split(str(record.get("command", "")))]
    words = [re.sub(r"^[\w-]+:(?=/(?!/))", "", word) for word in words]  # of a back end: diffusers:/a/folder
    return sorted({word for word in words if word.startswith("/") and len(word) > 1}, key=len, reverse=True)


def without_roots(text: str, roots: Sequence[str]) -> str:
    """Shorten the paths of this machine to what a reader elsewhere can use."""
    for root in roots:
        text = text.replace(root, Path(root).name)
    return text
