"""A progress bar that moves even while nothing finishes."""

from __future__ import annotations

import sys
import threading
from types import TracebackType

from tqdm import tqdm

REFRESH_SECONDS = 0.5
REFRESH_SECONDS_OFF_A_TERMINAL = 10.0
"""Seconds between two states of the bar in a file, such as the log of a job."""
_COUNTED = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
_TIMED = "{desc} [{elapsed}]{postfix}"
_OPEN_ENDED = "{desc}: {n_fmt}{unit} [{elapsed}, {rate_fmt}{postfix}]"


class _Bar(tqdm):  # type: ignore[type-arg]
    """A bar that only `Progress` draws: no monitor thread, and no lock shared with other processes."""

    monitor_interval = 0
    _lock = threading.RLock()


class Progress:
    """A bar on standard error, drawn again by a thread of its own: every half second, or ten seconds in a file.

    With a `total` it counts; without one it shows the time that has passed, and the count once there is one:

        with Progress("images", total=12000, unit="picture") as bar:
            bar.update(32)
        with Progress("loading the encoder"):
            ...

    Args:
        description: what is going on, in a few words.
        total: number of units that make it complete; `None` if nobody knows.
        unit: name of one unit.
        initial: units that were done before, e.g. by an interrupted run; they do not count for the rate.
    """

    def __init__(self, description: str, total: int | None = None, unit: str = "it", initial: int = 0) -> None:
        self._lock = threading.RLock()
        self._done = threading.Event()
        layout = _COUNTED if total is not None else _TIMED
        self._bar = _Bar(
            total=total,
            desc=description,
            unit=f" {unit}",
            initial=initial,
            bar_format=layout,
            file=sys.stderr,
            dynamic_ncols=True,
        )
        self._thread = threading.Thread(target=self._refresh_until_done, daemon=True)
        self._thread.start()

    def update(self, count: int = 1) -> None:
        """Add `count` finished units (may be negative, when work is taken back)."""
        with self._lock:
            self._bar.n += count
            if self._bar.total is None and self._bar.n > 0:
                self._bar.bar_format = _OPEN_ENDED

    def note(self, text: str) -> None:
        """Show a few words behind the numbers, e.g. `"loss 4.21"`."""
        with self._lock:
            self._bar.set_postfix_str(text, refresh=False)

    def message(self, text: str) -> None:
        """Write one line above the bar."""
        with self._lock:
            tqdm.write(text, file=sys.stderr)

    @property
    def count(self) -> int:
        """Units that are done, the `initial` ones included."""
        return int(self._bar.n)

    def close(self) -> None:
        """Draw the last state and end the line; harmless when called again."""
        if self._done.is_set():
            return
        self._done.set()
        self._thread.join()
        with self._lock:
            self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _refresh_until_done(self) -> None:
        while not self._done.wait(REFRESH_SECONDS if sys.stderr.isatty() else REFRESH_SECONDS_OFF_A_TERMINAL):
            with self._lock:
                self._bar.refresh()
