"""What the numbers of a run were made on."""

from __future__ import annotations

import platform
from pathlib import Path

from synclr_hf.data.workers import usable_cores


def machine() -> dict[str, str]:
    """Return what the numbers were made on."""
    import psutil
    import torch

    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    accelerator = {"accelerator": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    facts = {"processor": processor(), "cores": str(usable_cores()), "memory": memory, "system": platform.platform()}
    return {**accelerator, **facts}


def processor() -> str:
    """Return the name of the processor as Linux tells it; elsewhere its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
