"""The same as `synclr continue`, for launchers.

accelerate launch scripts/continue.py --from org/name --dataset outputs/mine/images --output-dir outputs/continued
"""

import sys

if __name__ == "__main__":
    from synclr_hf.cli.main import main

    main(["continue", *sys.argv[1:]])
