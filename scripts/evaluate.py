"""The same as `synclr evaluate`; see `python scripts/evaluate.py --help`."""

import sys

if __name__ == "__main__":
    from synclr_hf.cli.main import main

    main(["evaluate", *sys.argv[1:]])
