"""The same as `synclr ablate`, for launchers.

accelerate launch --multi_gpu --num_processes 8 scripts/ablate.py ablation_vitb16 --images ... --eval-dataset ...
"""

import sys

if __name__ == "__main__":
    from synclr_hf.cli.main import main

    main(["ablate", *sys.argv[1:]])
