"""`synclr export`: write the trained encoder as a model that `AutoModel.from_pretrained` loads."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from synclr_hf.hub import export_encoder
from synclr_hf.hub.export import WEIGHTS


def main(arguments: Sequence[str]) -> None:
    """Parse the options and write the encoder."""
    parser = argparse.ArgumentParser(prog="synclr export", description=__doc__)
    parser.add_argument("--pretraining", required=True, help="folder that synclr pretrain wrote")
    parser.add_argument("--output-dir", required=True, help="folder to write")
    parser.add_argument("--weights", default="teacher", help=f"{' or '.join(WEIGHTS)} (default: teacher)")
    options = parser.parse_args(arguments)
    print(f"encoder: {export_encoder(options.pretraining, options.output_dir, weights=options.weights)}")
