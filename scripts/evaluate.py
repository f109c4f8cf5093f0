"""The same as `synclr evaluate`; see `python scripts/evaluate.py --help`."""

import sys

from synclr_hf.cli.evaluate import main
from synclr_hf.cli.main import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
