"""The page under many visitors at once: each uploads, searches, asks for maps, browses and compares in turn."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from io import BytesIO
from typing import Any

import httpx
import numpy as np

PAUSE = 1.0
"""Seconds a visitor looks at an answer, on average."""
ACTIONS = ("page", "search", "search_row", "search_region", "pca_maps", "browse", "compare")
_PATIENCE = 120.0


def add_users_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `users`."""
    parser.add_argument("--run", required=True, help="what `synclr demo` shows, e.g. outputs/quickstart")
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--port", type=int, default=7931)


def measure_users(options: argparse.Namespace) -> dict[str, Any]:
    """Serve the page in a process of its own and let the visitors in."""
    code = "from synclr_hf.cli.main import main; main()"
    command = [sys.executable, "-c", code, "demo", options.run, "--port", str(options.port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        address = next(line for line in server.stdout if line.startswith("demo: ")).split()[1]
        return {"users": options.users, "seconds": options.seconds, **_visits(address, options.users, options.seconds)}
    finally:
        server.kill()
        server.wait()


def _visits(address: str, users: int, seconds: float) -> dict[str, Any]:
    taken: dict[str, list[float]] = defaultdict(list)
    errors: Counter[str] = Counter()
    lock = threading.Lock()
    with httpx.Client(timeout=_PATIENCE) as client:
        first = _Visitor(client, address, 0)
        first.search_row()  # waits until it is loaded
    end = time.monotonic() + seconds

    def visit(number: int) -> None:
        with httpx.Client(timeout=_PATIENCE) as client:
            visitor = _Visitor(client, address, number)
            time.sleep(random.Random(number).random() * PAUSE)
            while time.monotonic() < end:
                for name in visitor.random.sample(ACTIONS, len(ACTIONS)):
                    begun = time.perf_counter()
                    try:
                        getattr(visitor, name)()
                    except Exception as error:
                        with lock:
                            errors[f"{name}: {type(error).__name__}: {str(error)[:200]}"] += 1
                    with lock:
                        taken[name].append(time.perf_counter() - begun)
                    time.sleep(visitor.random.expovariate(1 / PAUSE))
                    if time.monotonic() > end:
                        break

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = [value for values in taken.values() for value in values]
    return {
        "requests": len(whole),
        "errors": dict(errors),
        "seconds_to_answer": {name: _quantiles(values) for name, values in {**taken, "all": whole}.items()},
    }


def _quantiles(values: list[float]) -> dict[str, float]:
    shares = {"median": 0.5, "p90": 0.9, "p99": 0.99, "worst": 1.0}
    told = {name: round(float(np.quantile(values, share)), 2) for name, share in shares.items()}
    return {"count": len(values), **told}


class _Visitor:
    """One visitor with pictures of their own."""

    def __init__(self, client: httpx.Client, address: str, number: int) -> None:
        self.client, self.address = client, address
        self.random = random.Random(number)

    def page(self) -> None:
        self.client.get(f"{self.address}/").raise_for_status()
        self.client.get(f"{self.address}/config").raise_for_status()

    def search(self) -> None:
        assert len(self._call("search", [self._upload(), 12, []])[1]) == 12

    def search_row(self) -> None:
        assert len(self._call("search_row", [self.random.randrange(32), 12, []])[1]) == 12

    def search_region(self) -> None:
        assert self._call("search_region", [self._upload(), 1, 1, []])[1]

    def pca_maps(self) -> None:
        files = [self._upload() for _ in range(2)]
        assert len(self._call("pca_maps", [files, 224, False, 0, 80, False])[0]) == 2

    def browse(self) -> None:
        assert self._call("browse", ["", [], [], [], self.random.randint(1, 5)])[0]["captions"]

    def compare(self) -> None:
        assert self._call("compare", [None, self.random.randrange(32), None, None, 12])[0]

    def _upload(self) -> dict[str, Any]:
        from PIL import Image

        colours = np.random.default_rng(self.random.getrandbits(32)).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        file = BytesIO()
        Image.fromarray(colours).resize((224, 224), Image.Resampling.BICUBIC).save(file, "JPEG")
        sent = self.client.post(f"{self.address}/gradio_api/upload", files={"files": ("a.jpg", file.getvalue())})
        sent.raise_for_status()
        return {"path": sent.json()[0], "orig_name": "a.jpg", "meta": {"_type": "gradio.FileData"}}

    def _call(self, name: str, data: list[Any]) -> list[Any]:
        asked = self.client.post(f"{self.address}/gradio_api/call/{name}", json={"data": data})
        asked.raise_for_status()
        event = asked.json()["event_id"]
        answer: list[Any] | None = None
        with self.client.stream("GET", f"{self.address}/gradio_api/call/{name}/{event}") as told:
            kind = ""
            for line in told.iter_lines():
                if line.startswith("event:"):
                    kind = line.split(":", 1)[1].strip()
                elif line.startswith("data:") and kind in ("complete", "generating"):
                    content = json.loads(line[5:])
                    answer = content if content is not None else answer
                elif line.startswith("data:") and kind == "error":
                    raise RuntimeError(line)
        if kind != "complete" or answer is None:
            raise RuntimeError(f"ended with '{kind}'")
        return answer
