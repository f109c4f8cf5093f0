"""`synclr publish`: put a run on the Hub: encoder, pre-training model, captions, pictures, cards."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from synclr_hf.hub.publication import PARTS, PublishConfig, plan_publication
from synclr_hf.hub.publish import listing, publish


def main(arguments: Sequence[str]) -> None:
    """Parse the options and publish, or tell what would be published."""
    parser = argparse.ArgumentParser(prog="synclr publish", description=__doc__)
    parser.add_argument("run", help="folder of a run, e.g. outputs/quickstart, or of an encoder alone")
    parser.add_argument("--to", required=True, help="org/name of the encoder on the Hub")
    parser.add_argument("--captions-to", help="org/name of the captions (default: that of the encoder with -captions)")
    parser.add_argument("--images-to", help="org/name of the pictures (default: that of the encoder with -images)")
    parser.add_argument("--parts", nargs="+", default=[], metavar="PART", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--private", action="store_true", help="make new repositories private")
    parser.add_argument("--with-optimizer", action="store_true", help="add the last checkpoint with its optimizer")
    parser.add_argument("--replace", action="store_true", help="write over repositories that hold other things")
    parser.add_argument("--dry-run", action="store_true", help="list the files and their sizes; send nothing")
    options = vars(parser.parse_args(arguments))
    run, dry_run = options.pop("run"), options.pop("dry_run")
    config = PublishConfig(**options)
    if dry_run:
        print(listing(plan_publication(run, config)))
        return
    for url in publish(run, config):
        print(f"published: {url}")
