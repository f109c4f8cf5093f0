"""How the run that is published in the tests is made."""

import subprocess
import sys
from pathlib import Path

RECIPE = Path(__file__).parents[1] / "cli" / "minute.yaml"
SMALLER = (
    "captions.num_captions=24",
    "evaluation.held_out_captions=60",
    "pretraining.training_arguments.max_steps=6",
    "pretraining.training_arguments.save_steps=3",
    "pretraining.training_arguments.logging_steps=1",
)


def synclr(*arguments, **options):
    code = "from synclr_hf.cli.main import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
