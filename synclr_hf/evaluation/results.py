"""One JSON file an evaluation: the numbers, what they are of, and everything that they depend on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

from synclr_hf.data.shards import write_text
from synclr_hf.errors import UserInputError

FORMAT = "synclr evaluation 1"
"""First entry of every file."""
_FIX = "type the JSON files, or the folder, that synclr evaluate --output wrote"


@dataclass(frozen=True)
class EvaluationResult:
    """What one protocol said of one encoder on one data set; plain values only.

    Attributes:
        model: `name` as typed, `weights` (checksum of the file, or the commit on the Hub), `fingerprint` (weights and
            preparation of the pictures), `architecture`, `num_parameters`, `settings` (see `Encoder.settings`).
        dataset: `name` as typed, `benchmark` (name in the registry or `None`), `is_whole_benchmark`, `is_toy`,
            `metric`, `num_classes`, `num_unseen_labels`, `fingerprints` and `num_pictures` (side -> value).
        protocol: its name in the registry.
        primary: the main one of `metrics`; larger is better.
        metrics: name -> value, shares as fractions in [0, 1].
        intervals: name -> [low, high], 95 % bootstrap over the test pictures.
        config: effective settings of the protocol.
        details: what else was found.
        seed: of everything that is random.
        question: checksum of all that decides the answer; the same question is not asked twice.
        seconds: wall time of the protocol, features included where it was the first to need them.
        machine: what it was made on.
        versions: package -> version.
    """

    model: Mapping[str, Any]
    dataset: Mapping[str, Any]
    protocol: str
    primary: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, Any]
    config: Mapping[str, Any]
    details: Mapping[str, Any]
    seed: int
    question: str
    seconds: float
    machine: Mapping[str, str]
    versions: Mapping[str, str]

    @property
    def value(self) -> float:
        """The main number."""
        return self.metrics[self.primary]

    def write(self, file: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            ValueError: a value is no plain value, or not finite: JSON has no NaN.
        """
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1, allow_nan=False)
        write_text(file, text + "\n")


def question_of(*parts: Any) -> str:
    """Return a checksum of everything that decides an answer."""
    return blake2b(json.dumps(parts, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def read_result(file: Path) -> EvaluationResult:
    """Read one file.

    Raises:
        UserInputError: it cannot be read, or is no evaluation.
    """
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not JSON"
        raise UserInputError(f"'{file}' cannot be read ({reason}); {_FIX}") from error
    names = {field.name for field in fields(EvaluationResult)}
    if not isinstance(entries, dict) or entries.pop("format", None) != FORMAT or set(entries) != names:
        raise UserInputError(f"'{file}' is no evaluation of this version; {_FIX}")
    return EvaluationResult(**entries)


def find_results(paths: Iterable[str | Path]) -> list[EvaluationResult]:
    """Read evaluations from files and from everything below folders, in the order of the paths.

    Files below a folder that are no evaluations are passed over; one that is named itself is not.

    Raises:
        UserInputError: a path is not there, a named file is no evaluation, or a folder holds none.
    """
    found: dict[Path, EvaluationResult] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            found[path.resolve()] = read_result(path)
            continue
        below = results_below(path)
        if not below:
            raise UserInputError(f"no evaluation in '{path}'; {_FIX}")
        found |= below
    return list(found.values())


def results_below(folder: Path) -> dict[Path, EvaluationResult]:
    """Read every evaluation below a folder, in the order of their paths; other JSON files are passed over.

    Raises:
        UserInputError: one of them is damaged.
    """
    files = [file for file in sorted(folder.rglob("*.json")) if _is_result(file)]
    return {file.resolve(): read_result(file) for file in files}


def _is_result(file: Path) -> bool:
    """Tell a file of ours by its first bytes."""
    with file.open("rb") as stream:
        return FORMAT.encode() in stream.read(100)
