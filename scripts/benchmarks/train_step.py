"""Time, arithmetic and peak memory of an optimizer step of pre-training, as `SynCLRTrainer` makes it.

A step: student and teacher forward, losses, backward, clipping, AdamW, the teacher's moving average. Its crops are
random numbers that lie on the device: no loader, no augmentation, no log. Settings of the paper: 224 px, 4 local crops
of 96 px (98 for patches of 14), half of the patches masked in half of the pictures. float32 on a CPU, bf16 autocast on
a GPU. `--compare plain` measures both implementations in turns, each in a process of its own; `--ablate` switches one
part of the fast one off at a time.

On a GPU the steps are timed without waiting for it in between; the parts are taken in as many steps after them.

python scripts/benchmarks/train_step.py --model vit-s16 --captions 8 --images-per-caption 4 --prototypes 65536
--compare plain --json FILE (one line)
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from speed_parts import (
    IMPLEMENTATIONS,
    SIZES,
    Clock,
    Neighbours,
    Parts,
    add_common_options,
    build_model,
    check_common_options,
    chosen_device,
    headline,
    highest_memory,
    in_turns,
    machine,
    matrix_rate,
    median_of_pairs,
    memory,
    memory_before,
    memory_rows,
    quartiles,
    run_alone,
    settings_of,
    share_numbers,
    step_tflop,
    table,
    training_arguments,
    write,
)
from step_ablations import ABLATIONS

STUDENT_STREAMS = ("student global", "student local")
"""Within `student`, where the two run apart."""
PARTS = (
    "teacher",
    "student",
    *STUDENT_STREAMS,
    "prototypes: Sinkhorn",
    "prototypes: cross-entropy",
    "contrast",
    "backward",
    "optimizer",
    "ema",
    "other",
)
"""Of a step; heads belong to what needs them, `optimizer` is clipping and AdamW, `other` is what is left."""
OTHERS = "share of cores taken by others"
WITHOUT_RATIO = (OTHERS, "arithmetic of a step, TFLOP", "matrix rate, TFLOP/s", "before the model, GiB")
"""Rows of the table that say the same of both implementations, or nothing of them."""
LOCAL_CROPS = 4


def random_batch(options: argparse.Namespace) -> dict[str, Any]:
    """Make the batch of every step, on the device: normalised crops, ids, masks."""
    import torch

    from synclr_hf.views import masked_positions_of

    patch_size = SIZES[options.model]["patch_size"]
    local_size, each, device = 98 if patch_size == 14 else 96, options.images_per_caption, options.device
    images, patches = options.captions * each, (224 // patch_size) ** 2
    caption_ids = torch.arange(options.captions, device=device).repeat_interleave(each)
    image_ids = torch.arange(images, device=device)
    masked = (image_ids % each < each // 2)[:, None] & (torch.arange(patches, device=device) % 2 == 0)
    batch = {
        "pixel_values": torch.randn(images, 3, 224, 224, device=device),
        "local_pixel_values": torch.randn(images * LOCAL_CROPS, 3, local_size, local_size, device=device),
        "caption_ids": caption_ids,
        "image_ids": image_ids,
        "view_ids": image_ids,
        "bool_masked_pos": masked,
    }
    return batch | {"masked_positions": masked_positions_of(masked)}


class StepClock:
    """Times whole steps of a Trainer after the warm-up, and the parts of a step.

    On a CPU both in the same steps. On a GPU the parts come after the steps that are timed: nobody waits within those.
    """

    def __init__(self, trainer: Any, options: argparse.Namespace) -> None:
        self.options, self.device = options, trainer.args.device
        self.clock = Clock(self.device)
        self.parts = Parts(self.clock)
        self.parts_after = self.clock.on_gpu
        self.began = self.warm = time.perf_counter()
        self.moments: list[Any] = []
        self.done = 0
        self.others_share = self.processor_seconds = 0.0
        self.after_backward: Any = None
        self._wrap(trainer)
        self._choose_parts()

    def _wrap(self, trainer: Any) -> None:
        model, parts = trainer.model, self.parts
        parts.wrap(model, "teacher_features", "teacher")
        parts.wrap(model, "student_features", "student")
        parts.wrap(
            model.student,
            "forward",
            lambda pixels, *args, **kwargs: STUDENT_STREAMS[pixels.shape[-1] != 224],
        )
        for method, part in {"targets": "prototypes: Sinkhorn", "forward": "prototypes: cross-entropy"}.items():
            parts.wrap(model.objectives["ibot"], method, part)
            parts.wrap(model.objectives["multi_positive"], method, "contrast")
        parts.wrap(trainer.accelerator, "backward", "backward")
        parts.wrap(model, "update_teacher", "ema")
        self._note(trainer.accelerator, "backward", after=self._end_backward)
        self._note(model, "update_teacher", before=self._end_optimizer)
        self._note(trainer.callback_handler, "on_step_begin", before=self._begin_step)
        self._note(trainer.callback_handler, "on_step_end", after=self._end_step)

    @staticmethod
    def _note(
        owner: Any, method: str, before: Callable[[], None] | None = None, after: Callable[[], None] | None = None
    ) -> None:
        inner = getattr(owner, method)

        def noted(*args: Any, **kwargs: Any) -> Any:
            if before:
                before()
            result = inner(*args, **kwargs)
            if after:
                after()
            return result

        setattr(owner, method, noted)

    def _choose_parts(self) -> None:
        timed_from = self.options.warm_up + (self.options.steps if self.parts_after else 0)
        self.parts.active = self.done >= timed_from

    def _begin_step(self) -> None:
        if self.done == self.options.warm_up == 0:
            self._start()

    def _start(self) -> None:
        self.clock.wait()
        if self.clock.on_gpu:
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
        self.warm = time.perf_counter()
        self.neighbours = Neighbours()
        self.moments.append(self.clock.now())

    def _end_backward(self) -> None:
        if self.parts.active:
            self.after_backward = self.clock.now()

    def _end_optimizer(self) -> None:
        if self.parts.active:
            self.parts.laps.append(("optimizer", self.after_backward, self.clock.now()))

    def _end_step(self) -> None:
        self.done += 1
        first, last = self.options.warm_up, self.options.warm_up + self.options.steps
        if first < self.done <= last:
            self.moments.append(self.clock.now())
        if self.done == last:
            self.others_share = self.neighbours.share()
            self.processor_seconds = self.neighbours.own_seconds() / self.options.steps
        if self.parts.active:
            self.parts.end_step()
        if self.done == first:
            self._start()
        self._choose_parts()

    def step_seconds(self) -> list[float]:
        """Return the time from the end of each step to the end of the next."""
        self.clock.wait()
        pairs = zip(self.moments, self.moments[1:], strict=False)
        return [self.clock.seconds(start, end) for start, end in pairs]


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Train on one batch and return what the steps after the warm-up took."""
    from torch.utils.data import DataLoader

    from synclr_hf.training import SynCLRTrainer

    device = chosen_device(options)
    if options.warm_up is None:
        options.warm_up = 5 if options.device == "cuda" else 1
    found_on = machine(device)
    rate = matrix_rate(device)
    before = memory_before(device)
    with tempfile.TemporaryDirectory() as folder:
        model = build_model(options)
        batch = random_batch(options)
        steps_in_all = options.warm_up + options.steps * (2 if options.device == "cuda" else 1)
        arguments = training_arguments(options, folder, max_steps=steps_in_all)
        trainer = SynCLRTrainer(model=model, args=arguments, train_dataset=[batch])
        loader = DataLoader([batch] * steps_in_all, batch_size=None)
        trainer.get_train_dataloader = lambda: loader
        clock = StepClock(trainer, options)
        if options.without:
            ABLATIONS[options.without](model)
        trainer.train()
    steps = clock.step_seconds()
    parts = clock.parts.milliseconds()
    whole = 1000 * statistics.median(steps)
    parts["other"] = whole - sum(value for name, value in parts.items() if name not in STUDENT_STREAMS)
    return {
        "step_seconds": quartiles(steps),
        "images_per_second": len(batch["pixel_values"]) / statistics.median(steps),
        "best_step_seconds": min(steps),
        "warm_up_seconds": clock.warm - clock.began,
        "processor_seconds_a_step": clock.processor_seconds,
        "share_of_cores_taken_by_others": clock.others_share,
        "parts_milliseconds": parts,
        **share_numbers(step_tflop(model, options, batch), statistics.median(steps), rate),
        "memory": memory(device, before),
        "all_step_seconds": steps,
        "settings": settings_of(options),
        "machine": found_on,
    }


def together(runs: list[dict[str, Any]], rate: float) -> dict[str, Any]:
    """Join the rounds of one implementation: all steps, medians of the parts, the highest peak of memory."""
    steps = [seconds for run in runs for seconds in run["all_step_seconds"]]
    middle = statistics.median(steps)
    names = runs[0]["parts_milliseconds"]
    return {
        "step_seconds": quartiles(steps),
        "images_per_second": runs[0]["images_per_second"] * runs[0]["step_seconds"]["median"] / middle,
        "best_step_seconds": min(steps),
        "warm_up_seconds": runs[0]["warm_up_seconds"],
        "processor_seconds_a_step": statistics.median(run["processor_seconds_a_step"] for run in runs),
        "share_of_cores_taken_by_others": max(run["share_of_cores_taken_by_others"] for run in runs),
        "parts_milliseconds": {
            name: statistics.median(run["parts_milliseconds"][name] for run in runs) for name in names
        },
        **share_numbers(runs[0]["model_tflop"], middle, rate),
        "memory": highest_memory(runs),
        "all_step_seconds": steps,
    }


def compared(options: argparse.Namespace) -> dict[str, Any]:
    """Measure plain and fast in turns; one matrix rate, the best that was seen, holds for both."""
    runs = in_turns(__file__, options)
    rate = max(run["matrix_tflop_per_second"] for both in runs.values() for run in both)
    found: dict[str, Any] = {name: together(both, rate) for name, both in runs.items()}
    return {
        "best_time_ratio": found["fast"]["best_step_seconds"] / found["plain"]["best_step_seconds"],
        "time_ratio": median_of_pairs(runs, lambda run: run["step_seconds"]["median"]),
        "memory_ratio": found["fast"]["memory"]["peak_gib"] / found["plain"]["memory"]["peak_gib"],
        "added_memory_ratio": found["fast"]["memory"]["added_gib"] / found["plain"]["memory"]["added_gib"],
        **found,
        "settings": {**runs["fast"][0]["settings"], "rounds": options.rounds, "implementation": "plain, fast"},
        "machine": runs["plain"][0]["machine"],
    }


def ablated(options: argparse.Namespace, found: dict[str, Any]) -> dict[str, Any]:
    """Measure the fast implementation, whole and with one part switched at a time; one that fails says why.

    Each is told, and written into `found["ablation"]` and the file, when it is there: the last ones compile for long.
    """
    runs = found["ablation"] = {}
    for name in ("whole", *ABLATIONS):
        try:
            changes = {} if name == "whole" else {"without": name}
            runs[name] = run_alone(__file__, options, implementation="fast", **changes)
            told = f"{1000 * runs[name]['step_seconds']['median']:,.1f} ms a step"
        except RuntimeError as error:
            runs[name] = {"failed": str(error)}
            told = str(error)
        print(f"{name}: {told}", file=sys.stderr, flush=True)
        if options.json:
            write(found, options.json)
    return runs


def numbers_table(variants: dict[str, dict[str, Any]], ratio: bool) -> str:
    """Lay out what was measured, a variant a column, with fast / plain where there are both."""
    rows: dict[str, list[float | None]] = {
        "step, ms": [1000 * found["step_seconds"]["median"] for found in variants.values()],
        "best step, ms": [1000 * found["best_step_seconds"] for found in variants.values()],
        "images/s": [found["images_per_second"] for found in variants.values()],
    }
    for part in PARTS:
        row = [found["parts_milliseconds"].get(part) for found in variants.values()]
        if any(row):
            rows[f"{'    ' if part in STUDENT_STREAMS else '  '}{part}, ms"] = row
    for name, words in {
        "warm_up_seconds": "warm-up, s",
        "processor_seconds_a_step": "processor time of a step, s",
        "share_of_cores_taken_by_others": OTHERS,
        "model_tflop": "arithmetic of a step, TFLOP",
        "tflop_per_second": "TFLOP/s",
        "matrix_tflop_per_second": "matrix rate, TFLOP/s",
        "share_of_matrix_rate": "share of the matrix rate",
    }.items():
        rows[words] = [found[name] for found in variants.values()]
    rows |= memory_rows(variants)
    columns = list(variants)
    if ratio:
        columns.append("fast / plain")
        for name, row in rows.items():
            told = row[0] and row[1] is not None and name not in WITHOUT_RATIO
            row.append(row[1] / row[0] if told else None)
    return table(columns, rows)


def ablation_table(runs: dict[str, Any]) -> str:
    """Lay out an ablation, a row each; below it why one is missing."""
    whole = runs["whole"].get("step_seconds", {}).get("median")
    rate = max((run.get("matrix_tflop_per_second", 0.0) for run in runs.values()), default=0.0)
    rows: dict[str, list[float | None]] = {}
    for name, run in runs.items():
        if "failed" not in run:
            step = run["step_seconds"]["median"]
            shares = [run["tflop_per_second"] / rate, run["memory"]["peak_gib"], run["warm_up_seconds"]]
            rows[name] = [1000 * step, whole and step / whole, *shares]
    missing = [f"{name}: {run['failed']}" for name, run in runs.items() if "failed" in run]
    return "\n".join([table(["step, ms", "/ whole", "share", "peak, GiB", "warm-up, s"], rows), *missing])


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser)
    parser.add_argument("--steps", type=int, default=10, help="measured steps, 2 or more")
    parser.add_argument("--warm-up", type=int, help="steps before them; default 5 on a GPU, else 1")
    parser.add_argument("--without", choices=ABLATIONS, help="switch one part of the fast implementation")
    parser.add_argument("--ablate", action="store_true", help="measure the fast one with one part switched at a time")
    options = parser.parse_args(arguments)
    check_common_options(parser, options)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the numbers."""
    options = options_of(arguments)
    found: dict[str, Any] = {}
    if options.compare:
        found = compared(options)
        print(headline(found["settings"], found["machine"]))
        print(numbers_table({name: found[name] for name in IMPLEMENTATIONS}, ratio=True))
        print(
            f"time ratio {found['time_ratio']:.3f} (median of pairs; best steps {found['best_time_ratio']:.3f}), "
            f"memory ratio {found['memory_ratio']:.3f}"
        )
    elif not options.ablate:
        found = measured(options)
        print(headline(found["settings"], found["machine"]))
        print(numbers_table({options.without or options.implementation: found}, ratio=False))
    if options.ablate:
        print(ablation_table(ablated(options, found)))
    write(found, options.json)


if __name__ == "__main__":
    main()
