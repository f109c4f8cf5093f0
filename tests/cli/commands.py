"""How a test types a command."""

import sys
from pathlib import Path

RECIPE = Path(__file__).with_name("minute.yaml")


def command(*arguments):
    return [sys.executable, "-c", "from synclr_hf.cli.main import main; main()", *map(str, arguments)]
