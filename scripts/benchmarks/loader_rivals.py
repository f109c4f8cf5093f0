"""The rivals of loader.py, as a process of its own in an environment with torchvision (and kornia); one thread.

loader.py starts it with a folder of JPEG files and writes lines `{"run": "pil", "images": 64}` to its input; for each
it answers with one line, `{"seconds": ...}` of the processor's time. Its first line tells the versions. Nothing of the
package is imported here.

pil: what the authors of SynCLR ran, by their paper and code: Pillow pictures, torchvision's first transforms.
torchvision: the same augmentation by torchvision.transforms.v2 on uint8 tensors, decoded by torchvision.io.
kornia: the photometric part alone, on batches of float tensors; the crops come from loader.py as crops_*.npy.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JITTER = (0.4, 0.4, 0.2, 0.1)
SCALES = {224: (0.32, 1.0), 96: (0.08, 0.32)}
SIGMA = (0.1, 2.0)
KINDS = ((1.0, 0.0), (0.1, 0.2))
"""Probabilities of (blur, solarisation) of the two kinds of global crops; a coin decides for each picture."""
LOCAL_BLUR, LOCAL_CROPS = 0.5, 4
BATCH = 32
"""Pictures whose crops are stacked together."""


def reference_transform(size: int, blur: float, solarize: float) -> Any:
    """Return the transform of one crop from a Pillow picture to a normalised tensor, by torchvision's first API."""
    from torchvision import transforms

    steps = [
        transforms.RandomResizedCrop(size, scale=SCALES[size], interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.RandomHorizontalFlip(),
        transforms.RandomApply([transforms.ColorJitter(*JITTER)], p=0.8),
        transforms.RandomGrayscale(p=0.2),
        transforms.RandomApply([transforms.GaussianBlur(9, SIGMA)], p=blur),
        transforms.RandomSolarize(128, p=solarize),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    return transforms.Compose(steps)


def v2_transform(size: int, blur: float, solarize: float) -> Any:
    """Return the same from a uint8 tensor `(3, H, W)`, by torchvision's second API."""
    from torchvision.transforms import InterpolationMode, v2

    steps = [
        v2.RandomResizedCrop(size, scale=SCALES[size], interpolation=InterpolationMode.BICUBIC, antialias=True),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(*JITTER)], p=0.8),
        v2.RandomGrayscale(p=0.2),
        v2.RandomApply([v2.GaussianBlur(9, SIGMA)], p=blur),
        v2.RandomSolarize(128, p=solarize),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]
    return v2.Compose(steps)


class Pipeline:
    """Files to stacked crops: one global and four local ones of each picture.

    Args:
        files: paths of JPEG files, read in turn.
        decode: path -> picture.
        transform: (size, probability of blur, of solarisation) -> transform of one crop.
    """

    def __init__(self, files: list[Path], decode: Any, transform: Any) -> None:
        self.files, self.decode, self.place = files, decode, 0
        self.globals = [transform(224, *kind) for kind in KINDS]
        self.local = transform(96, LOCAL_BLUR, 0.0)

    def run(self, images: int) -> None:
        """Make the crops of so many pictures."""
        streams: tuple[list, list] = ([], [])
        for number in range(images):
            picture = self.decode(self.files[self.place % len(self.files)])
            self.place += 1
            streams[0].append(self.globals[random.randrange(2)](picture))
            streams[1].extend(self.local(picture) for _ in range(LOCAL_CROPS))
            if (number + 1) % BATCH == 0 or number + 1 == images:
                for crops in streams:
                    torch.stack(crops)
                    crops.clear()


class Kornia:
    """The photometric part by kornia, on the uint8 crops of `folder`; one order of colour changes a batch (theirs)."""

    def __init__(self, folder: Path) -> None:
        import kornia.augmentation as K  # noqa: N812
        import numpy as np

        def sequence(blur: float, solarize: float) -> Any:
            return K.AugmentationSequential(
                K.RandomHorizontalFlip(p=0.5),
                K.ColorJitter(*JITTER, p=0.8),
                K.RandomGrayscale(p=0.2),
                K.RandomGaussianBlur((9, 9), SIGMA, p=blur),
                *([K.RandomSolarize(0.0, 0.0, p=solarize)] if solarize else []),
                K.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
            )

        self.streams = [
            (torch.from_numpy(np.load(folder / "crops_global.npy")), sequence(0.55, 0.1)),
            (torch.from_numpy(np.load(folder / "crops_local.npy")), sequence(LOCAL_BLUR, 0.0)),
        ]

    def run(self, images: int) -> None:
        """Augment the crops of so many pictures, in batches of `BATCH` pictures."""
        for start in range(0, images, BATCH):
            for crops, transform in self.streams:
                each = len(crops) // len(self.streams[0][0])
                transform(crops[each * start : each * min(start + BATCH, images)].float() / 255)


def built(name: str, folder: Path) -> Any:
    """Return the rival of that name, ready to run."""
    files = sorted(folder.glob("*.jpg"))
    if name == "kornia":
        return Kornia(folder)
    if name == "pil":
        from PIL import Image

        return Pipeline(files, lambda path: Image.open(path).convert("RGB"), reference_transform)
    from torchvision.io import ImageReadMode, decode_jpeg, read_file

    return Pipeline(files, lambda path: decode_jpeg(read_file(str(path)), ImageReadMode.RGB), v2_transform)


def version(package: str) -> str | None:
    """Return the version of an installed package, `None` where it is missing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> None:
    """Answer the commands until the input ends."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    folder, rivals = Path(sys.argv[1]), {}
    versions = {name: version(name) for name in ("torch", "torchvision", "kornia", "pillow")}
    print(json.dumps({"python": platform.python_version(), **versions}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        name = command["run"]
        if name not in rivals:
            rivals[name] = built(name, folder)
        start = time.process_time()
        with torch.no_grad():
            rivals[name].run(command["images"])
        print(json.dumps({"seconds": time.process_time() - start}), flush=True)


if __name__ == "__main__":
    main()
