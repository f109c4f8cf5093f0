"""Seconds of every stage and the peak memory of a run, kept over interruptions."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from synclr_hf.data.shards import write_text

SAMPLE_SECONDS = 0.25
SAVE_SECONDS = 5.0


class RunClock:
    """Measures the stages of a run; what is measured is saved every few seconds and added to by the next run.

    Args:
        file: JSON file of the measurements.
        run: what tells this run from others in the same folder; measurements of another one are forgotten.

    Attributes:
        seconds: stage -> seconds of wall clock, all attempts together.
        peak_memory_gib: largest resident memory of this process and its children, shared pages counted in each.
    """

    def __init__(self, file: Path, run: str) -> None:
        self.file, self.run = file, run
        try:
            kept = json.loads(file.read_text())
        except (OSError, ValueError):
            kept = {}
        kept = kept if kept.get("run") == run else {}
        self.seconds: dict[str, float] = kept.get("seconds", {})
        self.peak_memory_gib: float = kept.get("peak_memory_gib", 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure one stage and say that it begins."""
        sys.stderr.write(f"== {name}\n")
        before, start, done = self.seconds.get(name, 0.0), time.monotonic(), threading.Event()

        def watch() -> None:
            saved = start
            while not done.wait(SAMPLE_SECONDS):
                self.peak_memory_gib = max(self.peak_memory_gib, _resident_gib())
                self.seconds[name] = before + time.monotonic() - start
                if time.monotonic() - saved > SAVE_SECONDS:
                    saved = time.monotonic()
                    self.save()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            self.seconds[name] = before + time.monotonic() - start
            self.save()

    def save(self) -> None:
        """Write the measurements; a run that cannot write them has said so already."""
        if self.file.parent.is_dir():
            measured = {"run": self.run, "seconds": self.seconds, "peak_memory_gib": self.peak_memory_gib}
            with suppress(OSError):
                write_text(self.file, json.dumps(measured, indent=1) + "\n")


def _resident_gib() -> float:
    """Return the resident memory of this process and all below it."""
    total, here = 0, psutil.Process()
    for process in (here, *here.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue  # it ended in between
    return total / 2**30
