"""Pictures a second of one core, from JPEG files to normalised crops: this package beside Pillow and torchvision.

Settings of the paper: 256 px, JPEG of quality 95, 1 global crop of 224 px and 4 local ones of 96 px, colour jitter,
grey, blur of 9 taps, solarisation. One process and one thread each, the pipelines take turns in every round, and the
processor's time is counted, not that of the clock on the wall. The rivals (loader_rivals.py) run in an environment of
their own:

python -m venv rivals && rivals/bin/pip install torch torchvision kornia
python scripts/benchmarks/loader.py --rival-python rivals/bin/python --json outputs/loader.json

--pictures FOLDER takes JPEG and PNG files and Parquet files with an `image` column; without it textures are drawn.
--kornia measures the photometric part alone, beside kornia's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import psutil
import pyarrow.parquet
import torch
from PIL import Image, ImageOps

from synclr_hf.data.pictures import UndecodedPicture, open_picture
from synclr_hf.views import ViewsConfig, ViewsDataset, augment, collate_views

SIDE, QUALITY = 256, 95
IMAGES_PER_CAPTION, CAPTIONS_A_BATCH = 4, 8
PIPELINES = ("pil", "torchvision")


def textures(count: int) -> Iterator[Image.Image]:
    """Draw smooth coloured textures with the falling spectrum of photographs."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        total = np.zeros((SIDE, SIDE, 3), np.float32)
        for cells in (3, 6, 12, 24, 48, 96, 192):
            noise = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
            total += np.asarray(Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / cells**0.8
        low, high = np.percentile(total, (1, 99))
        yield Image.fromarray(((total - low) / (high - low) * 255).clip(0, 255).astype(np.uint8))


def pictures_of(folder: Path) -> Iterator[Image.Image]:
    """Read the pictures of a folder, deep, in the order of their names."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            yield open_picture(path)
        elif path.suffix == ".parquet":
            for batch in pyarrow.parquet.ParquetFile(path).iter_batches(64, columns=["image"]):
                yield from (open_picture(cell) for cell in batch.column("image").to_pylist())


def write_jpegs(options: argparse.Namespace, folder: Path) -> list[Path]:
    """Write the pictures as square JPEG files that both sides read."""
    source = pictures_of(options.pictures) if options.pictures else textures(options.count)
    files = []
    for number, picture in zip(range(options.count), source, strict=False):
        files.append(folder / f"{number:05d}.jpg")
        ImageOps.fit(picture, (SIDE, SIDE), Image.Resampling.BICUBIC).save(files[-1], quality=QUALITY)
    if len(files) < IMAGES_PER_CAPTION:
        raise SystemExit(f"--pictures {options.pictures}: {len(files)} pictures found; needed: {IMAGES_PER_CAPTION}")
    return files[: len(files) // IMAGES_PER_CAPTION * IMAGES_PER_CAPTION]


class Ours:
    """The package: items of a `ViewsDataset`, collated, then augmented on the CPU."""

    def __init__(self, files: list[Path], implementation: str) -> None:
        starts = range(0, len(files), IMAGES_PER_CAPTION)
        rows = [
            {
                "caption_id": place,
                "images": [{"bytes": None, "path": str(p)} for p in files[s : s + IMAGES_PER_CAPTION]],
            }
            for place, s in enumerate(starts)
        ]
        self.dataset = ViewsDataset(rows, ViewsConfig(), patch_size=16, seed=0, implementation=implementation)
        self.files, self.implementation, self.place = files, implementation, 0

    def batch(self, captions: int) -> dict[str, torch.Tensor]:
        """Return the next captions as the trainer gets them."""
        items = []
        for _ in range(captions):
            items.append(self.dataset[divmod(self.place, len(self.dataset))])
            self.place += 1
        return collate_views(items)

    def photometric(self, batch: dict[str, torch.Tensor]) -> None:
        """Augment both streams, as the trainer does."""
        for stream in ("", "local_"):
            augment(batch[f"{stream}pixel_values"], batch[f"{stream}aug_params"], self.implementation)

    def run(self, images: int) -> None:
        """Make the crops of so many pictures."""
        captions = images // IMAGES_PER_CAPTION
        for start in range(0, captions, CAPTIONS_A_BATCH):
            self.photometric(self.batch(min(CAPTIONS_A_BATCH, captions - start)))

    def parts_ms(self, images: int) -> dict[str, float]:
        """Time the parts of so many pictures, in ms a picture; crops and drawing of parameters are differences."""
        files = [self.files[number % len(self.files)] for number in range(images)]
        decoding = seconds(lambda: [np.array(UndecodedPicture(path).decode()) for path in files])
        rng = np.random.default_rng(0)
        make, config = self.dataset._crops_of, self.dataset.config
        cropping = seconds(lambda: [make([path], config, rng) for path in files]) - decoding
        captions, batches = images // IMAGES_PER_CAPTION, []
        sizes = [min(CAPTIONS_A_BATCH, captions - start) for start in range(0, captions, CAPTIONS_A_BATCH)]
        loading = seconds(lambda: batches.extend(self.batch(size) for size in sizes))
        photometric = seconds(lambda: [self.photometric(batch) for batch in batches])
        parts = {
            "decode": decoding,
            "crops": cropping,
            "parameters, masks, collate": loading - decoding - cropping,
            "photometric": photometric,
        }
        return {name: 1000 * value / images for name, value in parts.items()}


class Rivals:
    """The process of the other environment."""

    def __init__(self, python: Path, folder: Path) -> None:
        script = Path(__file__).with_name("loader_rivals.py")
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.process = subprocess.Popen(
            [str(python), str(script), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**variables, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )
        self.versions = self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"--rival-python: its process ended with code {self.process.wait()}; see above")
        return json.loads(line)

    def run(self, name: str, images: int) -> float:
        """Let a rival make the crops of so many pictures; returns seconds."""
        self.process.stdin.write(json.dumps({"run": name, "images": images}) + "\n")
        self.process.stdin.flush()
        return self._answer()["seconds"]

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def seconds(work: Callable[[], Any]) -> float:
    """Return the processor's time that it took."""
    start = time.process_time()
    work()
    return time.process_time() - start


def quartiles(values: list[float]) -> dict[str, float]:
    """Return the median and the quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "quartile_low": low, "quartile_high": high}


def compared(contenders: dict[str, Callable[[], float]], rounds: int, images: int) -> dict[str, Any]:
    """Run the contenders in turn, each round beginning with another; the first round warms up.

    Returns:
        Pictures a second of each, and the ratio of the first to each other one, round by round.
    """
    names, taken = list(contenders), {name: [] for name in contenders}
    for turn in range(rounds + 1):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            took = contenders[name]()
            if turn:
                taken[name].append(took)
    first = names[0]
    ratios = {name: [b / a for a, b in zip(taken[first], taken[name], strict=True)] for name in names[1:]}
    return {
        "images_per_second": {name: quartiles([images / took for took in values]) for name, values in taken.items()},
        f"{first}_times_as_fast_as": {name: quartiles(values) for name, values in ratios.items()},
    }


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write the pictures, run all pipelines, and return the numbers."""
    files, images = write_jpegs(options, folder), options.images
    sides = {"fast": Ours(files, "fast"), "plain": Ours(files, "plain")}
    found: dict[str, Any] = {"jpeg_bytes": statistics.mean(path.stat().st_size for path in files)}
    if options.kornia:
        batch = sides["fast"].batch(images // IMAGES_PER_CAPTION)
        for stream, key in (("global", "pixel_values"), ("local", "local_pixel_values")):
            np.save(folder / f"crops_{stream}.npy", batch[key].contiguous().numpy())
    rivals = Rivals(options.rival_python, folder) if options.rival_python else None
    if options.kornia:
        contenders = {name: lambda side=side: seconds(lambda: side.photometric(batch)) for name, side in sides.items()}
        names = ["kornia"]
    else:
        contenders = {name: lambda side=side: seconds(lambda: side.run(images)) for name, side in sides.items()}
        names = PIPELINES
    if rivals:
        contenders |= {name: lambda name=name: rivals.run(name, images) for name in names}
    found |= compared(contenders, options.rounds, images)
    if rivals:
        rivals.close()
        found["rival_versions"] = rivals.versions
    if not options.kornia:
        for name, side in sides.items():
            rounds = [side.parts_ms(images) for _ in range(options.rounds)]
            found[f"{name}_ms_an_image"] = {part: quartiles([r[part] for r in rounds]) for part in rounds[0]}
    return found


def main() -> None:
    """Measure, print, and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="default: drawn textures")
    parser.add_argument("--count", type=int, default=256, help="files, at least 4; a multiple of 4 is used")
    parser.add_argument("--images", type=int, default=64, help="pictures of a round, a multiple of 4")
    parser.add_argument("--rounds", type=int, default=11, help="rounds after a first that warms up, at least 2")
    parser.add_argument("--rival-python", type=Path, metavar="PATH", help="of an environment with torchvision")
    parser.add_argument("--kornia", action="store_true", help="the photometric part alone")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error(f"--rounds {options.rounds}: quartiles need 2 rounds or more; type --rounds 2")
    if options.images < IMAGES_PER_CAPTION or options.images % IMAGES_PER_CAPTION:
        parser.error(f"--images {options.images}: allowed: multiples of {IMAGES_PER_CAPTION}; type --images 64")
    torch.set_num_threads(1)
    load = psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        found = measured(options, Path(folder))
    found["settings"] = {n: str(v) if isinstance(v, Path) else v for n, v in vars(options).items() if n != "json"}
    found["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": psutil.cpu_count(logical=False),
        "load_average_before": load,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pillow": PIL.__version__,
    }
    text = json.dumps(found, indent=1)
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
