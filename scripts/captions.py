"""The same as `synclr captions`; see `python scripts/captions.py --help`."""

import sys

if __name__ == "__main__":
    from synclr_hf.cli.main import main

    main(["captions", *sys.argv[1:]])
