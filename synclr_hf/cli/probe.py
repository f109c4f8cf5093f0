"""A minute of each stage on this machine, in a temporary folder: how fast it is, and how large what it writes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from synclr_hf.captions.stage import CaptionsConfig, caption_maker
from synclr_hf.cli.estimates import Rate
from synclr_hf.cli.machine import processor
from synclr_hf.data.back_ends import BackEnd
from synclr_hf.data.plans import RowMaker
from synclr_hf.data.progress import Progress
from synclr_hf.data.schemas import caption_features, image_features
from synclr_hf.data.shards import DATA_FOLDER, NOTES_FOLDER, Row, ShardTask, write_shard
from synclr_hf.data.tally import Tally
from synclr_hf.data.workers import usable_cores
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.generators import find_image_generator
from synclr_hf.images.maker import ImageMaker

if TYPE_CHECKING:
    import pyarrow as pa

PATIENCE = 6
"""A probe that has nothing to tell after so many times its seconds gives up; loading does not count."""

WARM_UP_PICTURES = 8
"""Pictures of the first batch where the generator finds the size of its batches by itself."""

IMAGE_ROWS_OF_A_SHARD = 64


class _TimeIsUp(BaseException):
    """Ends a probe; no `except Exception` on the way keeps it."""


@dataclass(frozen=True)
class Probe:
    """What was found out about a stage.

    Attributes:
        rate: how fast one device does it; `None`: it is too slow to say.
        failure: why there is none.
        row_bytes: bytes of a row in its Parquet file, encoded pictures included; `None` where none was finished.
    """

    rate: Rate | None
    failure: str = ""
    row_bytes: float | None = None


class _Meter:
    """Counts draws as they are reported; what comes before the first report after the start is not timed.

    A back end reports a batch in a burst. From the first picture of one batch to the first of another one are whole
    batches, and the first report after the deadline is such a picture unless a burst is cut.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.drawn = self.taken_back = self.timed = 0
        self._warm = False
        self._first: float | None = None
        self._last = 0.0

    def start(self) -> None:
        """Begin to time: the warm-up is over."""
        self._warm = True

    def report(self, units: int) -> None:
        """Count units that are done, or taken back if negative."""
        if units <= 0:
            self.taken_back -= units
            return
        self.drawn += units
        now = time.perf_counter()
        if not self._warm:
            return
        if self._first is None:
            self._first = now
            return
        self.timed, self._last = self.timed + units, now
        self.check()

    def check(self) -> None:
        """End the probe once its time is up and something was timed."""
        if self._first is not None and self.timed and time.perf_counter() > self._first + self.seconds:
            raise _TimeIsUp

    @property
    def draws_per_second(self) -> float | None:
        """Draws a second; `None` before there are any."""
        return self.timed / (self._last - self._first) if self._first is not None and self.timed else None


def probe_captions(config: CaptionsConfig, seconds: float) -> Probe:
    """Write captions for some seconds as the stage does, in shards of the same size.

    Raises:
        UserInputError: as the stage does.
    """
    maker = caption_maker(config)
    back_end = maker.writer.back_end

    def tasks() -> Iterator[ShardTask]:
        yield ShardTask(0, 0, config.batch_size)
        for index in count(1):
            yield ShardTask(index, config.batch_size + (index - 1) * config.rows_per_shard, config.rows_per_shard)

    devices = max(1, len(back_end.devices)) if config.device_map else 1
    found = _probed("captions", maker, tasks(), caption_features().arrow_schema, seconds, 1)
    return _on_device(found, back_end, devices)


def probe_images(config: ImagesConfig, seconds: float) -> Probe:
    """Draw pictures for some seconds as the stage does, of captions of the toy world (the words cost no time).

    Raises:
        UserInputError: as the stage does.
    """
    config = config.resolved()
    back_end = find_image_generator(config.image_generator, config.options())
    warm_up = -(-(config.batch_size or WARM_UP_PICTURES) // config.images_per_caption)
    captions = _toy_captions(IMAGE_ROWS_OF_A_SHARD + warm_up)

    def tasks() -> Iterator[ShardTask]:
        yield ShardTask(0, 0, warm_up, captions[:warm_up])
        for index in count(1):
            first = warm_up + (index - 1) * IMAGE_ROWS_OF_A_SHARD
            inputs = ({**row, "caption_id": first + number} for number, row in enumerate(captions[warm_up:]))
            yield ShardTask(index, first, IMAGE_ROWS_OF_A_SHARD, tuple(inputs))

    schema = image_features(scores=config.score_model is not None).arrow_schema
    maker = ImageMaker(config, back_end)
    return _on_device(_probed("images", maker, tasks(), schema, seconds, config.images_per_caption), back_end, 1)


def _toy_captions(number: int) -> tuple[Row, ...]:
    """Return rows with what the images stage takes of them."""
    maker = caption_maker(CaptionsConfig("nowhere", language_model="toy"))
    maker.load()
    rows = maker.make(ShardTask(0, 0, number), Tally(), lambda units: None)
    return tuple({name: row[name] for name in ("caption_id", "caption", "concept", "source")} for row in rows)


def _probed(
    stage: str, maker: RowMaker, tasks: Iterator[ShardTask], schema: pa.Schema, seconds: float, units_per_row: int
) -> Probe:
    """Make shards, the first one to warm up, until the time is up."""
    start = time.perf_counter()
    with Progress(f"probing {stage}: loading"):
        maker.load()
    loaded = time.perf_counter()
    meter, rows, warm_up = _Meter(seconds), 0, 0.0
    with TemporaryDirectory(prefix="synclr_plan_") as name:
        folder = Path(name)
        for part in (DATA_FOLDER, NOTES_FOLDER):
            (folder / part).mkdir()
        drawn = kept = 0
        with Progress(f"probing {stage}", unit="draw") as bar, at_most(PATIENCE * seconds):

            def report(units: int) -> None:
                bar.update(units)
                meter.report(units)

            for task in tasks:
                made = _watched(maker.make(task, tally := Tally(), report), meter)
                rows += write_shard(folder, task, made, schema, tally).rows
                drawn, kept = meter.drawn, meter.drawn - meter.taken_back
                meter.start()
                warm_up = warm_up or time.perf_counter() - loaded
                if warm_up > seconds:
                    break
        row_bytes = _row_bytes(sorted((folder / DATA_FOLDER).glob("*.parquet")))
    share = min(1.0, kept / drawn) if drawn else None
    per_second, remarks = meter.draws_per_second, []
    if per_second is not None:
        per_second *= 1.0 if share is None else share
    elif warm_up:
        per_second = rows * units_per_row / warm_up
        remarks.append("it is so slow that the first batch is all that was measured, its warm-up included")
    else:
        return Probe(None, f"the first batch was not finished within {PATIENCE * seconds:g} s", row_bytes)
    if not per_second:
        return Probe(None, "nothing of what was drawn could be kept", row_bytes)
    if share is None:
        remarks.append("no shard was finished: draws that would be rejected are counted as kept")
    elif share < 1:
        remarks.append(f"of {drawn:,} draws {share:.1%} were kept, which the rate includes")
    return Probe(Rate(per_second, "", False, True, loaded - start, tuple(remarks)), "", row_bytes)


def _watched(rows: Iterator[Row], meter: _Meter) -> Iterator[Row]:
    """Look at the clock with every row, should a back end report from a thread of its own."""
    for row in rows:
        yield row
        meter.check()


def _row_bytes(files: list[Path]) -> float | None:
    """Return the bytes of a row in its columns; what a file has besides them would count too much in small ones."""
    import pyarrow.parquet as pq

    size = rows = 0
    for file in files:
        metadata = pq.read_metadata(file)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        size += sum(
            group.column(place).total_compressed_size for group in groups for place in range(group.num_columns)
        )
        rows += metadata.num_rows
    return size / rows if rows else None


def _on_device(probe: Probe, back_end: BackEnd, devices: int) -> Probe:
    """Return what was found with the device that one process of the back end fills; of several, the rate of each."""
    if probe.rate is None:
        return probe
    rate = replace(probe.rate, per_second=probe.rate.per_second / devices)
    if back_end.parallel_processes:
        return replace(probe, rate=replace(rate, device=f"one core of {processor()}"))
    if back_end.uses_device:
        name, is_gpu = device_name()
        return replace(probe, rate=replace(rate, device=name, is_gpu=is_gpu))
    remarks = (*rate.remarks, "what the server runs on is not known: give the rate of one GPU for GPU-hours")
    return replace(probe, rate=replace(rate, device="the server", remarks=remarks))


def device_name() -> tuple[str, bool]:
    """Return the name of the device that models run on, and whether it is a CUDA GPU."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(), True
    if torch.backends.mps.is_available():
        return f"{processor()} (mps)", False
    return f"{usable_cores()} cores of {processor()}", False


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """End a block when its time or that of a meter is up, even in the middle of a batch (not in a thread)."""
    timed = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()

    def ring(number: int, frame: Any) -> None:
        raise _TimeIsUp

    before = signal.signal(signal.SIGALRM, ring) if timed else None
    try:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    except _TimeIsUp:
        pass
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
