"""`synclr images-report`: look at the pictures of a set: grids, plots, recognisability and diversity, as a page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields

from synclr_hf.cli.options import count_option, documented
from synclr_hf.report.images_stage import ImagesReportConfig, write_images_report


def main(arguments: Sequence[str]) -> None:
    """Parse the options, write the report and tell where it lies."""
    _, helps = documented(ImagesReportConfig)
    parser = argparse.ArgumentParser(prog="synclr images-report", description=__doc__)
    parser.add_argument("images", metavar="SET", help=helps["images"])
    numbers = {"sample": count_option, "seed": int, "batch_size": int}
    for setting in fields(ImagesReportConfig)[1:]:
        told = helps[setting.name] + (f" (default: {setting.default})" if setting.default is not None else "")
        kind = numbers.get(setting.name, str)
        parser.add_argument(
            f"--{setting.name.replace('_', '-')}", type=kind, default=setting.default, help=told.replace("%", "%%")
        )
    page = write_images_report(ImagesReportConfig(**vars(parser.parse_args(arguments))))
    print(f"report: {page}")
