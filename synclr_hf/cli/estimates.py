"""The arithmetic of a plan: from amounts and rates to device-hours, days, bytes and files; it measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synclr_hf.cli.parameters import entry, section
from synclr_hf.data.extension import RunSize
from synclr_hf.data.writing import MAX_SHARDS

HOUR = 3600.0

NATURAL_PICTURE_BYTES = 29_000
"""A natural picture of 256 px as JPEG of quality 95: the mean of 256 px crops of photographs, measured."""

LONGEST_CAPTION_ROW_BYTES = 400
"""77 tokens of some 4 letters and the other columns, not compressed: a bound, not a mean."""

TINY_FILE = 10_000_000
GOOD_FILE = 200_000_000
"""Bytes of a data file: below the first there are needlessly many, around the second they load and resume well."""

MOST_FILES_OF_A_FOLDER = 10_000
"""What the Hub recommends (huggingface.co/docs/hub/repositories-recommendations)."""

MOST_ROWS_SUGGESTED = 10_000
"""The captions of a shard are drawn together and held in memory."""


@dataclass(frozen=True)
class Rate:
    """How fast one device does a stage.

    Attributes:
        per_second: captions or pictures.
        device: what one device is, e.g. `NVIDIA H100`, or `GPU` for a rate that was given.
        is_gpu: whether its hours are GPU-hours, which have a price.
        is_measured: by the probe; else it was given.
        load_seconds: until a process has its model, once a process.
        remarks: what to know about the figure, each a sentence.
    """

    per_second: float
    device: str = "GPU"
    is_gpu: bool = True
    is_measured: bool = False
    load_seconds: float = 0.0
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageWork:
    """What a stage has to do.

    Attributes:
        stage: its name.
        amount: number of units.
        unit: `captions` or `pictures`.
        pieces: what devices share out, whole: shards, or the captions of a step.
        rate: how fast one device does it; `None`: nobody knows.
        unknown: why nobody knows, and what to type.
        efficiency: number of devices -> share of the time in which each works, in (0, 1]; the others: 1.
    """

    stage: str
    amount: int
    unit: str
    pieces: int
    rate: Rate | None
    unknown: str = ""
    efficiency: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StageCost:
    """What a stage takes.

    Attributes:
        device_hours: of one kind of device.
        price: in the currency of the price of an hour; `None` without one, or where the hours are not a GPU's.
        wall_seconds: number of devices -> seconds until it is done.
    """

    device_hours: float
    price: float | None
    wall_seconds: dict[int, float]


def stage_cost(work: StageWork, devices: Sequence[int], price: float | None = None) -> StageCost | None:
    """Return what a stage takes: devices share out its pieces, and each process loads its model once.

    The hours are those of one device by itself; what others wait for each other is in the wall time only.

    Args:
        work: the stage.
        devices: numbers of devices to look at.
        price: of a GPU-hour.
    """
    rate = work.rate
    if rate is None:
        return None
    seconds = work.amount / rate.per_second
    hours = seconds / HOUR
    cost = hours * price if price is not None and rate.is_gpu else None
    shares = {number: -(-work.pieces // number) / work.pieces for number in devices}
    walls = {
        number: seconds * share / work.efficiency.get(number, 1.0) + rate.load_seconds
        for number, share in shares.items()
    }
    return StageCost(hours, cost, walls)


def total_cost(works: Sequence[StageWork], devices: Sequence[int], price: float | None = None) -> StageCost | None:
    """Return the sum over the stages, one after the other; `None` if a rate is unknown or devices differ in kind."""
    costs = [stage_cost(work, devices, price) for work in works]
    kinds = {"GPU" if work.rate.is_gpu else work.rate.device for work in works if work.rate is not None}
    known = [cost for cost in costs if cost is not None]
    if len(known) < len(works) or len(kinds) > 1:
        return None
    prices = [cost.price for cost in known if cost.price is not None]
    return StageCost(
        sum(cost.device_hours for cost in known),
        sum(prices) if prices else None,
        {number: sum(cost.wall_seconds[number] for cost in known) for number in devices},
    )


@dataclass(frozen=True)
class Training:
    """How much a recipe trains.

    Attributes:
        steps: optimizer steps.
        captions_per_step: captions of one, over all processes.
        images_per_caption: pictures of a caption that are used.
        processes: for which the recipe's batch is meant; `None` where the captions of a step were given.
    """

    steps: int
    captions_per_step: int
    images_per_caption: int
    processes: int | None = None

    @property
    def pictures(self) -> int:
        """Pictures that student and teacher see, each time with all its crops."""
        return self.steps * self.captions_per_step * self.images_per_caption


def training_of(
    pretraining: Mapping[str, Any],
    *,
    captions: int,
    images_per_caption: int,
    processes: int = 1,
    captions_per_step: int | None = None,
) -> Training:
    """Return how much a recipe trains; entries that it leaves out are those of the Trainer: batches of 8, 3 epochs.

    Args:
        pretraining: entries of the recipe's section.
        captions: of the set, which decide the steps of a recipe without `max_steps`.
        images_per_caption: pictures that each has.
        processes: for which the recipe's batch is meant.
        captions_per_step: of all processes together, where it is not what the recipe says.
    """
    arguments = section(pretraining, "training_arguments")
    batch = entry(arguments, "per_device_train_batch_size", 8) * entry(arguments, "gradient_accumulation_steps", 1)
    step = captions_per_step or max(1, int(batch * processes))
    steps = int(entry(arguments, "max_steps", -1))
    if steps <= 0:
        steps = max(1, int(entry(arguments, "num_train_epochs", 3) * captions / step))
    used = entry(section(pretraining, "views"), "images_per_caption", images_per_caption)
    return Training(steps, step, int(used), processes if captions_per_step is None else None)


@dataclass(frozen=True)
class Communication:
    """An optimizer step of data-parallel training (DDP) on some devices.

    Attributes:
        devices: their number.
        captions_each: of the step, on the device that has most.
        sent_bytes: that a device sends in a step, by part (`synclr_hf/training/communication.py`), and `total`.
        compute_seconds: of a device by itself; `None`: its rate is not known, or not that of a GPU.
        step_seconds: with the communication, on the simulated cluster.
    """

    devices: int
    captions_each: int
    sent_bytes: dict[str, float]
    compute_seconds: float | None = None
    step_seconds: float | None = None

    @property
    def efficiency(self) -> float | None:
        """The share of a step in which a device computes, in (0, 1]."""
        if self.compute_seconds is None or self.step_seconds is None:
            return None
        return self.compute_seconds / self.step_seconds


@dataclass(frozen=True)
class Storage:
    """Bytes that lie somewhere.

    Attributes:
        what: e.g. `pictures`.
        size: bytes.
        source: where the figure is from.
    """

    what: str
    size: float
    source: str


@dataclass(frozen=True)
class Files:
    """The data files of a stage.

    Attributes:
        stage: its name, which is also that of the subcommand.
        rows: of the whole set.
        rows_per_shard: of a file.
        row_bytes: bytes of a row.
        rows_per_second: of one device; `None`: nobody knows.
    """

    stage: str
    rows: int
    rows_per_shard: int
    row_bytes: float
    rows_per_second: float | None

    @property
    def count(self) -> int:
        """Number of files."""
        return RunSize(self.rows, self.rows_per_shard).num_shards

    @property
    def file_bytes(self) -> float:
        """Bytes of a full one."""
        return min(self.rows_per_shard, self.rows) * self.row_bytes

    @property
    def file_seconds(self) -> float | None:
        """Seconds that one device needs for a file: what is lost at most where a process is killed."""
        if self.rows_per_second is None:
            return None
        return min(self.rows_per_shard, self.rows) / self.rows_per_second

    @property
    def rows_for_the_hub(self) -> int | None:
        """Rows per shard with which the set keeps to what the Hub recommends; `None` where it does."""
        return _rounded_up(self.rows / MOST_FILES_OF_A_FOLDER, 2) if self.count > MOST_FILES_OF_A_FOLDER else None

    @property
    def suggestion(self) -> int | None:
        """Rows per shard to type instead, where there are too many files, or many that are tiny."""
        too_many = self.count > MAX_SHARDS
        if not too_many and (self.count < 1000 or self.file_bytes >= TINY_FILE):
            return None
        wanted = max(min(GOOD_FILE / self.row_bytes, MOST_ROWS_SUGGESTED), self.rows / MAX_SHARDS)
        rounded = _rounded_up(wanted, 1)
        return rounded if too_many or rounded > self.rows_per_shard else None


def _rounded_up(number: float, digits: int) -> int:
    """Return the next number above that has so many digits and then zeros."""
    step = 10 ** max(len(str(int(number))) - digits, 0)
    return -int(-number // step) * step


@dataclass(frozen=True)
class Plan:
    """Everything that is told.

    Attributes:
        captions: their number.
        images_per_caption: pictures of each.
        recipe: name of what is trained.
        training: how much.
        works: what each stage has to do.
        storage: what lies on disks.
        files: the data files of captions and images.
        devices: numbers of devices to tell the time for.
        price: of a GPU-hour; `None`: not told.
        communication: of a training step, for each number of devices.
        node_bandwidth: GB/s of a device within its machine, from which the communication is reckoned.
        network_bandwidth: the same to other machines.
    """

    captions: int
    images_per_caption: int
    recipe: str
    training: Training
    works: tuple[StageWork, ...]
    storage: tuple[Storage, ...]
    files: tuple[Files, ...]
    devices: tuple[int, ...]
    price: float | None = None
    communication: tuple[Communication, ...] = ()
    node_bandwidth: float = 400.0
    network_bandwidth: float = 50.0
