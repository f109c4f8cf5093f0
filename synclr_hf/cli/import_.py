"""`synclr import`: turn pictures and captions that were made elsewhere into an images set."""

from __future__ import annotations

from collections.abc import Sequence

from synclr_hf.cli.options import run_stage, stage_options
from synclr_hf.images.import_stage import ImportConfig, import_images

EPILOG = (
    "Sources: captions.csv with --folders; a tar file, a folder of them or 'shards/*.tar' of webdataset samples; a "
    "folder of Parquet files or of pictures with metadata; ORG/NAME or ORG/NAME@REVISION on the Hub."
)


def main(arguments: Sequence[str]) -> None:
    """Parse the options of the stage and run it."""
    options = stage_options(ImportConfig, "import", arguments, epilog=EPILOG, executors=True, default_name="images")
    run_stage(options, "images", import_images)
