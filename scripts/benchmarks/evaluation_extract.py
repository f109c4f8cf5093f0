"""The part `extract` of `evaluation.py`: features beside the bare forward pass."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def extract_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `extract`."""
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5, help="rounds; each runs every variant once")
    parser.add_argument("--layers", type=int, default=12, help="of the encoder, else ViT-B/16 with random weights")
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)


def extract(options: argparse.Namespace) -> dict[str, Any]:
    """Time `encoder_features` (JPEG files in memory to features) beside the forward passes alone, in turn.

    The forward passes alone get batches that were decoded, resized and normalised before, in inference mode. The
    extraction decodes on threads of the same cores while the model runs: what decoding costs, which is measured alone
    as well, is taken from the model where there is no idle core.
    """
    import torch

    from synclr_hf.evaluation.encoding.encoders import normalised, plain_encoder
    from synclr_hf.evaluation.encoding.features import encoder_features
    from synclr_hf.evaluation.labelled.labelled_images import labelled_pictures
    from synclr_hf.evaluation.labelled.pictures import prepared_batches
    from synclr_hf.models import SynCLRConfig, SynCLRModel

    torch.manual_seed(options.seed)
    config = SynCLRConfig(
        hidden_size=options.width,
        num_hidden_layers=options.layers,
        num_attention_heads=max(1, options.width // 64),
        image_size=options.image_size,
    )
    model = SynCLRModel(config).eval().to(options.device, getattr(torch, options.dtype))
    encoder = plain_encoder(model, batch_size=options.batch_size)
    files = _jpeg_files(options.pictures, options.seed)
    data = labelled_pictures(files, [0] * len(files), ["one"])
    sizes = {"size": encoder.image_size, "batch_size": options.batch_size}
    decoded = [pixels for _, pixels in prepared_batches(files, **sizes)]
    batches = [normalised(pixels, encoder.image_mean, encoder.image_std).to(model.device) for pixels in decoded]

    def bare() -> torch.Tensor:
        with torch.inference_mode():
            tokens = [model(pixel_values=batch.to(model.dtype)).last_hidden_state[:, 0] for batch in batches]
            return torch.cat(tokens).float().cpu()

    variants: dict[str, Callable[[], Any]] = {
        "bare": bare,
        "extraction": lambda: encoder_features(encoder, data).features,
        "decoding": lambda: [None for _ in prepared_batches(files, **sizes)],
    }
    difference = (variants["extraction"]() - bare()).abs().max().item()  # warms both up, too
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(options.repeats):
        order = list(variants) if turn % 2 == 0 else list(variants)[::-1]
        for name in order:
            start = time.perf_counter()
            variants[name]()
            seconds[name].append(time.perf_counter() - start)
    shares = [bare / extraction for bare, extraction in zip(seconds["bare"], seconds["extraction"], strict=True)]
    return {
        "pictures_a_second": {
            name: {
                "median": len(files) / float(np.median(times)),
                "range": [len(files) / max(times), len(files) / min(times)],
            }
            for name, times in seconds.items()
        },
        "share_of_bare_speed": {"median": float(np.median(shares)), "range": [min(shares), max(shares)]},
        "largest_difference": difference,
        "kilobytes_a_file": sum(map(len, files)) / len(files) / 1000,
        "torch_threads": torch.get_num_threads(),
        "settings": vars(options),
    }


def _jpeg_files(count: int, seed: int) -> list[bytes]:
    """Draw pictures of 500 x 375 pixels, smooth with some noise, and encode them (quality 90, about 100 kB)."""
    from io import BytesIO

    from PIL import Image

    generator = np.random.default_rng(seed)
    files = []
    for _ in range(count):
        smooth = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375))
        noisy = np.asarray(smooth) + generator.normal(0, 8, (375, 500, 3))
        file = BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files
