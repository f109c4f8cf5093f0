"""The same as `synclr images`; see `python scripts/images.py --help`."""

import sys

from synclr_hf.cli.images import main
from synclr_hf.cli.main import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
