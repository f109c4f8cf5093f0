"""`synclr publish`: put a run on the Hub: encoder, pre-training model, data sets, index; and a Space that shows it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from synclr_hf.errors import UserInputError
from synclr_hf.hub.publication import PARTS, PublishConfig, plan_publication
from synclr_hf.hub.publish import listing, publish
from synclr_hf.hub.repository import Repository


def main(arguments: Sequence[str]) -> None:
    """Parse the options and publish, or tell what would be published."""
    parser = argparse.ArgumentParser(prog="synclr publish", description=__doc__)
    parser.add_argument(
        "run", help="folder of a run, e.g. outputs/quickstart, of an encoder alone; with --space also ORG/NAME"
    )
    parser.add_argument("--to", help="org/name of the encoder on the Hub")
    parser.add_argument("--captions-to", help="org/name of the captions (default: that of the encoder with -captions)")
    parser.add_argument("--images-to", help="org/name of the pictures (default: that of the encoder with -images)")
    parser.add_argument("--index-to", help="org/name of the index (default: that of the encoder with -index)")
    parser.add_argument("--space", help="org/name of a Space that shows the encoder (none by default)")
    parser.add_argument("--parts", nargs="+", default=[], metavar="PART", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--private", action="store_true", help="make new repositories private")
    parser.add_argument("--with-optimizer", action="store_true", help="add the last checkpoint with its optimizer")
    parser.add_argument("--replace", action="store_true", help="write over repositories that hold other things")
    parser.add_argument("--dry-run", action="store_true", help="list the files and their sizes; send nothing")
    options = vars(parser.parse_args(arguments))
    run, dry_run = options.pop("run"), options.pop("dry_run")
    is_id = run.count("/") == 1 and not Path(run).expanduser().exists()
    is_published = options["to"] is None and options["space"] is not None and is_id
    if options["to"] is None:
        if not is_published:
            raise UserInputError(
                "where to is not said; type --to ORG/NAME (of the encoder on the Hub)"
                + ("; the Space shows it from there" if options["space"] else "")
            )
        options["to"] = run
    config = PublishConfig(**{one.name: options[one.name] for one in fields(PublishConfig)})
    if dry_run:
        plan = [] if is_published else plan_publication(run, config)
        print(listing([*plan, *_space(config)]))
        return
    for line in _published_space(config) if is_published else publish_run(run, config):
        print(line)


def publish_run(run: str | Path, config: PublishConfig) -> Iterator[str]:
    """Publish a run and yield a line for each address; the Space comes last, behind what it shows.

    Args:
        run: folder of the run.
        config: what goes where.
    """
    for url in publish(run, config):
        yield f"published: {url}"
    yield from _published_space(config)


def _published_space(config: PublishConfig) -> Iterator[str]:
    if config.space is None:
        return
    from synclr_hf.explorer.space import SpaceConfig, publish_space
    from synclr_hf.hub.patience import client, patiently

    api = client()
    index = str(config.index_to)
    has_index = patiently(index, lambda: api.repo_exists(index, repo_type="dataset"))
    shown = SpaceConfig(config.space, config.to, index if has_index else None, config.private, config.replace)
    url, notes = publish_space(shown, api=api)
    yield f"published: {url}"
    for note in notes:
        yield f"note: {note}"


def _space(config: PublishConfig) -> list[Repository]:
    """Return the Space as it would be if the index is there, for `--dry-run`."""
    if config.space is None:
        return []
    from synclr_hf.explorer.space import SpaceConfig, space_repository

    return [space_repository(SpaceConfig(config.space, config.to, config.index_to))]
