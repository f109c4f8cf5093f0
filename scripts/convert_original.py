"""The same as `synclr convert`.

python scripts/convert_original.py --checkpoint synclr_vit_b_16.pth --output outputs/synclr-vit-b-16
"""

import sys

if __name__ == "__main__":
    from synclr_hf.cli.main import main

    main(["convert", *sys.argv[1:]])
