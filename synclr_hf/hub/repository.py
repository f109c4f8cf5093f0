"""A repository on the Hub as it shall be, and how it is told from others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from synclr_hf.errors import UserInputError

MARK_FILE = "publication.json"
"""Says which run a repository was made from, so that another one does not write over it."""


@dataclass(frozen=True)
class Repository:
    """One repository as it shall be.

    Attributes:
        repo_id: `org/name`.
        repo_type: `model`, `dataset` or `space`.
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


def mark_of(facts: Any) -> str:
    """Return what tells something made of these facts from others."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def mark_file(mark: str) -> bytes:
    """Return the contents of `MARK_FILE`."""
    facts = {"run": mark, "made_with": f"synclr_hf {version('synclr-hf')}"}
    return (json.dumps(facts, indent=1) + "\n").encode()
