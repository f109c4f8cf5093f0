"""The same as `synclr pretrain`, for launchers.

accelerate launch scripts/pretrain.py --config synclr_hf/recipes/toyworld.yaml
"""

import sys

if __name__ == "__main__":
    from synclr_hf.cli.main import main

    main(["pretrain", *sys.argv[1:]])
