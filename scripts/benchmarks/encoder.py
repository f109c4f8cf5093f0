"""Import time of the package and forward time of the encoder, beside those of transformers, in turns on one machine.

python scripts/benchmarks/encoder.py --json outputs/encoder_speed.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import ViTConfig, ViTModel

from synclr_hf.models import SynCLRConfig, SynCLRModel

IMPORTS = {
    "synclr_hf": "import synclr_hf; from synclr_hf.models import SynCLRModel; from transformers import AutoModel",
    "transformers": "from transformers import AutoModel, PreTrainedModel",
}
SIZES = {
    "vit-s16": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6},
    "vit-b16": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
}


def import_seconds(rounds: int) -> dict[str, list[float]]:
    """Time each import in fresh processes, in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(rounds):
        for name, code in IMPORTS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def forward_seconds(size: str, batch_size: int, rounds: int, device: str) -> dict[str, list[float]]:
    """Time forward passes of both models on 224 px, in turns; float32 on a CPU, bfloat16 on a GPU."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    sizes = {**SIZES[size], "intermediate_size": 4 * SIZES[size]["hidden_size"]}
    models = {
        "synclr_hf": SynCLRModel(SynCLRConfig(**SIZES[size])),
        "transformers": ViTModel(ViTConfig(**sizes), add_pooling_layer=False),
    }
    pixels = torch.randn(batch_size, 3, 224, 224, device=device, dtype=dtype)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        model.to(device, dtype).eval()
    with torch.inference_mode():
        for turn in range(rounds + 2):
            for name, model in models.items():
                _wait(device)
                start = time.perf_counter()
                model(pixels)
                _wait(device)
                if turn >= 2:  # the first two warm up
                    seconds[name].append(time.perf_counter() - start)
    return seconds


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def summary(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Return the medians, their ratio, and the spread of the ratio over the turns (quartiles)."""
    ratios = [a / b for a, b in zip(seconds["synclr_hf"], seconds["transformers"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    medians = {f"{name}_seconds": statistics.median(values) for name, values in seconds.items()}
    return {**medians, "ratio": middle, "ratio_low": low, "ratio_high": high}


def main() -> None:
    """Measure, print, and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit-b16", choices=SIZES)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {
        "import": summary(import_seconds(options.rounds)),
        "forward": summary(forward_seconds(options.model, options.batch_size, options.rounds, options.device)),
        "settings": {"model": options.model, "batch_size": options.batch_size, "rounds": options.rounds},
        "machine": {"device": options.device, "threads": torch.get_num_threads(), "torch": torch.__version__},
    }
    text = json.dumps(found, indent=1)
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
