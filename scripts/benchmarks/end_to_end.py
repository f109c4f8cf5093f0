"""Images a second of a whole training as users run it: encoded pictures, worker processes, augmentation, steps.

Rows of JPEG pictures of 256 px in memory (of a folder, or smooth random textures) go through `ViewsDataset`, the data
loader of `SynCLRTrainer` and its steps; nothing is logged or saved. `--compare plain` measures two trainings in turns:

    plain   workers decode, crop by Pillow and augment, and send float32; the plain model
    fast    workers decode and crop by torch, and send uint8; augmentation on the device; the fast model

The whole time counts, from the end of the warm-up to that of the last step; on a GPU nobody waits for it in between.
Workers fill their queue while the first step compiles, so the warm-up empties it. Of the parts, `waiting for data` and
`taking it` (the copy to the device) are the training loop's time, the other two the device's: on a GPU they overlap.
Memory is that of the process that trains: of a GPU what torch allocated there, else what is resident.

python scripts/benchmarks/end_to_end.py --model vit-b16 --captions 64 --workers 14 --compare plain --json FILE
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from speed_parts import (
    IMPLEMENTATIONS,
    SIZES,
    Clock,
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
    settings_of,
    share_numbers,
    step_tflop,
    table,
    training_arguments,
    write,
)

PICTURE_SIZE = 256
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
PREFETCHED = 2
"""Batches that each worker of a data loader makes ahead."""


def texture(rng: np.random.Generator) -> bytes:
    """Draw a smooth picture: random colours on three grids, each finer one weaker; JPEG of quality 95."""
    total = np.zeros((PICTURE_SIZE, PICTURE_SIZE, 3))
    for grid, strength in ((4, 1.0), (16, 0.4), (64, 0.15)):
        colours = Image.fromarray(rng.integers(0, 256, (grid, grid, 3), dtype=np.uint8))
        total += strength * np.asarray(colours.resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.BICUBIC))
    buffer = io.BytesIO()
    Image.fromarray((total / 1.55).astype(np.uint8)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def encoded_pictures(folder: Path | None, number: int) -> list[bytes]:
    """Return the encoded pictures of a folder and those below it, `number` at most, or random ones."""
    if folder is None:
        rng = np.random.default_rng(0)
        return [texture(rng) for _ in range(number)]
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return [path.read_bytes() for path in files[:number]]


class Rows(Sequence):
    """Image rows in memory: every caption has a number of its own, the pictures come again and again."""

    def __init__(self, pictures: list[bytes], length: int, images_per_caption: int) -> None:
        self.pictures, self.length, self.images_per_caption = pictures, length, images_per_caption

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        places = range(index * self.images_per_caption, (index + 1) * self.images_per_caption)
        images = [{"bytes": self.pictures[place % len(self.pictures)]} for place in places]
        return {"caption_id": index, "images": images}


def views_dataset(options: argparse.Namespace, rows: Rows) -> Any:
    """Make the data set: for plain with the photometric augmentation in `__getitem__`."""
    from synclr_hf.views import ViewsConfig, ViewsDataset, augment

    class AugmentedInWorkers(ViewsDataset):
        """The crops of a caption, augmented: float32."""

        def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
            item = super().__getitem__(key)
            for stream in ("", "local_"):
                parameters = item.pop(f"{stream}aug_params")
                item[f"{stream}pixel_values"] = augment(item[f"{stream}pixel_values"], parameters, "plain")
            return item

    patch_size = SIZES[options.model]["patch_size"]
    views = ViewsConfig(local_crop_size=98 if patch_size == 14 else 96)
    kind = AugmentedInWorkers if options.implementation == "plain" else ViewsDataset
    return kind(rows, views, patch_size=patch_size, seed=0, implementation=options.implementation)


class TrainingClock:
    """Times the steps after the warm-up as a whole, the waits for data, and the device's work on each batch.

    Attributes:
        wall: seconds of all those steps.
        batch: the last one that was prepared.
    """

    def __init__(self, trainer: Any, options: argparse.Namespace) -> None:
        self.clock, self.options = Clock(trainer.args.device), options
        self.began, self.start, self.wall = time.perf_counter(), 0.0, 0.0
        self.done = 0
        self.waited = 0.0
        self.waits: list[tuple[float, float]] = []
        self.laps: list[list[Any]] = []
        self.batch: dict[str, Any] = {}
        self._wrap(trainer)

    def _wrap(self, trainer: Any) -> None:
        loader, take, prepare = trainer.get_train_dataloader, trainer.get_batch_samples, trainer._prepare_inputs
        end = trainer.callback_handler.on_step_end

        def get_train_dataloader() -> Any:
            found = loader()
            found.base_dataloader = WatchedLoader(found.base_dataloader, self)
            return found

        def get_batch_samples(*args: Any, **kwargs: Any) -> Any:
            self.waited, start = 0.0, time.perf_counter()
            found = take(*args, **kwargs)
            self.waits.append((self.waited, time.perf_counter() - start - self.waited))
            return found

        def prepare_inputs(*args: Any, **kwargs: Any) -> Any:
            start = self.clock.now()
            self.batch = prepare(*args, **kwargs)
            self.laps.append([start, self.clock.now()])
            return self.batch

        def on_step_end(*args: Any, **kwargs: Any) -> Any:
            control = end(*args, **kwargs)
            self.laps[-1].append(self.clock.now())
            self.done += 1
            if self.done == self.options.warm_up:
                self.clock.wait()
                self.start = time.perf_counter()
            elif self.done == self.options.warm_up + self.options.steps:
                self.clock.wait()
                self.wall = time.perf_counter() - self.start
            return control

        trainer.get_train_dataloader, trainer.get_batch_samples = get_train_dataloader, get_batch_samples
        trainer._prepare_inputs, trainer.callback_handler.on_step_end = prepare_inputs, on_step_end

    def milliseconds(self) -> dict[str, float]:
        """Return the mean of each part over the measured steps."""
        first = self.options.warm_up
        laps, waits = self.laps[first:], self.waits[first : first + self.options.steps]
        seconds = {
            "waiting for data": [wait for wait, _ in waits],
            "taking it": [rest for _, rest in waits],
            "augmentation": [self.clock.seconds(start, middle) for start, middle, _ in laps],
            "step": [self.clock.seconds(middle, end) for _, middle, end in laps],
        }
        return {name: 1000 * statistics.mean(values) for name, values in seconds.items()}


class WatchedLoader:
    """A data loader that adds up how long its user waits for batches."""

    def __init__(self, loader: Any, clock: TrainingClock) -> None:
        self.loader, self.clock = loader, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        batches = iter(self.loader)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.clock.waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Train and return what the steps after the warm-up took, all in all."""
    from synclr_hf.training import SynCLRTrainer

    device = chosen_device(options)
    found_on = machine(device)
    if options.workers is None:
        options.workers = max(found_on["usable_cores"] - 2, 0)
    if options.warm_up is None:
        options.warm_up = 2 + PREFETCHED * options.workers
    if options.steps is None:
        options.steps = max(3 * options.workers, 10)
    rate = matrix_rate(device)
    before = memory_before(device)
    pictures = encoded_pictures(options.pictures, 64)
    steps_in_all = options.warm_up + options.steps
    batches = steps_in_all + PREFETCHED * options.workers  # so that all workers are busy to the end
    rows = Rows(pictures, batches * options.captions, options.images_per_caption)
    with tempfile.TemporaryDirectory() as folder:
        model = build_model(options)
        # All steps are of one epoch, so the workers live from the first to the last as persistent ones do.
        arguments = training_arguments(options, folder, max_steps=steps_in_all, dataloader_num_workers=options.workers)
        trainer = SynCLRTrainer(model=model, args=arguments, train_dataset=views_dataset(options, rows))
        clock = TrainingClock(trainer, options)
        trainer.train()
    seconds = clock.wall / options.steps
    return {
        "images_per_second": len(clock.batch["pixel_values"]) / seconds,
        "seconds_a_step": seconds,
        "warm_up_seconds": clock.start - clock.began,
        "parts_milliseconds": clock.milliseconds(),
        **share_numbers(step_tflop(model, options, clock.batch), seconds, rate),
        "memory": memory(device, before),
        "kilobytes_a_picture": statistics.mean(map(len, pictures)) / 1000,
        "settings": settings_of(options),
        "machine": found_on,
    }


def compared(options: argparse.Namespace) -> dict[str, Any]:
    """Measure plain and fast in turns; one matrix rate, the best that was seen, holds for both."""
    runs = in_turns(__file__, options)
    rate = max(run["matrix_tflop_per_second"] for both in runs.values() for run in both)
    found: dict[str, Any] = {"images_per_second_ratio": median_of_pairs(runs, lambda run: run["images_per_second"])}
    for name, both in runs.items():
        seconds = statistics.median(run["seconds_a_step"] for run in both)
        parts = both[0]["parts_milliseconds"]
        found[name] = {
            "images_per_second": both[0]["images_per_second"] * both[0]["seconds_a_step"] / seconds,
            "seconds_a_step": seconds,
            "warm_up_seconds": both[0]["warm_up_seconds"],
            "parts_milliseconds": {
                part: statistics.median(run["parts_milliseconds"][part] for run in both) for part in parts
            },
            **share_numbers(both[0]["model_tflop"], seconds, rate),
            "memory": highest_memory(both),
            "all_images_per_second": [run["images_per_second"] for run in both],
        }
    first = runs["fast"][0]
    settings = {**first["settings"], "rounds": options.rounds, "implementation": "plain, fast"}
    return {
        **found,
        "kilobytes_a_picture": first["kilobytes_a_picture"],
        "settings": settings,
        "machine": runs["plain"][0]["machine"],
    }


def numbers_table(variants: dict[str, dict[str, Any]]) -> str:
    """Lay out what was measured, a variant a column, with fast / plain where there are both."""
    rows = {
        "images/s": [found["images_per_second"] for found in variants.values()],
        "all in all, ms a step": [1000 * found["seconds_a_step"] for found in variants.values()],
    }
    for part in next(iter(variants.values()))["parts_milliseconds"]:
        rows[f"  {part}, ms"] = [found["parts_milliseconds"][part] for found in variants.values()]
    rows["warm-up, s"] = [found["warm_up_seconds"] for found in variants.values()]
    rows["TFLOP/s"] = [found["tflop_per_second"] for found in variants.values()]
    rows["share of the matrix rate"] = [found["share_of_matrix_rate"] for found in variants.values()]
    rows |= memory_rows(variants)
    columns = list(variants)
    if len(columns) == 2:
        columns.append("fast / plain")
        for row in rows.values():
            row.append(row[1] / row[0] if row[0] else None)
    return table(columns, rows)


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser)
    parser.add_argument("--workers", type=int, help="processes of the data loader; default: usable cores less 2")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="real pictures; default: random textures")
    parser.add_argument("--steps", type=int, help="measured steps, 2 or more; default 3 a worker, at least 10")
    parser.add_argument("--warm-up", type=int, help="steps before them, 1 or more; default 2 and 2 a worker")
    options = parser.parse_args(arguments)
    check_common_options(parser, options)
    if options.warm_up is not None and options.warm_up < 1:
        parser.error(f"--warm-up {options.warm_up}: the first step is never measured here; type --warm-up 1")
    if options.pictures is not None and not encoded_pictures(options.pictures, 1):
        known = ", ".join(sorted(SUFFIXES))
        parser.error(f"--pictures {options.pictures}: no pictures there; needed: {known}; or leave it out")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the numbers."""
    options = options_of(arguments)
    if options.compare:
        found = compared(options)
        variants = {name: found[name] for name in IMPLEMENTATIONS}
    else:
        found = measured(options)
        variants = {options.implementation: found}
    settings = found["settings"]
    text = (
        f"{headline(settings, found['machine'])}\n{settings['workers']} workers, {settings['steps']} steps after "
        f"{settings['warm_up']}, pictures of {found['kilobytes_a_picture']:.1f} kB\n{numbers_table(variants)}"
    )
    if options.compare:
        text += f"\nimages/s ratio {found['images_per_second_ratio']:.2f} (median of pairs)"
    print(text)
    write(found, options.json)


if __name__ == "__main__":
    main()
