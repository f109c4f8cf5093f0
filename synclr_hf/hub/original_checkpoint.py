"""Reads checkpoints of the authors' code (SynCLR, StableRep) in every wrapper; nothing in a file is ever executed."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from synclr_hf.errors import UserInputError

WRAPPERS = ("model", "state_dict")
"""Entries that hold the weights, where a file holds more than them."""
SAFE_TO_BUILD = [argparse.Namespace]
"""What a file may hold beside tensors and plain values: the training script stores its options so."""


@dataclass(frozen=True)
class OriginalCheckpoint:
    """What a checkpoint of the authors' code holds.

    Attributes:
        path: the file.
        tensors: name -> tensor; the `module.` of distributed training is taken off, the rest is as in the file.
        arguments: the options of the training run, empty where the file holds none.
        epoch: the last finished epoch, counted from 0, where the file says it.
        other_entries: names of what lies beside the weights, e.g. `optimizer`.
    """

    path: Path
    tensors: dict[str, torch.Tensor]
    arguments: dict[str, Any]
    epoch: int | None
    other_entries: tuple[str, ...]


def read_original(path: Path | str) -> OriginalCheckpoint:
    """Read a `.pth` file (`{"model": ...}`, `{"state_dict": ...}`, bare weights) or a `.safetensors` file.

    Only tensors, plain values and `argparse.Namespace` are built (`torch.load(weights_only=True)`), on the CPU.

    Raises:
        UserInputError: the file cannot be read, is no checkpoint, is cut off, or holds objects that would run code.
    """
    path = Path(path).expanduser()
    content = _load(path)
    if not isinstance(content, dict):
        raise UserInputError(f"--checkpoint '{path}' holds a {type(content).__name__}; {_needed()}")
    wrapper = next((name for name in WRAPPERS if isinstance(content.get(name), dict)), None)
    weights = content if wrapper is None else content[wrapper]
    foreign = [str(name) for name, value in weights.items() if not isinstance(value, torch.Tensor)]
    if foreign or not weights:
        found = f"{grouped(foreign)}, which are no tensors" if foreign else "nothing"
        raise UserInputError(f"--checkpoint '{path}' holds {found}; {_needed()}")
    beside = {} if wrapper is None else {name: value for name, value in content.items() if name != wrapper}
    arguments = beside.get("args")
    arguments = vars(arguments) if isinstance(arguments, argparse.Namespace) else arguments
    epoch = beside.get("epoch")
    return OriginalCheckpoint(
        path=path,
        tensors={str(name).removeprefix("module."): tensor for name, tensor in weights.items()},
        arguments=arguments if isinstance(arguments, dict) else {},
        epoch=epoch if isinstance(epoch, int) else None,
        other_entries=tuple(str(name) for name in beside if name not in ("args", "epoch")),
    )


def grouped(names: Iterable[str]) -> str:
    """Name everything in few words: names that differ in a number are told once, with `*` and how many they are."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"(?<=\.)\d+(?=\.)", "*", name), []).append(name)
    return ", ".join(f"{group} (x{len(same)})" if len(same) > 1 else same[0] for group, same in groups.items())


def _needed() -> str:
    return (
        'needed: {"model": weights}, {"state_dict": weights} or bare weights by name; '
        "type --checkpoint with a file of the authors' code, e.g. synclr_vit_b_16.pth"
    )


def _load(path: Path) -> Any:
    """Load a file; whatever is wrong with it becomes one line."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise UserInputError(
            f"--checkpoint '{path}' cannot be read: {error.strerror}; type --checkpoint with the path of a file"
        ) from error
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(SAFE_TO_BUILD):
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # what no checkpoint is makes the readers fail in any way
        unsafe = re.search(r"GLOBAL (\S+)|unrecognized function (.+)|but got (.+)", str(error))
        if unsafe:
            name = next(group for group in unsafe.groups() if group)
            raise UserInputError(
                f"--checkpoint '{path}' holds objects of Python ({name.strip()}) that could run code, and is not "
                "loaded; allowed: tensors, plain values, argparse.Namespace; type --checkpoint with the weights "
                "alone: torch.save({'model': torch.load(FILE, weights_only=False)['model']}, NEW_FILE) writes them, "
                "where you trust the file"
            ) from error
        raise UserInputError(
            f"--checkpoint '{path}' is no checkpoint of PyTorch, or was cut off (it begins with {start!r}; "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'nothing more is known'}); "
            "type --checkpoint with a whole file, e.g. after downloading it again"
        ) from error
