"""What the benchmarks of the training step and of the whole training share: clocks, memory, machine, pairs, tables.

torch and the package are imported where something is measured: the process that only compares others stays light.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SIZES = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16},
    "vit-s16": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "patch_size": 16},
    "vit-b16": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "patch_size": 16},
    "vit-l14": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14},
}
IMPLEMENTATIONS = ("plain", "fast")
ONLY_COMPARING = ("compare", "rounds", "ablate", "json", "time_limit")
"""Options of the process that compares; those that measure do not get them."""


class Clock:
    """Points in time: events on a GPU, which nobody waits for, `perf_counter` on a CPU."""

    def __init__(self, device: Any) -> None:
        self.on_gpu = device.type == "cuda"

    def now(self) -> Any:
        """Return this moment; on a GPU the one when all work that was given to it is done."""
        if not self.on_gpu:
            return time.perf_counter()
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def wait(self) -> None:
        """Wait until the GPU has done its work."""
        if self.on_gpu:
            import torch

            torch.cuda.synchronize()

    def seconds(self, start: Any, end: Any) -> float:
        """Return the seconds between two moments; on a GPU after `wait`."""
        return start.elapsed_time(end) / 1000 if self.on_gpu else end - start


class Parts:
    """Time that parts of a step take, by methods that are wrapped; parts of one name add up within a step."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.active = clock, True
        self.laps: list[tuple[str, Any, Any]] = []
        self.steps: list[dict[str, float]] = []

    def wrap(self, owner: Any, method: str, name: str | Callable[..., str]) -> None:
        """Time a method of an object.

        Args:
            owner: the object.
            method: the method's name.
            name: the part, or a function from the arguments to it.
        """
        inner = getattr(owner, method)

        @functools.wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if not self.active:
                return inner(*args, **kwargs)
            start = self.clock.now()
            result = inner(*args, **kwargs)
            self.laps.append((name if isinstance(name, str) else name(*args, **kwargs), start, self.clock.now()))
            return result

        setattr(owner, method, timed)

    def end_step(self) -> None:
        """Add up the laps of a step; waits for the GPU."""
        self.clock.wait()
        seconds: dict[str, float] = defaultdict(float)
        for name, start, end in self.laps:
            seconds[name] += self.clock.seconds(start, end)
        self.laps.clear()
        self.steps.append(dict(seconds))

    def milliseconds(self) -> dict[str, float]:
        """Return the median of each part over the steps."""
        names = dict.fromkeys(name for step in self.steps for name in step)
        return {name: 1000 * statistics.median(step.get(name, 0.0) for step in self.steps) for name in names}


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "quartile_low": low, "quartile_high": high}


def resident_gib(peak: bool = False) -> float:
    """Return the resident memory of this process, or the most it ever had, in GiB.

    On Linux the peak is `VmHWM`: `ru_maxrss` of a process also counts the one that started it.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        unit = 1 if platform.system() == "Darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    name = "VmHWM:" if peak else "VmRSS:"
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**20


def memory_before(device: Any) -> float:
    """Return the memory in use before the model is built, in GiB: of a GPU what was allocated there."""
    if device.type != "cuda":
        return resident_gib()
    import torch

    return torch.cuda.memory_allocated(device) / 2**30


def memory(device: Any, before: float) -> dict[str, float]:
    """Return the peak memory in GiB and what model and steps added to what was there before.

    Args:
        device: a GPU: of its memory, since the statistics were reset; a CPU: resident memory of the process.
        before: what `memory_before` returned.
    """
    if device.type != "cuda":
        peak = resident_gib(peak=True)
        return {"peak_gib": peak, "before_model_gib": before, "added_gib": peak - before}
    import torch

    peak = torch.cuda.max_memory_allocated(device) / 2**30
    reserved = torch.cuda.max_memory_reserved(device) / 2**30
    return {"peak_gib": peak, "reserved_gib": reserved, "before_model_gib": before, "added_gib": peak - before}


def highest_memory(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the memory of the run with the highest peak."""
    return max((run["memory"] for run in runs), key=lambda memory: memory["peak_gib"])


def memory_rows(variants: Mapping[str, Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Return the rows of a table that show the memory, a variant a column."""
    words = {"peak_gib": "peak memory", "reserved_gib": "reserved", "before_model_gib": "before the model"}
    return {
        f"{words.get(name, 'added by model and steps')}, GiB": [found["memory"][name] for found in variants.values()]
        for name in next(iter(variants.values()))["memory"]
    }


def matrix_rate(device: Any, rounds: int = 3) -> float:
    """Return the best rate of a square matrix product in TFLOP/s: bf16 8192 on a GPU, float32 2048 on a CPU."""
    import torch

    side, dtype, repeats = (8192, torch.bfloat16, 10) if device.type == "cuda" else (2048, torch.float32, 1)
    clock = Clock(device)
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(rounds + 1):  # the first warms up
        start = clock.now()
        for _ in range(repeats):
            left @ right
        end = clock.now()
        clock.wait()
        seconds.append(clock.seconds(start, end) / repeats)
    del left, right
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return 2 * side**3 / min(seconds[1:]) / 1e12


class Neighbours:
    """How much of the machine's cores other processes take from now on: numbers with more than a few % say little."""

    def __init__(self) -> None:
        self.start, self.own = self._now(), time.process_time()

    @staticmethod
    def _now() -> tuple[float, float]:
        import psutil

        times = psutil.cpu_times()
        busy = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
        return time.perf_counter(), busy - time.process_time()

    def share(self) -> float:
        """Return the share of all cores since the start, 0 to 1."""
        (began, before), (now, others) = self.start, self._now()
        return min(max((others - before) / (now - began) / (os.cpu_count() or 1), 0.0), 1.0)

    def own_seconds(self) -> float:
        """Return the processor time of this process since the start, in seconds, all threads together."""
        return time.process_time() - self.own


def cpu_name() -> str:
    """Return the processor's name as Linux tells it; elsewhere its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def machine(device: Any) -> dict[str, Any]:
    """Return what the numbers depend on besides the settings."""
    import psutil
    import torch
    import transformers

    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "cores": psutil.cpu_count(logical=False),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average_before": psutil.getloadavg()[0],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add what both benchmarks are asked."""
    parser.add_argument("--model", default="vit-s16", choices=SIZES)
    parser.add_argument("--implementation", default="fast", choices=IMPLEMENTATIONS)
    parser.add_argument(
        "--compare", choices=["plain"], help="measure plain and fast in turns, each in its own process"
    )
    parser.add_argument("--rounds", type=int, default=2, help="turns of a comparison")
    parser.add_argument("--captions", type=int, default=8)
    parser.add_argument("--images-per-caption", type=int, default=4)
    parser.add_argument("--prototypes", type=int, default=65536)
    parser.add_argument(
        "--drop-path", type=float, default=0.0, help="stochastic depth of the student; paper 0.1, L 0.4"
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], help="default: a GPU if there is one")
    parser.add_argument("--dtype", choices=["float32", "bf16"], help="default: bf16 autocast on a GPU, else float32")
    parser.add_argument("--time-limit", type=float, help="seconds after which a process of a comparison is ended")
    parser.add_argument("--json", type=Path)


def check_common_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse what cannot be measured."""
    if options.steps is not None and options.steps < 2:
        parser.error(f"--steps {options.steps}: quartiles need 2 steps or more; type --steps 2")
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: allowed: 1 or more; type --rounds 2")


def chosen_device(options: argparse.Namespace) -> Any:
    """Return the device and complete `options.device` and `options.dtype`."""
    import torch

    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    options.dtype = options.dtype or ("bf16" if options.device == "cuda" else "float32")
    return torch.device(options.device)


def build_model(options: argparse.Namespace) -> Any:
    """Make the paper's training model of the asked size, on the device."""
    import torch

    from synclr_hf.training import SynCLRForPreTraining, SynCLRPreTrainingConfig

    objectives = [{"name": "multi_positive"}, {"name": "ibot", "num_prototypes": options.prototypes}]
    config = SynCLRPreTrainingConfig(
        encoder_config=dict(SIZES[options.model]), objectives=objectives, student_drop_path_rate=options.drop_path
    )
    torch.manual_seed(0)
    with torch.device(options.device):
        return SynCLRForPreTraining(config)


def training_arguments(options: argparse.Namespace, folder: str, max_steps: int, **more: Any) -> Any:
    """Return the arguments of a training that writes and logs nothing."""
    from synclr_hf.training import SynCLRTrainingArguments

    return SynCLRTrainingArguments(
        output_dir=folder,
        implementation=options.implementation,
        per_device_train_batch_size=options.captions,
        max_steps=max_steps,
        learning_rate=1e-4,
        bf16=options.dtype == "bf16",
        use_cpu=options.device == "cpu",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **more,
    )


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that say what was measured."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(options).items()
        if name not in ONLY_COMPARING and value is not None
    }


def run_alone(script: str, options: argparse.Namespace, **changes: Any) -> dict[str, Any]:
    """Run a benchmark in a process of its own and return what it wrote.

    Args:
        script: its file.
        options: of the comparison; what only it needs is left out.
        **changes: options that differ.

    Raises:
        RuntimeError: it took longer than `options.time_limit`, or failed, with the last line that it wrote; all of
            them are on standard error.
    """
    command = [sys.executable, script]
    for name, value in (settings_of(options) | changes).items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        command += ["--json", str(found)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=options.time_limit)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"not done within {options.time_limit:g} seconds") from error
        sys.stderr.write(done.stderr)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise RuntimeError(last)
        return json.loads(found.read_text())


def in_turns(script: str, options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Measure plain and fast in turns, `options.rounds` times each, and return what each run wrote."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in IMPLEMENTATIONS}
    for turn in range(options.rounds):
        for name in IMPLEMENTATIONS:
            runs[name].append(run_alone(script, options, implementation=name))
            rate = runs[name][-1]["images_per_second"]
            print(f"round {turn + 1} of {options.rounds}, {name}: {rate:.2f} images/s", file=sys.stderr, flush=True)
    return runs


def median_of_pairs(runs: Mapping[str, Sequence[dict[str, Any]]], number: Callable[[dict[str, Any]], float]) -> float:
    """Return the median over the rounds of fast / plain."""
    pairs = zip(runs["fast"], runs["plain"], strict=True)
    return statistics.median(number(fast) / number(plain) for fast, plain in pairs)


def share_numbers(tflop: float, seconds: float, rate: float) -> dict[str, float]:
    """Return the arithmetic of a step: TFLOP, TFLOP/s, and its share of the machine's matrix rate."""
    return {
        "model_tflop": tflop,
        "tflop_per_second": tflop / seconds,
        "matrix_tflop_per_second": rate,
        "share_of_matrix_rate": tflop / seconds / rate,
    }


def step_tflop(model: Any, options: argparse.Namespace, batch: Mapping[str, Any]) -> float:
    """Return the arithmetic of a step on a batch of crops, in 1e12 floating point operations."""
    from synclr_hf.training.flops import step_flops

    images, locals_ = len(batch["pixel_values"]), len(batch["local_pixel_values"])
    counted = step_flops(
        model.config,
        images=images,
        global_crop_size=batch["pixel_values"].shape[-1],
        local_crop_size=batch["local_pixel_values"].shape[-1],
        local_crops=locals_ // images,
        masked_patches=int(batch["bool_masked_pos"].sum()),
    )
    return counted["total"] / 1e12


def table(columns: Sequence[str], rows: Mapping[str, Sequence[float | str | None]]) -> str:
    """Lay out numbers in columns: 12,345.6 or 1.234; what is not there is left empty."""

    def shown(value: float | str | None) -> str:
        if value is None or isinstance(value, str):
            return value or ""
        return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) < 0.1 else f"{value:.2f}"

    lines = [["", *columns], *([name, *map(shown, values)] for name, values in rows.items())]
    widths = [max(len(line[place]) for line in lines if place < len(line)) for place in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=False))
        ).rstrip()
        for line in lines
    )


def headline(settings: Mapping[str, Any], found_on: Mapping[str, Any]) -> str:
    """Say in two lines what was measured on what."""
    captions, each = settings["captions"], settings["images_per_caption"]
    versions = ", ".join(f"{name} {found_on[name]}" for name in ("torch", "transformers", "python"))
    return (
        f"{settings['model']}, {captions * each} images ({captions} captions x {each}), {settings['prototypes']:,} "
        f"prototypes, drop path {settings['drop_path']:g}, {settings['dtype']}\n"
        f"{found_on['device']}, {found_on['threads']} threads, load {found_on['load_average_before']:.1f}, "
        f"{versions}, {found_on['date']}"
    )


def write(found: Mapping[str, Any], path: Path | None) -> None:
    """Write the numbers as JSON into a file, or print them where there is none."""
    numbers = json.dumps(found, indent=1)
    if path is None:
        print(numbers)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(numbers + "\n")
