"""The same as `synclr images`; see `python scripts/images.py --help`."""

import sys

if __name__ == "__main__":
    from synclr_hf.cli.main import main

    main(["images", *sys.argv[1:]])
