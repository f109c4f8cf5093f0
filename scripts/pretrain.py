"""The same as `synclr pretrain`, for launchers: `accelerate launch scripts/pretrain.py --config synclr_hf/recipes/toyworld.yaml`."""

import sys

from synclr_hf.cli.pretrain import main
from synclr_hf.cli.main import guarded

if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
