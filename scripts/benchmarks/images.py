"""Speed of drawing beside plain pipelines, what the images stage adds to it, speed and memory with toy pictures.

python scripts/benchmarks/images.py generate    # Stable Diffusion 1.5 with random weights, on a GPU; needs no datasets
python scripts/benchmarks/images.py generate --small    # on a CPU
python scripts/benchmarks/images.py overhead    # a small pipeline, on a CPU
python scripts/benchmarks/images.py toy    # toy pictures a second that one process writes
python scripts/benchmarks/images.py memory --sizes 1000 10000 100000    # the same, peak memory of each size

Every command prints one JSON object; `--json FILE` also writes it.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from random_stable_diffusion import save_random_stable_diffusion

from synclr_hf.images.generators import ImageGeneratorOptions, create_image_generator

PER_CAPTION = 4
GUIDANCE_SCALE = 2.5


def generate(small: bool, batches: int, alone: int, steps: int, batch_size: int | None, rounds: int) -> dict[str, Any]:
    """Pictures per second of the back end beside plain loops of diffusers, in turns in one process.

    All draw with the same weights in the same precision (bfloat16 on a GPU), steps, guidance and scheduler. The first
    turn warms up: the back end finds its batch and compiles its blocks.

    Args:
        small: draw with the small pipeline.
        batches: batches of a turn.
        alone: pictures of a turn, for the loop that draws one at a time.
        steps: denoising steps.
        batch_size: pictures at once; `None`: as many as the back end finds to fit.
        rounds: turns that count.
    """
    import torch

    with TemporaryDirectory() as folder:
        model = save_random_stable_diffusion(folder, "small" if small else "stable-diffusion-1.5")
        _free()
        ours = create_image_generator(model, ImageGeneratorOptions(batch_size=batch_size))
        plain = _plain_pipeline(model, ours.provenance["dtype"])
    prompts = [f"a photo of bird number {number // PER_CAPTION} on a branch" for number in range(64 * batches)]
    list(_ours(ours, prompts[:8], range(8), steps))
    batch_size = ours._batch_size or 8
    prompts = prompts[: batch_size * batches]
    blocks = ours._blocks
    if torch.cuda.is_available():
        blocks._seconds = 0.0
        blocks.consider(1, 1.0, 0)
    fits = {"batch": batch_size}

    def batched(seeds: Sequence[int]) -> None:
        try:
            _plain(plain, prompts, seeds, steps, fits["batch"])
        except torch.OutOfMemoryError:
            fits["batch"] //= 2
            _free()
            batched(seeds)

    def without_compiling(seeds: Sequence[int]) -> None:
        with blocks.left_out():
            list(_ours(ours, prompts, seeds, steps))

    ways: dict[str, tuple[int, Callable[[Sequence[int]], Any]]] = {
        "plain, one at a time": (alone, lambda seeds: _plain(plain, prompts[:alone], seeds, steps, 1)),
        "plain, in batches": (len(prompts), batched),
        "back end, not compiled": (len(prompts), without_compiling),
        "back end": (len(prompts), lambda seeds: list(_ours(ours, prompts, seeds, steps))),
    }
    if not blocks.active:
        del ways["back end, not compiled"]
    rates: dict[str, list[float]] = {name: [] for name in ways}
    warm_up, peaks = {}, {}
    for turn in range(rounds + 1):
        for name, (count, draw) in ways.items():
            seconds, peak = _timed(draw, range(turn * 1000, turn * 1000 + count))
            if turn == 0:
                warm_up[name] = round(seconds, 1)
            else:
                rates[name].append(count / seconds)
                peaks[name] = max(peak, peaks.get(name, 0))
    means = {name: statistics.mean(of) for name, of in rates.items()}
    return {
        **_versions(),
        "model": "small" if small else "stable-diffusion-1.5",
        "device": ours.provenance["device"],
        "dtype": ours.provenance["dtype"],
        "size_drawn": ours.provenance["size_drawn"],
        "steps": steps,
        "guidance_scale": GUIDANCE_SCALE,
        "batch_size": batch_size,
        "batch_size_of_plain_batches": fits["batch"],
        "pictures_per_second": {
            name: {"mean": round(means[name], 3), "all": [round(one, 3) for one in of]} for name, of in rates.items()
        },
        "times_one_at_a_time": round(means["back end"] / means["plain, one at a time"], 2),
        "times_plain_batches": round(means["back end"] / means["plain, in batches"], 2),
        "compiled": blocks.active,
        "warm_up_seconds": warm_up,
        "peak_device_gib": {name: round(peak / 2**30, 1) for name, peak in peaks.items()},
        "levels_between_batches": _differences(ours, prompts, steps),
    }


def overhead(rows: int, steps: int, batch_size: int, rounds: int) -> dict[str, Any]:
    """Time of the images stage with one process beside that of the bare pipeline, loading included, in turns.

    Both draw the same pictures in the same batches with a small random pipeline; the stage also reads captions,
    encodes JPEG, and writes shards, checksums and the card.

    Args:
        rows: captions, of four pictures each.
        steps: denoising steps.
        batch_size: pictures at once.
        rounds: turns that count; one before them warms up.
    """
    from synclr_hf.captions.stage import CaptionsConfig, write_captions
    from synclr_hf.images.config import ImagesConfig
    from synclr_hf.images.stage import write_images

    seconds: dict[str, list[float]] = {"stage": [], "pipeline": []}
    with TemporaryDirectory() as folder:
        model = save_random_stable_diffusion(folder, "small")
        captions = str(write_captions(CaptionsConfig(f"{folder}/captions", num_captions=rows), workers=1))
        texts = [caption for caption in _captions(captions) for _ in range(PER_CAPTION)]
        for turn in range(rounds + 1):
            config = ImagesConfig(
                f"{folder}/images-{turn}",
                captions,
                model,
                images_per_caption=PER_CAPTION,
                guidance_scale=GUIDANCE_SCALE,
                num_inference_steps=steps,
                size=128,
                batch_size=batch_size,
                seed=turn,
            )
            start = time.perf_counter()
            write_images(config, workers=1)
            between = time.perf_counter()
            _plain(_plain_pipeline(model, "float32"), texts, range(len(texts)), steps, batch_size)
            end = time.perf_counter()
            if turn:  # the first turn warms up
                seconds["stage"].append(between - start)
                seconds["pipeline"].append(end - between)
    pictures = len(texts)
    stage, pipeline = (statistics.mean(seconds[name]) for name in ("stage", "pipeline"))
    return {
        **_versions(),
        "pictures": pictures,
        "batch_size": batch_size,
        "seconds": {name: [round(one, 2) for one in of] for name, of in seconds.items()},
        "seconds_a_picture": round(pipeline / pictures, 3),
        "overhead_percent": round(100 * (stage / pipeline - 1), 2),
    }


def toy(num_captions: int, size: int, rounds: int) -> dict[str, Any]:
    """Toy pictures a second that one process of the stage draws, checks, encodes and writes, card included."""
    from synclr_hf.images.config import ImagesConfig
    from synclr_hf.images.stage import write_images

    rates = []
    with TemporaryDirectory() as folder:
        captions = _toy_captions(folder, num_captions)
        for turn in range(rounds):
            config = ImagesConfig(f"{folder}/images-{turn}", captions, size=size, seed=turn)
            start = time.perf_counter()
            write_images(config, workers=1)
            rates.append(num_captions * PER_CAPTION / (time.perf_counter() - start))
    return {
        "pictures": num_captions * PER_CAPTION,
        "size": size,
        "pictures_per_second": round(statistics.mean(rates)),
        "lowest": round(min(rates)),
        "highest": round(max(rates)),
        "rounds": rounds,
    }


def memory(sizes: Sequence[int], size: int) -> dict[str, Any]:
    """Peak memory of a fresh process that writes so many toy pictures, in MiB."""
    peaks = {}
    for pictures in sizes:
        with TemporaryDirectory() as folder:
            captions = _toy_captions(folder, pictures // PER_CAPTION)
            typed = ["--captions", captions, "--size", str(size), "--output-dir", f"{folder}/images", "--workers", "1"]
            program = (
                f"import resource; from synclr_hf.cli.images import main; main({typed!r}); "
                "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
            )
            done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True)
            peaks[str(pictures)] = round(int(done.stdout.split()[-1]) / 1024)
    return {"size": size, "peak_mib_of_pictures": peaks}


def _toy_captions(folder: str, count: int) -> str:
    from synclr_hf.captions.stage import CaptionsConfig, write_captions

    return str(write_captions(CaptionsConfig(f"{folder}/captions", num_captions=count), workers=1))


def _captions(folder: str) -> list[str]:
    import pyarrow.parquet as pq

    files = sorted(Path(folder).glob("data/*.parquet"))
    return [text for file in files for text in pq.read_table(file, columns=["caption"])["caption"].to_pylist()]


def _plain_pipeline(model: str, dtype: str) -> Any:
    import torch
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(model, dtype=getattr(torch, dtype))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")


def _plain(pipeline: Any, prompts: Sequence[str], seeds: Sequence[int], steps: int, batch_size: int) -> None:
    """What most scripts do: `pipe(prompts)`, batch by batch."""
    import torch

    for start in range(0, len(prompts), batch_size):
        batch = slice(start, start + batch_size)
        pipeline(
            list(prompts[batch]),
            generator=[torch.Generator().manual_seed(seed) for seed in seeds[batch]],
            num_inference_steps=steps,
            guidance_scale=GUIDANCE_SCALE,
        )


def _ours(generator: Any, prompts: Sequence[str], seeds: Sequence[int], steps: int) -> Any:
    return generator.generate(prompts, seeds=seeds, guidance_scale=GUIDANCE_SCALE, num_inference_steps=steps, size=128)


def _timed(draw: Callable[[Sequence[int]], Any], seeds: Sequence[int]) -> tuple[float, int]:
    """Return the seconds of a turn and the peak of the device's memory."""
    import torch

    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    draw(seeds)
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, torch.cuda.max_memory_allocated() if cuda else 0


def _differences(generator: Any, prompts: Sequence[str], steps: int) -> dict[str, float]:
    """How far pictures drawn alone are from the same ones drawn in a batch, in levels of 255."""
    import numpy as np

    together = list(_ours(generator, prompts[: generator._batch_size], range(len(prompts)), steps))[:PER_CAPTION]
    alone = [next(iter(_ours(generator, [prompts[place]], [place], steps))) for place in range(PER_CAPTION)]
    apart = np.abs(np.stack(together).astype(int) - np.stack(alone).astype(int))
    return {"largest": int(apart.max()), "mean": round(float(apart.mean()), 3)}


def _free() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _versions() -> dict[str, str]:
    import diffusers
    import torch
    import transformers

    return {module.__name__: module.__version__ for module in (torch, diffusers, transformers)}


def main() -> None:
    """Parse the command and run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("generate")
    one.add_argument("--small", action="store_true")
    one.add_argument("--batches", type=int, default=2)
    one.add_argument("--alone", type=int, default=8)
    one.add_argument("--steps", type=int, default=50)
    one.add_argument("--batch-size", type=int)
    one.add_argument("--rounds", type=int, default=3)
    two = commands.add_parser("overhead")
    two.add_argument("--rows", type=int, default=12)
    two.add_argument("--steps", type=int, default=8)
    two.add_argument("--batch-size", type=int, default=4)
    two.add_argument("--rounds", type=int, default=3)
    three = commands.add_parser("toy")
    three.add_argument("--num-captions", type=int, default=2000)
    three.add_argument("--size", type=int, default=128)
    three.add_argument("--rounds", type=int, default=3)
    four = commands.add_parser("memory")
    four.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    four.add_argument("--size", type=int, default=64)
    for command in (one, two, three, four):
        command.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.command == "generate":
        told = generate(
            options.small, options.batches, options.alone, options.steps, options.batch_size, options.rounds
        )
    elif options.command == "toy":
        told = toy(options.num_captions, options.size, options.rounds)
    elif options.command == "memory":
        told = memory(options.sizes, options.size)
    else:
        told = overhead(options.rows, options.steps, options.batch_size, options.rounds)
    told["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    text = json.dumps(told, indent=1)
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
