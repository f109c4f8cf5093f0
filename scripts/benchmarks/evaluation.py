"""Measure the evaluation room: `python scripts/benchmarks/evaluation.py extract | logistic | knn | table`.

Each prints what it measured with machine and versions; `--json FILE` writes it, too.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
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


def add_logistic_options(parser: argparse.ArgumentParser) -> None:
    """Sizes of the data, and what scikit-learn is given."""
    parser.add_argument("--features", type=Path, help="safetensors file with `features` (N, D) and `labels` (N,)")
    parser.add_argument("--rows", type=int, default=5000, help="drawn pictures to learn from, without --features")
    parser.add_argument("--width", type=int, default=768, help="dimensions of a drawn feature")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--values", type=int, default=45, help="L2 values, evenly spaced among the 45")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, of ours; scikit-learn is on the CPU")
    parser.add_argument("--threads", type=int, default=2, help="of both on the CPU")
    parser.add_argument(
        "--references",
        nargs="+",
        default=["float32", "float32-warm", "float64"],
        choices=("float32", "float32-warm", "float64"),
        help="scikit-learn with features of that dtype; warm: each value starts at the optimum of the one before",
    )
    parser.add_argument("--seed", type=int, default=0)


def measure_logistic(options: argparse.Namespace) -> dict[str, Any]:
    """Fit all L2 values, choose on validation, fit again and score the test rows: ours and scikit-learn in turn.

    Both have the same standardised rows; scikit-learn runs as the reference code has it, tol 1e-12 and at most 1,000
    iterations, all values in one process.
    """
    import sklearn
    import torch
    from threadpoolctl import threadpool_limits

    from synclr_hf.evaluation.protocols.logistic import L2_VALUES, fit_logistic

    threads_before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    fit, validation, test = _logistic_rows(options)
    both = tuple(torch.cat(parts) for parts in zip(fit, validation, strict=True))
    places = torch.linspace(44, 0, options.values).round().long().unique().flip(0)
    values = [L2_VALUES[place] for place in places]
    num_classes = int(fit[1].max()) + 1

    def ours(rows: Any, l2_values: Sequence[float], start: Any = None) -> Iterator[Any]:
        for found in fit_logistic(rows[0].to(options.device), rows[1], l2_values, start=start):
            weights, bias = found.axes.coefficients(found.weights)
            yield (
                lambda features, found=found: found.scores(features, num_classes).argmax(dim=1),
                (weights.double().cpu(), bias.double().cpu()),
                found,
            )

    runs = {"ours": ours} | {name: _scikit_learn(name) for name in options.references}
    found: dict[str, Any] = {}
    coefficients = {}
    try:
        with threadpool_limits(options.threads):
            for _ in fit_logistic(fit[0][:500].to(options.device), fit[1][:500], values[:3]):
                pass  # warms up
            for name, run in runs.items():
                start = time.perf_counter()
                fits = list(run(fit, values))
                accuracies = [_accuracy(predict(validation[0]), validation[1]) for predict, *_ in fits]
                swept = time.perf_counter() - start
                best = max(range(len(values)), key=accuracies.__getitem__)
                ((predict, *_),) = run(both, [values[best]], start=fits[best][2])  # as the protocol does
                found[name] = {
                    "seconds": time.perf_counter() - start,
                    "seconds_of_the_values": swept,
                    "best_l2": values[best],
                    "validation_accuracy": accuracies[best],
                    "test_accuracy": _accuracy(predict(test[0]), test[1]),
                }
                coefficients[name] = [pair for _, pair, _ in fits]
                print(name, found[name], file=sys.stderr, flush=True)
    finally:
        torch.set_num_threads(threads_before)
    # what matters about an optimiser: how far each ends above the lowest objective that any of them found
    objectives = {name: _objectives(fit, pairs, values) for name, pairs in coefficients.items()}
    lowest = torch.stack(list(objectives.values())).amin(dim=0)
    for name, numbers in found.items():
        above = objectives[name] / lowest - 1
        numbers["objective_above_lowest"] = {"median": above.median().item(), "largest": above.max().item()}
        numbers["times_our_seconds"] = numbers["seconds"] / found["ours"]["seconds"]
    return {
        "machine": {"cores": os.cpu_count(), "threads": options.threads, "load_average": os.getloadavg()[0]},
        "versions": {"torch": torch.__version__, "scikit-learn": sklearn.__version__},
        "sizes": {"fit": list(fit[0].shape), "validation": len(validation[0]), "test": len(test[0])},
        "classes": num_classes,
        "l2_values": len(values),
        **found,
    }


def _scikit_learn(name: str) -> Callable[..., Iterator[Any]]:
    """Return a run over L2 values by scikit-learn on features that it standardises as ours does."""
    import torch
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    dtype = torch.float64 if name == "float64" else torch.float32

    def run(rows: Any, values: Sequence[float], start: None = None) -> Iterator[Any]:
        features, labels = rows
        mean, scale = features.double().mean(0), features.double().std(0, unbiased=False)

        def prepared(given: torch.Tensor) -> Any:
            return ((given.double() - mean) / scale).to(dtype).numpy()

        inputs, targets = prepared(features), labels.numpy()
        model = LogisticRegression(tol=1e-12, max_iter=1000, warm_start=name.endswith("warm"))
        for l2 in values:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.set_params(C=1 / l2).fit(inputs, targets)
            pair = torch.from_numpy(model.coef_.copy()), torch.from_numpy(model.intercept_.copy())

            def predict(given: torch.Tensor, pair: Any = pair) -> torch.Tensor:
                return (torch.from_numpy(prepared(given)) @ pair[0].T + pair[1]).argmax(dim=1)

            yield predict, tuple(part.double() for part in pair), None

    return run


def _objectives(rows: Any, pairs: Sequence[Any], values: Sequence[float]) -> Any:
    """Return the objective of each pair of coefficients and biases in float64."""
    import torch
    import torch.nn.functional as F

    features = rows[0].double()
    standard = (features - features.mean(0)) / features.std(0, unbiased=False)
    losses = [F.cross_entropy(standard @ weights.T + bias, rows[1], reduction="sum") for weights, bias in pairs]
    penalties = [l2 / 2 * weights.square().sum() for (weights, _), l2 in zip(pairs, values, strict=True)]
    return torch.stack(losses) + torch.stack(penalties)


def _accuracy(predicted: Any, labels: Any) -> float:
    return (predicted == labels).double().mean().item()


def _logistic_rows(options: argparse.Namespace) -> list[tuple[Any, Any]]:
    """Return features and labels to learn from, to choose on and to test on, of a file or drawn.

    Drawn features have noise with the falling spectrum of real ones (standard deviation of the k-th axis 1 / sqrt(k)),
    class means whose spectrum falls faster (1 / k), and one label in twenty is wrong; turned at random, so that
    dimensions are correlated.
    """
    import numpy as np
    import torch
    from safetensors.torch import load_file

    from synclr_hf.evaluation.labelled.splits import stratified_group_split

    if options.features:
        stored = load_file(options.features)
        features, labels = stored["features"].float(), stored["labels"].unique(return_inverse=True)[1]
        rest, test = stratified_group_split(labels.numpy(), np.arange(len(labels)), held_out=0.25, seed=options.seed)
        inner = stratified_group_split(labels[rest].numpy(), rest, held_out=0.2, seed=options.seed)
        return [(features[rows], labels[rows]) for rows in (rest[inner[0]], rest[inner[1]], test)]
    generator = torch.Generator().manual_seed(options.seed)
    deviation = torch.arange(1, options.width + 1).float().rsqrt()
    turn = torch.linalg.qr(torch.randn(options.width, options.width, generator=generator))[0]
    means = 1.5 * torch.randn(options.classes, options.width, generator=generator) * deviation.square()
    parts = []
    for count in (options.rows, options.rows // 5, 2 * options.rows // 5):
        labels = torch.arange(count) % options.classes
        features = means[labels] + torch.randn(count, options.width, generator=generator) * deviation
        wrong = torch.rand(count, generator=generator) < 0.05
        told = torch.where(wrong, torch.randint(options.classes, (count,), generator=generator), labels)
        parts.append((features @ turn, told))
    return parts


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
