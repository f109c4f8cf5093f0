"""The evaluation stage: protocols on data sets for encoders, one file each, nothing asked twice."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext, EvaluationData
from synclr_hf.evaluation.encoding.encoders import PIXELS, UNTRAINED, Encoder
from synclr_hf.evaluation.labelled.masked_images import MaskedImages
from synclr_hf.evaluation.protocols import protocol
from synclr_hf.evaluation.results import EvaluationResult, question_of, read_result

CODE_VERSION = 1
"""Raised whenever the same settings would give other numbers."""
SIDES = ("train", "validation", "test")


@dataclass(frozen=True)
class Job:
    """One data set and the protocols to evaluate on it, in their order.

    Attributes:
        dataset: as typed: a benchmark, a folder, a Hub id, or `BENCHMARK=FOLDER_OR_ID`.
        protocols: names in the registry.
    """

    dataset: str
    protocols: tuple[str, ...]


@dataclass(frozen=True)
class EvaluationPlan:
    """What is evaluated, how, and where the files go.

    Attributes:
        models: as typed; one after the other, each is loaded once.
        jobs: the data sets and protocols.
        output_dir: the files are `MODEL/DATASET/PROTOCOL.json` below it; computed features lie in `features/`.
        load_encoder: from a name to the encoder.
        load_data: from a name to the data.
        settings: protocol -> its `Config`; the defaults where it is not named.
        seed: of everything that is random.
        replace: write over results of other settings.
        machine: what the numbers are made on.
        versions: package -> version.
    """

    models: Sequence[str]
    jobs: Sequence[Job]
    output_dir: Path
    load_encoder: Callable[[str], Encoder]
    load_data: Callable[[str], EvaluationData]
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    replace: bool = False
    machine: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse unknown protocols, and names whose files would take each other's places."""
        for job in self.jobs:
            for name in job.protocols:
                protocol(name)
        for option, names in (("--model", self.models), ("--dataset", [job.dataset for job in self.jobs])):
            places: dict[str, str] = {}
            for name in names:
                if (other := places.setdefault(_slug(name), name)) != name:
                    raise UserInputError(
                        f"{option} {other} and {option} {name} would both be written to {_slug(name)}; "
                        "evaluate them one after the other, with another --output"
                    )


@dataclass(frozen=True)
class Answer:
    """What came of one protocol on one data set for one model.

    Attributes:
        what: the three names.
        file: where the result lies.
        result: the numbers, or `None` if it failed.
        failure: why it failed, one line.
    """

    what: str
    file: Path
    result: EvaluationResult | None = None
    failure: str = ""


def run_evaluations(plan: EvaluationPlan) -> Iterator[Answer]:
    """Evaluate every model by every job; what is there already is read, what fails does not stop the rest.

    Raises:
        UserInputError: the only model cannot be loaded.
    """
    loaded: dict[str, EvaluationData | UserInputError] = {}
    for model in plan.models:
        try:
            encoder = plan.load_encoder(model)
        except UserInputError as error:
            if len(plan.models) == 1:
                raise
            yield Answer(model, plan.output_dir / _slug(model), failure=str(error))
            continue
        for job in plan.jobs:
            if job.dataset not in loaded:
                try:
                    loaded[job.dataset] = plan.load_data(job.dataset)
                except UserInputError as error:
                    loaded[job.dataset] = error
            names = Path(_slug(model), _slug(job.dataset))
            place = plan.output_dir / names
            data = loaded[job.dataset]
            if isinstance(data, UserInputError):
                yield Answer(f"{model} on {job.dataset}", place, failure=str(data))
                continue
            folders = plan.output_dir / "features", plan.output_dir / "work" / names
            context = EvaluationContext(encoder, data, plan.seed, *folders)
            for name in job.protocols:
                what, file = f"{name} of {model} on {job.dataset}", place / f"{name}.json"
                config = plan.settings.get(name) or protocol(name).config_class()()
                try:
                    yield Answer(what, file, _answer(_Question(name, config, context), file, plan))
                except UserInputError as error:
                    yield Answer(what, file, failure=str(error))
                except torch.OutOfMemoryError:
                    fix = f"type a smaller --batch-size than {encoder.batch_size}, or look at --explain {name}"
                    yield Answer(what, file, failure=f"the memory of {encoder.model.device} is not enough; {fix}")
            _remove_empty(folders[1], below=plan.output_dir)


def _remove_empty(folder: Path, below: Path) -> None:
    """Remove a folder and those around it that hold nothing; checkpoints of what was stopped stay."""
    while folder != below:
        if folder.is_dir():
            try:
                folder.rmdir()
            except OSError:  # not empty
                return
        folder = folder.parent


@dataclass(frozen=True)
class _Question:
    """A protocol with its settings, on a data set, for an encoder."""

    protocol: str
    config: Any
    context: EvaluationContext

    @cached_property
    def model(self) -> dict[str, Any]:
        encoder = self.context.encoder
        return {
            "name": encoder.name,
            "weights": weights_of(encoder),
            "fingerprint": encoder.fingerprint,
            "architecture": None if encoder.model is None else encoder.model.config.model_type,
            "num_parameters": None if encoder.model is None else encoder.model.num_parameters(),
            "settings": encoder.settings(),
        }

    @cached_property
    def dataset(self) -> dict[str, Any]:
        data = self.context.data
        sides = {name: side for name in SIDES if (side := getattr(data, name)) is not None}
        return {
            "name": data.name,
            "benchmark": data.benchmark,
            "is_whole_benchmark": data.is_whole_benchmark,
            "is_toy": data.is_toy,
            "metric": data.metric,
            "num_classes": len(data.test.label_names),
            "num_unseen_labels": data.num_unseen_labels,
            "num_pictures": {name: len(side) for name, side in sides.items()},
            "fingerprints": {name: side.fingerprint for name, side in sides.items()},
        }

    @cached_property
    def digest(self) -> str:
        asked = (self.model["fingerprint"], self.dataset["fingerprints"], self.dataset["metric"])
        return question_of(self.protocol, *asked, asdict(self.config), self.context.seed, CODE_VERSION)

    def check(self) -> None:
        """Refuse what cannot be answered."""
        needed, data, encoder = protocol(self.protocol), self.context.data, self.context.encoder
        if isinstance(data.test, MaskedImages) != (needed.needs == "masks"):
            what = "a class a pixel" if needed.needs == "masks" else "a class a picture"
            raise UserInputError(f"protocol '{self.protocol}' needs {what}, which '{data.name}' does not have")
        if encoder.model is None and needed.uses != "features":
            raise UserInputError(f"protocol '{self.protocol}' needs a model; '{PIXELS}' is none")

    def difference(self, before: EvaluationResult) -> str:
        """Say what differs from a result that is there."""
        if before.seed != self.context.seed:
            return f"seed {before.seed}, now {self.context.seed}"
        if before.model["fingerprint"] != self.model["fingerprint"]:
            return "another encoder, or pictures prepared otherwise"
        if before.dataset["fingerprints"] != self.dataset["fingerprints"]:
            return "other pictures"
        typed = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self.config).items()
        }
        other = [
            f"{name} {before.config[name]}, now {value}"
            for name, value in typed.items()
            if name in before.config and before.config[name] != value
        ]
        return "; ".join(other) or "other settings"


def _answer(question: _Question, file: Path, plan: EvaluationPlan) -> EvaluationResult:
    """Return the result of a protocol, from the file if it is there."""
    if file.is_file():
        before = read_result(file)
        if before.question == question.digest:
            return before
        if not plan.replace:
            raise UserInputError(
                f"'{file}' holds the result of another question ({question.difference(before)}); "
                "type another --output, or --replace"
            )
    question.check()
    start = time.perf_counter()
    outcome = protocol(question.protocol).evaluate(question.context, question.config)
    result = EvaluationResult(
        model=question.model,
        dataset=question.dataset,
        protocol=question.protocol,
        primary=outcome.primary,
        metrics=dict(outcome.metrics),
        intervals={metric: list(interval) for metric, interval in outcome.intervals.items()},
        config=dict(outcome.config),
        details=dict(outcome.details),
        seed=question.context.seed,
        question=question.digest,
        seconds=round(time.perf_counter() - start, 2),
        machine=plan.machine,
        versions=plan.versions,
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    result.write(file)
    return result


def weights_of(encoder: Encoder) -> str | None:
    """Return which weights these are: the SHA-256 of the file in a folder, else the commit on the Hub, if any."""
    if encoder.model is None or encoder.name.startswith(UNTRAINED):
        return None
    file = Path(encoder.name).expanduser() / "model.safetensors"
    if file.is_file():
        digest = sha256()
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
    return getattr(encoder.model.config, "_commit_hash", None)


def _slug(name: str) -> str:
    """Return a name as the name of a folder."""
    return re.sub(r"[^\w.-]+", "--", name).strip("-.") or "here"
