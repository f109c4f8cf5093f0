"""Time and peak memory of an optimizer step of pre-training, as `SynCLRTrainer` makes it, on random pictures.

A step: student and teacher forward, losses, backward with clipping, AdamW, the teacher's moving average. Decoding and
crops are outside, the photometric augmentation is timed apart. Settings of the paper: 224 px, 4 local crops of 96 px
(98 for patches of 14), half of the patches masked in half of the pictures. float32 on a CPU, bf16 autocast on a GPU.

python scripts/benchmarks/train_step.py --model vit-s16 --captions 8 --images-per-caption 4 --prototypes 65536 --json F
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import transformers
from PIL import Image
from transformers import TrainerCallback

from synclr_hf.training import SynCLRForPreTraining, SynCLRPreTrainingConfig, SynCLRTrainer, SynCLRTrainingArguments
from synclr_hf.views import ViewsConfig, ViewsDataset

SIZES = {
    "vit-s16": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "patch_size": 16},
    "vit-b16": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "patch_size": 16},
    "vit-l14": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14},
}
PARTS = ("forward", "backward", "optimizer_and_teacher")


class StepClock(TrainerCallback):
    """Notes when the parts of each step end."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.last = 0.0

    def lap(self, name: str | None = None) -> None:
        """End a part; without a name the time since the last one is nobody's."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if name:
            self.seconds[name].append(now - self.last)
        self.last = now

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start."""
        self.lap()

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Gradients are there and clipped."""
        self.lap("backward")

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Student and teacher have moved."""
        self.lap("optimizer_and_teacher")


class TimedTrainer(SynCLRTrainer):
    """The Trainer with a clock around augmentation and forward pass."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clock = StepClock(self.args.device)
        self.add_callback(self.clock)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        inputs = super()._prepare_inputs(inputs)
        self.clock.lap("augmentation")
        return inputs

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Time the forward pass with the losses."""
        loss = super().compute_loss(*args, **kwargs)
        self.clock.lap("forward")
        return loss


def build_trainer(options: argparse.Namespace, folder: str) -> TimedTrainer:
    """Make the model, random pictures of 256 px, and the Trainer; an epoch is one step."""
    size = SIZES[options.model]
    objectives = [{"name": "multi_positive"}, {"name": "ibot", "num_prototypes": options.prototypes}]
    model = SynCLRForPreTraining(SynCLRPreTrainingConfig(encoder_config=dict(size), objectives=objectives))
    rng = np.random.default_rng(0)
    rows = [
        {
            "caption_id": caption,
            "images": [
                Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8))
                for _ in range(options.images_per_caption)
            ],
        }
        for caption in range(options.captions)
    ]
    views = ViewsConfig(local_crop_size=98 if size["patch_size"] == 14 else 96)
    arguments = SynCLRTrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=options.captions,
        max_steps=options.warm_up + options.steps,
        bf16=options.dtype == "bf16",
        use_cpu=options.device == "cpu",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
    )
    dataset = ViewsDataset(rows, views, patch_size=size["patch_size"], seed=0)
    return TimedTrainer(model=model, args=arguments, train_dataset=dataset)


def quartiles(values: list[float]) -> dict[str, float]:
    """Return the median and the quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "quartile_low": low, "quartile_high": high}


def measured(trainer: TimedTrainer, options: argparse.Namespace) -> dict[str, Any]:
    """Train and return what the steps after the warm-up took."""
    trainer.train()
    laps = {name: values[options.warm_up :] for name, values in trainer.clock.seconds.items()}
    steps = [sum(parts) for parts in zip(*(laps[name] for name in PARTS), strict=True)]
    return {
        "step_seconds": quartiles(steps),
        "parts_seconds": {name: quartiles(laps[name]) for name in (*PARTS, "augmentation")},
        "images_per_second": options.captions * options.images_per_caption / statistics.median(steps),
        "all_step_seconds": steps,
        "peak_memory_gib": peak_memory_gib(trainer.args.device),
    }


def peak_memory_gib(device: torch.device) -> float:
    """Return the most memory this process ever had, in GiB: allocated on the GPU, or resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if platform.system() == "Darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def cpu_name() -> str:
    """Return the processor's name as Linux tells it; elsewhere its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def machine(device: torch.device) -> dict[str, Any]:
    """Return what the numbers depend on besides the settings."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "cores": psutil.cpu_count(logical=False),
        "threads": torch.get_num_threads(),
        "load_average_before": psutil.getloadavg()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def main() -> None:
    """Measure, print, and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit-s16", choices=SIZES)
    parser.add_argument("--captions", type=int, default=8)
    parser.add_argument("--images-per-caption", type=int, default=4)
    parser.add_argument("--prototypes", type=int, default=65536)
    parser.add_argument("--steps", type=int, default=10, help="measured steps, 2 or more")
    parser.add_argument("--warm-up", type=int, default=1, help="steps before them")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cuda", "cpu"])
    parser.add_argument("--dtype", choices=["float32", "bf16"], help="default: bf16 autocast on a GPU, else float32")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.steps < 2:
        parser.error(f"--steps {options.steps}: quartiles need 2 steps or more; type --steps 2")
    options.dtype = options.dtype or ("bf16" if options.device == "cuda" else "float32")
    before = machine(torch.device(options.device))
    with tempfile.TemporaryDirectory() as folder:
        found = measured(build_trainer(options, folder), options)
    settings = {name: value for name, value in vars(options).items() if name != "json"}
    text = json.dumps({**found, "settings": settings, "machine": before}, indent=1)
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
