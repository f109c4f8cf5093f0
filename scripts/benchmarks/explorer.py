"""Measure the explorer: `python scripts/benchmarks/explorer.py search | users`.

`search`: how long the exact search in an index takes, straight from the memory map, beside FAISS where that is there.
`users`: the page under many visitors at once, over HTTP. Each prints what it measured with its settings, the machine
and the versions; `--json FILE` writes it, too.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from explorer_users import add_users_options, measure_users

from synclr_hf.cli.machine import machine


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `search`."""
    parser.add_argument("--rows", type=int, default=100_000, help="pictures of the index")
    parser.add_argument("--width", type=int, default=768, help="numbers that describe a picture")
    parser.add_argument("--rounds", type=int, default=50, help="searches of each kind")
    parser.add_argument("--seed", type=int, default=0)


def measure_search(options: argparse.Namespace) -> dict[str, Any]:
    """Time searches for the 12 nearest in an index of random unit features, written to disk and opened from there."""
    import torch
    from datasets import Dataset

    from synclr_hf.explorer.index.facts import IndexedEncoder, IndexFacts
    from synclr_hf.explorer.index.opening import open_index
    from synclr_hf.explorer.index.schema import index_features
    from synclr_hf.explorer.search import nearest

    encoder = IndexedEncoder("random", "embedding", options.width, "random")
    features = index_features([encoder])

    def rows() -> Iterator[dict[str, Any]]:
        generator = np.random.default_rng(options.seed)
        for start in range(0, options.rows, 1000):
            some = generator.standard_normal((min(1000, options.rows - start), options.width), dtype=np.float32)
            some /= np.linalg.norm(some, axis=1, keepdims=True)
            for k, row in enumerate(some.astype(np.float16)):
                known = {"caption_id": (start + k) // 4, "place": k % 4, "concept": f"concept {(start + k) % 100}"}
                nothing = {"caption": None, "source": None, "template": None, "image": {"bytes": b"", "path": None}}
                yield {**known, **nothing, "embedding": row}

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        made = Dataset.from_generator(rows, features=features, cache_dir=f"{folder}/cache")
        made.to_parquet(f"{folder}/data/train-00000.parquet")
        IndexFacts((encoder,), options.rows).save(folder)
        begun = time.perf_counter()
        index = open_index(folder)
        opened = time.perf_counter() - begun
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        queries = torch.randn(options.rounds, options.width, generator=torch.Generator().manual_seed(1))
        begun = time.perf_counter()
        nearest(index, queries[:1], 12)
        first = time.perf_counter() - begun
        chosen = index.rows_of_concepts(["concept 7"])
        kinds: dict[str, Callable[[int], Any]] = {
            "exact": lambda k: nearest(index, queries[k : k + 1], 12),
            "exact, one concept in a hundred": lambda k: nearest(index, queries[k : k + 1], 12, rows=chosen),
            "exact, 8 queries at once": lambda k: nearest(index, queries[:8], 12),
        }
        told = {name: _milliseconds(kind, options.rounds) for name, kind in kinds.items()}
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        told |= _faiss(index, queries, options.rounds)
    return {
        "rows": options.rows,
        "width": options.width,
        "seconds_to_open": round(opened, 2),
        "first_search_ms": round(first * 1e3, 1),
        "searches_ms": told,
        "peak_memory_grown_by_searching_mib": round(memory, 1),
    }


def _faiss(index: Any, queries: Any, rounds: int) -> dict[str, Any]:
    """Time the flat FAISS index that `datasets` makes of the same column, which it holds in memory as float32."""
    try:
        import faiss
    except ImportError:
        return {}
    index.rows.add_faiss_index("embedding", string_factory="Flat", metric_type=faiss.METRIC_INNER_PRODUCT)
    asked = queries.numpy()
    return {"FAISS Flat": _milliseconds(lambda k: index.rows.get_index("embedding").search(asked[k], k=12), rounds)}


def _milliseconds(action: Callable[[int], Any], rounds: int) -> dict[str, float]:
    action(0)
    taken = []
    for k in range(rounds):
        begun = time.perf_counter()
        action(k)
        taken.append((time.perf_counter() - begun) * 1e3)
    quantiles = {"median": 0.5, "p90": 0.9, "worst": 1.0}
    return {name: round(float(np.quantile(taken, share)), 2) for name, share in quantiles.items()}


MEASUREMENTS = {"search": (add_search_options, measure_search), "users": (add_users_options, measure_users)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    for name, (add_options, _) in MEASUREMENTS.items():
        one = what.add_parser(name)
        add_options(one)
        one.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args(arguments)
    told = {"what": options.what, **MEASUREMENTS[options.what][1](options), "machine": machine()}
    told["versions"] = {name: _version(name) for name in ("torch", "datasets", "gradio", "faiss-cpu", "numpy")}
    print(json.dumps(told, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(told, indent=1) + "\n")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
