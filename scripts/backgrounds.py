"""The same as `synclr backgrounds`; see `python scripts/backgrounds.py --help`."""

import sys

if __name__ == "__main__":
    from synclr_hf.cli.main import main

    main(["backgrounds", *sys.argv[1:]])
