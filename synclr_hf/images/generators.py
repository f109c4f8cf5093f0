"""Text-to-image models: one interface, back ends found by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from PIL.Image import Image

from synclr_hf.data.back_ends import BackEnd, find_back_end


class ImageGenerator(Protocol):
    """Draws pictures; a (prompt, seed) pair gives the same picture whatever the batch it travels in.

    A class may say `parallel_processes = True`: several processes of one machine may then each build it.
    """

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


def find_image_generator(spec: str) -> BackEnd:
    """Find an image generator without loading it.

    Args:
        spec: `toy`, `diffusers:ORG/NAME`, or just `ORG/NAME` or a folder with a saved pipeline.

    Raises:
        UserInputError: none of these.
    """
    return find_back_end(
        spec, IMAGE_GENERATORS, model_back_end="diffusers", what="image generator", option="--image-generator"
    )


def create_image_generator(spec: str) -> ImageGenerator:
    """Find and load an image generator; see `find_image_generator`."""
    generator: ImageGenerator = find_image_generator(spec).load()
    return generator
