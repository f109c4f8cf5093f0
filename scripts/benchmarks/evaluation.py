"""Measure the evaluation room: `python scripts/benchmarks/evaluation.py extract | logistic | knn | table`.

Each prints what it measured with its settings, the machine and the versions; `--json FILE` writes it, too. `table`
puts an encoder beside the same one untrained and raw pixels on the real labelled pictures of `--data`:

    python scripts/benchmarks/evaluation.py table --model outputs/quickstart/encoder --data DIR --output outputs/table
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from evaluation_extract import extract, extract_options
from evaluation_knn import add_knn_options, measure_knn
from evaluation_logistic import add_logistic_options, measure_logistic

from synclr_hf.cli.machine import machine

CLASS_PROTOCOLS = "knn,linear,logistic,few_shot,retrieval,robustness"
MASK_PROTOCOLS = "segment_linear,segment_knn,foreground"
BACKGROUND = "foreground.background=[sky, building, road, pavement, tree, fence, pole, signsymbol]"
"""Of CamVid: what moves is foreground."""


def add_table_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `table`."""
    parser.add_argument("--model", required=True, help="folder of an encoder")
    parser.add_argument("--data", type=Path, required=True, help="folder of the three sets")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results; goes on where it stopped")
    parser.add_argument("--short-side", type=int, default=224, help="of the pictures with masks, in pixels")
    parser.add_argument("--seed", type=int, default=0)


def measure_table(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate the encoder, its untrained twin and raw pixels; the paper's protocols but for small batches of SGD."""
    from synclr_hf.cli.evaluate import (
        main as evaluate,  # heavy: the process that `knn` measures imports this file, too
    )
    from synclr_hf.evaluation.results import find_results

    shared = ["--seed", str(options.seed), "--output", str(options.output)]
    models = ["--model", options.model, "--model", f"untrained:{options.model}"]
    names = ("cifar10_subset", "caltech101_subset")
    sets = [part for name in names for part in ("--dataset", str(options.data / name))]
    small = ("linear.batch_size=128", "robustness.max_test_pictures=300")
    evaluate([*models, "--model", "pixels", *sets, "--protocols", CLASS_PROTOCOLS, *shared, *small])
    masks = ["--dataset", str(options.data / "camvid11"), "--protocols", MASK_PROTOCOLS]
    side = [f"{name}.short_side={options.short_side}" for name in MASK_PROTOCOLS.split(",")]
    evaluate([*models, *masks, *shared, *side, BACKGROUND])
    return {
        "results": [
            {
                "model": result.model["name"],
                "dataset": Path(result.dataset["name"]).name,
                "protocol": result.protocol,
                "metric": result.primary,
                "value": result.value,
                "interval": result.intervals[result.primary],
                "seconds": result.seconds,
            }
            for result in find_results([options.output])
        ]
    }


AddOptions = Callable[[argparse.ArgumentParser], None]
MEASUREMENTS: dict[str, tuple[AddOptions, Callable[[argparse.Namespace], dict[str, Any]]]] = {
    "extract": (extract_options, extract),
    "logistic": (add_logistic_options, measure_logistic),
    "knn": (add_knn_options, measure_knn),
    "table": (add_table_options, measure_table),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    for name, (add_options, _) in MEASUREMENTS.items():
        add_options(part := parts.add_parser(name))
        part.add_argument("--json", type=Path, help="file that the numbers are written to, too")
    options = parser.parse_args(arguments)
    settings = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(options).items()
        if name not in ("json", "part")
    }
    found = MEASUREMENTS[options.part][1](options)
    versions = {name: version(name) for name in ("synclr-hf", "torch", "transformers", "numpy")}
    text = json.dumps(
        {
            **found,
            "settings": settings,
            "machine": {**machine(), **found.get("machine", {})},
            "versions": {**versions, **found.get("versions", {})},
        },
        indent=1,
    )
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
