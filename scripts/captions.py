"""The same as `synclr captions`; see `python scripts/captions.py --help`."""

import sys

from synclr_hf.cli.captions import main
from synclr_hf.cli.main import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
