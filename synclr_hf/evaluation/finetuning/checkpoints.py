"""Where a protocol that trains keeps its checkpoints."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext


@contextmanager
def checkpoint_folder(
    context: EvaluationContext, section: str, config: Mapping[str, Any]
) -> Iterator[tuple[Path, bool]]:
    """Give a folder for checkpoints, and whether it outlives a stopped run; it is removed when all went well.

    Its name is made of everything that decides the training: another encoder or setting starts anew. Score inside the
    block, so that a run that is stopped there does not train again.

    Args:
        context: encoder, data, seed and `work_dir`; without that the folder is a temporary one.
        section: name of the protocol.
        config: the effective settings, JSON-ready.

    Yields:
        The folder, and whether it outlives a stopped run.
    """
    if context.work_dir is None:
        with tempfile.TemporaryDirectory(prefix=f"synclr-{section}-") as folder:
            yield Path(folder), False
        return
    train, validation = context.data.train, context.data.validation
    facts = [
        context.encoder.fingerprint,
        train.fingerprint,
        validation and validation.fingerprint,
        context.seed,
        config,
    ]
    mark = blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()
    folder = Path(context.work_dir) / f"{section}-{mark}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder, True
    except UserInputError:  # the same call would end in the same way
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)
