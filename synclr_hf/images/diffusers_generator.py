"""Text-to-image pipelines of diffusers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL.Image import Image, Resampling

from synclr_hf.data.back_ends import device_and_dtype, fetch_model_card, model_cannot_be_loaded


class DiffusersGenerator:
    """Any text-to-image pipeline of the Hub, or of a folder; bfloat16 on CUDA, float32 elsewhere.

    Pictures are drawn at the pipeline's own size and reduced once, with antialiasing. Every picture has a CPU
    generator of its own, so it does not depend on the batch that it travels in. A safety checker stays as the
    pipeline loads it: pictures that it blocks come back black.

    Args:
        model_id: `ORG/NAME` on the Hub, or a folder with a saved pipeline.

    Raises:
        UserInputError: it cannot be loaded.
    """

    parallel_processes = False
    uses_device = True

    def __init__(self, model_id: str) -> None:
        from diffusers import DiffusionPipeline

        device, dtype = device_and_dtype()
        try:
            pipeline = DiffusionPipeline.from_pretrained(model_id, dtype=dtype)
        except Exception as error:  # missing, damaged, gated, too large: the library has a kind for each
            raise model_cannot_be_loaded("image generator", model_id, "--image-generator", error) from error
        fetch_model_card(model_id)
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline = pipeline.to(device)
        scheduler = getattr(pipeline, "scheduler", None)
        self.provenance: dict[str, Any] = {
            "generator": str(model_id),
            "revision": pipeline.config.get("_commit_hash") or None,
            "adapter": None,
            "scheduler": type(scheduler).__name__ if scheduler is not None else None,
            "size_drawn": None,
            "dtype": str(dtype).removeprefix("torch."),
        }

    def generate(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        guidance_scale: float,
        num_inference_steps: int,
        size: int,
    ) -> list[Image]:
        """Return one picture a (prompt, seed) pair; see `ImageGenerator.generate`. Notes the size drawn."""
        import torch

        pictures = self._pipeline(
            prompt=list(prompts),
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            output_type="pil",
        ).images
        self.provenance["size_drawn"] = pictures[0].width
        return [_reduced(picture.convert("RGB"), size) for picture in pictures]


def _reduced(picture: Image, size: int) -> Image:
    """Return the picture as a square of `size` pixels: the middle is cut out if it is not square."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    return picture.resize((size, size), Resampling.LANCZOS, box=box)
