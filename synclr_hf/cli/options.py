"""Command-line options from the dataclass of a stage."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TypeVar

from transformers import HfArgumentParser

from synclr_hf.errors import unknown_name

Config = TypeVar("Config")


def stage_options(cls: type[Config], stage: str, arguments: Sequence[str]) -> tuple[Config, argparse.Namespace]:
    """Parse the settings of a generating stage, each an option, and the number of worker processes.

    Returns:
        The settings, and a namespace with `workers` (`None`: as many as suit the back end).

    Raises:
        UserInputError: an option that the stage does not have.
    """
    parser = HfArgumentParser(cls, prog=f"synclr {stage}", description=cls.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--workers", type=int, help="processes (default: one a core for toy, one for a model)")
    config, options, unknown = parser.parse_args_into_dataclasses(
        arguments, return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        raise unknown_name("option", unknown[0], parser._option_string_actions, f"synclr {stage} --help")
    return config, options
