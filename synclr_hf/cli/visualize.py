"""`synclr visualize`: see what an encoder sees: PCA and attention maps, nearest neighbours, a map of pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import MISSING, fields

from synclr_hf.cli.options import count_option, documented
from synclr_hf.report.visualize import VisualizeConfig, visualize


def main(arguments: Sequence[str]) -> None:
    """Parse the options, draw, and print a line for each picture that names its file."""
    _, helps = documented(VisualizeConfig)
    parser = argparse.ArgumentParser(prog="synclr visualize", description=__doc__)
    numbers = {"pool": count_option, "count": int, "size": int, "height": int, "width": int, "seed": int}
    for setting in fields(VisualizeConfig):
        told = helps[setting.name].replace("%", "%%")
        if setting.name == "smooth":
            parser.add_argument("--smooth", action="store_true", help=told)
            continue
        if setting.default not in (None, MISSING):
            told += f" (default: {setting.default})"
        parser.add_argument(
            f"--{setting.name}",
            type=numbers.get(setting.name, str),
            nargs="+" if setting.name == "images" else None,
            required=setting.default is MISSING,
            default=None if setting.default is MISSING else setting.default,
            help=told,
        )
    for line in visualize(VisualizeConfig(**vars(parser.parse_args(arguments)))):
        print(line)
