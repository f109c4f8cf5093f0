"""Text-to-image pipelines of diffusers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from PIL.Image import Image

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
    takes = ("batch_size", "dtype", "scheduler", "adapter", "size_drawn", "safety_checker")

    def __init__(
        self,
        model_id: str,
        *,
        batch_size: int | None = None,
        dtype: str = "auto",
        scheduler: str | None = None,
        adapter: str | None = None,
        size_drawn: int | None = None,
        safety_checker: bool = True,
    ) -> None:
        from diffusers import DiffusionPipeline

        device, chosen = device_and_dtype()
        try:
            pipeline = DiffusionPipeline.from_pretrained(model_id, dtype=chosen)
        except Exception as error:  # missing, damaged, gated, too large: the library has a kind for each
            raise model_cannot_be_loaded("image generator", model_id, "--image-generator", error) from error
        fetch_model_card(model_id)
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline = pipeline.to(device)
        used = getattr(pipeline, "scheduler", None)
        self._batch_size = batch_size or 32
        self.provenance: dict[str, Any] = {
            "generator": str(model_id),
            "revision": pipeline.config.get("_commit_hash") or None,
            "adapter": None,
            "scheduler": type(used).__name__ if used is not None else None,
            "size_drawn": None,
            "dtype": str(chosen).removeprefix("torch."),
            "device": str(device),
        }

    def generate(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        guidance_scale: float,
        num_inference_steps: int,
        size: int,
    ) -> Iterator[Image]:
        """Yield one picture a (prompt, seed) pair; see `ImageGenerator.generate`. Notes the size drawn."""
        import torch

        for start in range(0, len(prompts), self._batch_size):
            batch = slice(start, start + self._batch_size)
            pictures = self._pipeline(
                prompt=list(prompts[batch]),
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds[batch]],
                guidance_scale=guidance_scale,
                num_inference_steps=num_inference_steps,
                output_type="pil",
            ).images
            self.provenance["size_drawn"] = pictures[0].width
            for picture in pictures:
                yield picture.convert("RGB")
