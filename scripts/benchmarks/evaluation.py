"""Measure the evaluation room: `python scripts/benchmarks/evaluation.py extract | logistic | knn | table`.

Each prints what it measured with machine and versions; `--json FILE` writes it, too.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    for name, (add_options, _) in MEASUREMENTS.items():
        add_options(part := parts.add_parser(name))
        part.add_argument("--json", type=Path, help="file that the numbers are written to, too")
    options = parser.parse_args(arguments)
    settings = {name: value for name, value in vars(options).items() if name not in ("json", "part")}
    text = json.dumps({**MEASUREMENTS[options.part][1](options), "settings": settings}, indent=1, default=str)
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")


# --- extract: features beside the bare forward pass ----------------------------------------------------------------


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
    import numpy as np
    import torch

    from synclr_hf.evaluation.encoders import normalised, plain_encoder
    from synclr_hf.evaluation.features import encoder_features
    from synclr_hf.evaluation.labelled_images import labelled_pictures
    from synclr_hf.evaluation.pictures import prepared_batches
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

    import numpy as np
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


# --- logistic: 45 regularisation values together beside scikit-learn -----------------------------------------------


# --- knn: 5,000 queries against a million float16 rows -------------------------------------------------------------

KNN_CHECKED = 8
"""Queries whose neighbours are found again in float64, all rows beside all."""


def add_knn_options(parser: argparse.ArgumentParser) -> None:
    """Sizes of the search."""
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--features", type=int, default=768)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")


def measure_knn(options: argparse.Namespace) -> dict[str, Any]:
    """Vote in a process of its own, whose memory is read from outside (Linux).

    Memory is told twice: `peak_gib` is the peak of everything resident, the pages of the mapped file included, which
    the system takes back whenever it needs them; `peak_own_gib` is what belongs to the process alone.
    """
    found: dict[str, Any] = {
        "machine": {
            "device": torch.cuda.get_device_name() if options.device == "cuda" else platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load_average_before": os.getloadavg()[0],
            "torch": torch.__version__,
        }
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "gallery.f16"
        generator = torch.Generator().manual_seed(0)
        with file.open("wb") as stream:
            for start in range(0, options.rows, 50_000):
                size = (min(50_000, options.rows - start), options.features)
                stream.write(torch.randn(size, generator=generator).half().numpy().tobytes())
        found["file_gib"] = file.stat().st_size / 2**30
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_vote, args=(file, options, theirs))
        process.start()
        peaks = {"VmHWM": 0.0, "RssAnon": 0.0, "RssFile": 0.0}
        while not ours.poll(0.02) and process.is_alive():
            for name, value in _memory(process.pid).items():
                peaks[name] = max(peaks.get(name, 0.0), value)
        answer = ours.recv()
        process.join()
    peaks["VmHWM"] = max(peaks["VmHWM"], answer.pop("VmHWM"))
    found |= {"peak_gib": peaks["VmHWM"], "peak_own_gib": peaks["RssAnon"], "peak_file_gib": peaks["RssFile"]}
    return {**found, **answer}


def _vote(file: Path, options: argparse.Namespace, pipe: Connection) -> None:
    """Find the neighbours and count their votes, send the numbers."""
    from synclr_hf.evaluation.neighbours import nearest_rows
    from synclr_hf.evaluation.protocols.knn import NEIGHBOUR_COUNTS, knn_votes

    generator = torch.Generator().manual_seed(1)
    queries = torch.randn(options.queries, options.features, generator=generator)
    labels = torch.randint(options.classes, (options.rows,), generator=generator)
    rows = np.memmap(file, np.float16, mode="c", shape=(options.rows, options.features))
    gallery, before = torch.from_numpy(rows), _memory(os.getpid())
    start = time.perf_counter()
    votes = knn_votes(gallery, labels, queries, device=torch.device(options.device))
    predicted = {k: values.argmax(dim=1).cpu() for k, values in votes.items()}
    answer = {"seconds": time.perf_counter() - start, "own_before_gib": before["RssAnon"]}
    answer["VmHWM"] = _memory(os.getpid())["VmHWM"]  # the check below does not count
    count = max(NEIGHBOUR_COUNTS)
    found = nearest_rows(queries[:KNN_CHECKED], gallery, count, device=torch.device(options.device))[1].cpu()
    directions = torch.nn.functional.normalize(queries[:KNN_CHECKED].double(), dim=1)
    parts = [directions @ torch.nn.functional.normalize(part.double(), dim=1).T for part in gallery.split(20_000)]
    plain = torch.cat(parts, dim=1).sort(dim=1, descending=True, stable=True)
    answer["equal_to_float64"] = torch.equal(found, plain.indices[:, : found.shape[1]])
    nearest = labels[found[:, 0]]
    answer["votes_of_the_nearest_are_its_class"] = torch.equal(predicted[1][:KNN_CHECKED], nearest)
    pipe.send(answer)


def _memory(process: int) -> dict[str, float]:
    """Return what is resident of a process, in GiB: peak of all, own and file-backed pages now."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # it has ended
        return {}
    fields = (line.split() for line in lines if line.startswith(("VmHWM", "RssAnon", "RssFile")))
    return {field[0].rstrip(":"): int(field[1]) / 2**20 for field in fields}


# --- table: encoders side by side on real labelled pictures --------------------------------------------------------


AddOptions = Callable[[argparse.ArgumentParser], None]
MEASUREMENTS: dict[str, tuple[AddOptions, Callable[[argparse.Namespace], dict[str, Any]]]] = {
    "knn": (add_knn_options, measure_knn),
}

if __name__ == "__main__":
    main()
