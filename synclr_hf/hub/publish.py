"""Sends what a run publishes to the Hub: created where it is missing, never over other things, nothing sent twice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import HfApi

from synclr_hf.hub.publication import PublishConfig, plan_publication
from synclr_hf.hub.repository import Repository
from synclr_hf.hub.sending import send_all


def publish(run: str | Path, config: PublishConfig, *, api: HfApi | None = None) -> list[str]:
    """Publish a run: data sets first, then the encoder, whose card names them.

    All repositories are looked at before the first one is written. After a cut connection the same call goes on:
    files that arrived are not sent again.

    Args:
        run: folder of a run, or of an encoder alone; see `plan_publication`.
        config: what goes where.
        api: a client with an endpoint or a token of its own; default: those of the environment.

    Returns:
        The address of each repository.

    Raises:
        UserInputError: nothing to publish, no right to write, other things in a repository, or the Hub cannot be
            reached.
    """
    return send_all(plan_publication(run, config), api, private=config.private, replace=config.replace)


def listing(plan: Iterable[Repository]) -> str:
    """Return the files and sizes of every repository as text."""
    lines = []
    for repository in plan:
        sizes = repository.sizes()
        lines.append(f"{repository.repo_type} {repository.repo_id}: {len(sizes)} files, {_size(sum(sizes.values()))}")
        lines += [f"  {_size(size):>10}  {name}" for name, size in sizes.items()]
    return "\n".join(lines)


def _size(count: int) -> str:
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
