"""`synclr captions`: write captions for a list of concepts, or leave the duplicates of a set out."""

from __future__ import annotations

from collections.abc import Sequence

from synclr_hf.captions.deduplication import DEDUPLICATE, DeduplicationConfig, deduplicate_captions
from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.cli.options import run_stage, stage_options
from synclr_hf.data.extension import EXTEND
from synclr_hf.errors import UserInputError

_EPILOG = f"synclr captions {DEDUPLICATE} SET writes a set without duplicates; synclr captions {DEDUPLICATE} --help"


def main(arguments: Sequence[str]) -> None:
    """Parse the options of the stage and run it."""
    if not any(argument.partition("=")[0] == DEDUPLICATE for argument in arguments):
        options = stage_options(CaptionsConfig, "captions", arguments, epilog=_EPILOG, executors=True)
        run_stage(options, "captions", write_captions)
        return
    if EXTEND in arguments:
        raise UserInputError(
            f"{EXTEND} is not for sets without duplicates; extend the set with them, then type synclr captions "
            f"{DEDUPLICATE} SET --output-dir with the name of a new folder"
        )
    asks_for_help = {"-h", "--help"} & set(arguments)
    typed = ["--help"] if asks_for_help else arguments
    unique = stage_options(DeduplicationConfig, "captions", typed, default_name="captions-unique")
    run_stage(unique, "captions", deduplicate_captions)
