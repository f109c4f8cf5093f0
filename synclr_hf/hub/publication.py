"""What a run publishes: the files of each repository, before anything is sent."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from synclr_hf.data.extension import RunSize, first_state
from synclr_hf.data.reading import check_complete
from synclr_hf.data.runs import RUN_FILE, noted_shards, read_record
from synclr_hf.data.shards import CARD_FOLDER, DATA_FOLDER
from synclr_hf.errors import UserInputError, unknown_name
from synclr_hf.evaluation.results import EvaluationResult, results_below
from synclr_hf.hub.evaluations import EVALUATIONS_DIR, card_with_results
from synclr_hf.hub.wheel import build_wheel

PARTS = ("encoder", "captions", "images")
ENCODER_TYPE = "synclr"
"""`model_type` of `SynCLRConfig`."""
MARK_FILE = "publication.json"
"""Says which run a repository was made from, so that another one does not write over it."""
CURVES_FILE = "curves.svg"
REPORT_FILES = ("report.json", "report.html", CURVES_FILE)
UNSAFE = "training_args.bin"
"""A pickle that the Trainer leaves; nothing here needs it."""


@dataclass
class PublishConfig:
    """What goes where.

    Args:
        to: `org/name` of the encoder's repository on the Hub.
        captions_to: of the captions; default: that name with `-captions`.
        images_to: of the pictures; default: that name with `-images`.
        parts: which of `encoder`, `captions`, `images`; default: those that the run holds.
        private: make new repositories private.
        with_optimizer: add the last checkpoint with optimizer, schedule and random state, to go on with the same run.
        replace: write over repositories that hold other things.

    Raises:
        UserInputError: a name that the Hub does not allow, or an unknown part.
    """

    to: str
    captions_to: str | None = None
    images_to: str | None = None
    parts: Sequence[str] = field(default_factory=tuple)
    private: bool = False
    with_optimizer: bool = False
    replace: bool = False

    def __post_init__(self) -> None:
        """Check the names, and complete those that were left out."""
        check_repo_id("--to", self.to)
        self.captions_to = self.captions_to or f"{self.to}-captions"
        self.images_to = self.images_to or f"{self.to}-images"
        check_repo_id("--captions-to", self.captions_to)
        check_repo_id("--images-to", self.images_to)
        for part in self.parts:
            if part not in PARTS:
                raise unknown_name("part", part, PARTS, f"--parts {' '.join(PARTS)}")


@dataclass(frozen=True)
class Repository:
    """One repository as it shall be.

    Attributes:
        repo_id: `org/name`.
        repo_type: `model` or `dataset`.
        mark: what tells the run it is made from from others.
        files: path in the repository -> a file here, or the content.
        option: the option that named it.
        checksums: path in the repository -> SHA-256 of the file, where it is known without reading the file.
    """

    repo_id: str
    repo_type: str
    mark: str
    files: Mapping[str, Path | bytes]
    option: str = "--to"
    checksums: Mapping[str, str] = field(default_factory=dict)

    def sizes(self) -> dict[str, int]:
        """Return the size of every file in bytes."""
        return {
            name: len(content) if isinstance(content, bytes) else content.stat().st_size
            for name, content in sorted(self.files.items())
        }


def check_repo_id(option: str, repo_id: str) -> None:
    """Refuse what the Hub would not take for `org/name`."""
    try:
        if str(repo_id).count("/") != 1:
            raise HFValidationError("one '/' is needed")
        validate_repo_id(repo_id)
    except HFValidationError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserInputError(
            f"{option} '{repo_id}' is no name for a repository ({reason}); allowed: org/name of letters, digits, "
            f"'-', '_' and '.'; type {option} my-name/synclr-vits16"
        ) from error


def plan_publication(run: str | Path, config: PublishConfig) -> list[Repository]:
    """Say what would be published; nothing is sent and nothing asked.

    Args:
        run: folder of a run (`encoder/`, `pretraining/`, `captions/`, `images/`, as far as they are there), or of an
            encoder alone.
        config: what goes where.

    Returns:
        The repositories, data sets first: the encoder's card names them.

    Raises:
        UserInputError: there is nothing to publish, or a part is missing or not finished.
    """
    run = Path(run).expanduser()
    folders = {part: run / part for part in PARTS}
    if _model_type(run) == ENCODER_TYPE:
        folders = {"encoder": run}
    present = [part for part, folder in folders.items() if (folder / _KEY_FILES[part]).is_file()]
    wanted = list(config.parts) or present
    for part in wanted:
        if part not in present:
            raise UserInputError(
                f"'{run}' holds no {part} (needed: {part}/{_KEY_FILES[part]}); type the folder of a finished run, "
                "e.g. outputs/quickstart"
            )
    if not wanted:
        raise UserInputError(
            f"'{run}' holds nothing to publish; type the folder of a run, e.g. outputs/quickstart, or of an encoder"
        )
    names = {"captions": config.captions_to, "images": config.images_to}
    datasets = {part: name for part, name in names.items() if part in wanted}
    roots = _local_roots(run)
    plan = [dataset_repository(folders[part], part, name, roots=roots) for part, name in datasets.items()]
    if "encoder" in wanted:
        plan.append(_encoder(run, folders["encoder"], config, datasets, roots))
    return plan


_KEY_FILES = {"encoder": "config.json", "captions": RUN_FILE, "images": RUN_FILE}


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
    files["README.md"] = published_card(folder, repo_id, roots)
    files[MARK_FILE] = mark_file(mark)
    notes = noted_shards(folder, RunSize.of(record))
    return Repository(repo_id, "dataset", mark, files, option, {note.file: note.sha256 for _, note in notes})


def dataset_mark(record: Mapping[str, Any]) -> str:
    """Return what tells the data set of a run from others; `record` is what its `run.json` says.

    An extended run is the same run.
    """
    return _mark(first_state(record))


def published_card(folder: Path, repo_id: str, roots: Sequence[str] = ()) -> bytes:
    """Return a stage's card as it stands on the Hub: with its name there, and no path of this machine."""
    card = (folder / "README.md").read_text(encoding="utf-8").replace("PATH_OR_HUB_ID", repo_id)
    roots = [*(roots or _local_roots(folder)), *_paths_of(read_record(folder))]
    return _without_roots(card, roots).encode()


def _shards(folder: Path) -> list[Path]:
    return sorted((folder / DATA_FOLDER).glob("*.parquet"))


def _encoder(
    run: Path, folder: Path, config: PublishConfig, datasets: Mapping[str, str], roots: Sequence[str]
) -> Repository:
    """Collect the encoder at the root, the pre-training model under `pretraining/`, log, report and wheel."""
    from safetensors import safe_open

    from synclr_hf.hub.cards import model_card
    from synclr_hf.models import SynCLRConfig
    from synclr_hf.training.continuation import published_configuration
    from synclr_hf.training.sources import HISTORY_FILE

    files: dict[str, Path | bytes] = {
        path.name: path for path in sorted(folder.iterdir()) if path.is_file() and path.name != "README.md"
    }
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise UserInputError(f"'{folder}' holds no model.safetensors; make it: type synclr export")
    pretraining = run / "pretraining"
    has_pretraining = (
        folder != run and (pretraining / HISTORY_FILE).is_file() and (pretraining / "model.safetensors").is_file()
    )
    if has_pretraining:
        for name in ("config.json", "model.safetensors", HISTORY_FILE):
            files[f"pretraining/{name}"] = pretraining / name
        configuration = read_record(pretraining)["configuration"]
        told = {"stage": "pretrain", "configuration": published_configuration(configuration)}
        files[f"pretraining/{RUN_FILE}"] = (json.dumps(told, indent=1, sort_keys=True) + "\n").encode()
        mark = _mark(configuration)
    else:
        mark = hashlib.sha256(weights.read_bytes()).hexdigest()[:32]
    if config.with_optimizer:
        files |= _training_state(pretraining)
    for name in REPORT_FILES if folder != run else ():
        if (run / name).is_file():
            files[name] = _without_roots((run / name).read_text(encoding="utf-8"), roots).encode()
    wheel_name, wheel = build_wheel()
    files[wheel_name] = wheel
    with safe_open(weights, framework="pt") as stored:
        shapes = [stored.get_slice(name).get_shape() for name in stored.keys()]  # noqa: SIM118 - it is no mapping
    if folder == run and (folder / "README.md").is_file():  # an encoder alone: its card knows where it comes from
        card = (
            (folder / "README.md").read_text(encoding="utf-8").replace(f'"{folder.resolve().name}"', f'"{config.to}"')
        )
    else:
        encoder = SynCLRConfig.from_pretrained(folder)
        card = model_card(
            encoder,
            where=config.to,
            num_parameters=sum(math.prod(shape) for shape in shapes),
            weights=getattr(encoder, "exported_weights", "teacher"),
            facts=json.loads(files["report.json"]) if "report.json" in files else None,
            datasets=datasets,
            has_pretraining=has_pretraining,
            curves=CURVES_FILE if CURVES_FILE in files else None,
        )
    files["README.md"] = card_with_results(card, _results(run, weights)).encode()
    files[MARK_FILE] = mark_file(mark)
    return Repository(config.to, "model", mark, files)


def _results(run: Path, weights: Path) -> list[EvaluationResult]:
    """Return what `synclr evaluate` found out about these very weights, if the run has such a folder."""
    folder = run / EVALUATIONS_DIR
    mark = hashlib.sha256(weights.read_bytes()).hexdigest()
    return [result for result in results_below(folder).values() if result.model["weights"] == mark]


def _training_state(pretraining: Path) -> dict[str, Path | bytes]:
    from synclr_hf.training import last_complete_checkpoint

    checkpoint = last_complete_checkpoint(pretraining) if pretraining.is_dir() else None
    if checkpoint is None:
        raise UserInputError(
            f"'{pretraining}' holds no checkpoint with the training state; leave --with-optimizer out, "
            "or train with save_steps"
        )
    return {
        f"pretraining/{checkpoint.name}/{path.name}": path
        for path in sorted(checkpoint.iterdir())
        if path.is_file() and path.name != UNSAFE
    }


def _model_type(folder: Path) -> str | None:
    try:
        return json.loads((folder / "config.json").read_text())["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _local_roots(run: Path) -> list[str]:
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


def _without_roots(text: str, roots: Sequence[str]) -> str:
    """Shorten the paths of this machine to what a reader elsewhere can use."""
    for root in roots:
        text = text.replace(root, Path(root).name)
    return text


def _mark(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def mark_file(mark: str) -> bytes:
    """Return the contents of `MARK_FILE`."""
    facts = {"run": mark, "made_with": f"synclr_hf {version('synclr-hf')}"}
    return (json.dumps(facts, indent=1) + "\n").encode()
