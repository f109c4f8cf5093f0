"""What a run publishes: the files of each repository, before anything is sent."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from synclr_hf.data.runs import RUN_FILE, read_record
from synclr_hf.errors import UserInputError, unknown_name
from synclr_hf.evaluation.results import EvaluationResult, results_below
from synclr_hf.hub.dataset_files import dataset_repository, index_repository, local_roots, without_roots
from synclr_hf.hub.evaluations import EVALUATIONS_DIR, card_with_results
from synclr_hf.hub.repository import MARK_FILE, Repository, check_repo_id, mark_file, mark_of
from synclr_hf.hub.wheel import build_wheel

PARTS = ("encoder", "captions", "images", "index")
ENCODER_TYPE = "synclr"
"""`model_type` of `SynCLRConfig`."""
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
        index_to: of the index of pictures; default: that name with `-index`.
        space: `org/name` of a Space that shows the encoder; none by default.
        parts: which of `encoder`, `captions`, `images`, `index`; default: those that the run holds.
        private: make new repositories private.
        with_optimizer: add the last checkpoint with optimizer, schedule and random state, to go on with the same run.
        replace: write over repositories that hold other things.

    Raises:
        UserInputError: a name that the Hub does not allow, or an unknown part.
    """

    to: str
    captions_to: str | None = None
    images_to: str | None = None
    index_to: str | None = None
    space: str | None = None
    parts: Sequence[str] = field(default_factory=tuple)
    private: bool = False
    with_optimizer: bool = False
    replace: bool = False

    def __post_init__(self) -> None:
        """Check the names, and complete those that were left out."""
        check_repo_id("--to", self.to)
        self.captions_to = self.captions_to or f"{self.to}-captions"
        self.images_to = self.images_to or f"{self.to}-images"
        self.index_to = self.index_to or f"{self.to}-index"
        check_repo_id("--captions-to", self.captions_to)
        check_repo_id("--images-to", self.images_to)
        check_repo_id("--index-to", self.index_to)
        if self.space is not None:
            check_repo_id("--space", self.space)
        for part in self.parts:
            if part not in PARTS:
                raise unknown_name("part", part, PARTS, f"--parts {' '.join(PARTS)}")


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
    roots = local_roots(run)
    plan = [dataset_repository(folders[part], part, name, roots=roots) for part, name in datasets.items()]
    if "index" in wanted:
        plan.append(index_repository(folders["index"], str(config.index_to), config.to, roots))
    if "encoder" in wanted:
        plan.append(_encoder(run, folders["encoder"], config, datasets, roots))
    return plan


_KEY_FILES = {"encoder": "config.json", "captions": RUN_FILE, "images": RUN_FILE, "index": RUN_FILE}


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
        mark = mark_of(configuration)
    else:
        mark = hashlib.sha256(weights.read_bytes()).hexdigest()[:32]
    if config.with_optimizer:
        files |= _training_state(pretraining)
    for name in REPORT_FILES if folder != run else ():
        if (run / name).is_file():
            files[name] = without_roots((run / name).read_text(encoding="utf-8"), roots).encode()
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
