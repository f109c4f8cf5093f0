"""The part `knn` of `evaluation.py`: 5,000 queries against a million float16 rows."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

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
