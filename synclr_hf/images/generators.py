"""Text-to-image models: one interface, back ends found by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from PIL.Image import Image


class ImageGenerator(Protocol):
    """Draws pictures; a (prompt, seed) pair gives the same picture whatever the batch it travels in."""

    provenance: dict[str, Any]
    """What drew the pictures: generator, revision, adapter, scheduler, size drawn, dtype."""

    def generate(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        guidance_scale: float,
        num_inference_steps: int,
        size: int,
    ) -> list[Image]:
        """Return one RGB picture of `size` x `size` pixels a (prompt, seed) pair, in order."""
        ...


IMAGE_GENERATORS: dict[str, str] = {
    "toy": "synclr_hf.toyworld.image_generator:ToyImageGenerator",
    "diffusers": "synclr_hf.images.diffusers_generator:DiffusersGenerator",
}
"""Back end name -> import string, so that no room imports the toy world."""
