"""Pre-training runs in processes of their own: the recipe, the pictures, and how a test types the command."""

import io
import os
import subprocess
import sys
from pathlib import Path

import yaml
from datasets import Dataset
from PIL import Image, ImageDraw
from tiny_pretraining import ENCODER, OBJECTIVES

from synclr_hf.data.schemas import image_features

ROOT = Path(__file__).parents[2]
WATCHED_RUN = Path(__file__).with_name("watched_run.py")


def picture(caption, k):
    image = Image.new("RGB", (40, 40), (10 * caption % 256, 90, 255 - 30 * caption % 256))
    ImageDraw.Draw(image).ellipse((5 + k, 5, 20 + 2 * k, 25), fill=(200, 30 * caption % 256, 40))
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return {"bytes": encoded.getvalue(), "path": None}


def write_images(folder, captions):
    """Write an images set of two shards with four pictures a caption."""
    rows = [
        {
            "caption_id": i,
            "caption": f"thing {i}",
            "concept": f"thing {i % 3}",
            "source": "test",
            "images": [picture(i, k) for k in range(4)],
            "seeds": [0, 1, 2, 3],
            "guidance_scale": 2.5,
            "provenance": "{}",
        }
        for i in range(captions)
    ]
    (folder / "data").mkdir(parents=True)
    for shard in range(2):
        part = Dataset.from_list(rows[shard * captions // 2 :][: captions // 2], features=image_features())
        part.to_parquet(folder / "data" / f"train-0000{shard}-of-00002.parquet")
    return folder


def write_recipe(path, training_arguments, **pretraining):
    """Write a recipe of a tiny run on CPU; `pretraining` changes entries of its section."""
    fixed = {"per_device_train_batch_size": 3, "learning_rate": 1e-3, "logging_steps": 1, "use_cpu": True}
    section = {
        "encoder": {**ENCODER, "initializer_range": 0.2},
        "objectives": OBJECTIVES,
        "views": {"global_crop_size": 32, "local_crop_size": 16, "num_local_crops": 2},
        "training_arguments": {**fixed, **training_arguments},
        **pretraining,
    }
    path.write_text(yaml.safe_dump({"seed": 0, "pretraining": section}))
    return path


def environment(cache):
    """Return the environment of a run: no network, a cache of its own, one thread a process."""
    own = {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return {**os.environ, **own}


def run(command, cache, timeout=180):
    """Run a command in a session of its own (so that it may kill its process group) and return what came of it."""
    return subprocess.run(
        [str(part) for part in command],
        env=environment(cache),
        capture_output=True,
        text=True,
        timeout=timeout,
        start_new_session=True,
    )


def python(*arguments):
    return [sys.executable, *arguments]
