"""The renderer behind the interface of text-to-image models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL.Image import Image

from synclr_hf.errors import UserInputError
from synclr_hf.toyworld.attributes import DrawnScene
from synclr_hf.toyworld.renderer import REVISION, Layer, render
from synclr_hf.toyworld.scene import parse_caption, sample

MIN_SIZE, MAX_SIZE = 32, 512


class ToyImageGenerator:
    """Draws captions of the toy world.

    A (caption, seed, size) triple gives the same picture, bit for bit, in any batch and process. `guidance_scale` has
    a mild meaning: the higher, the nearer are pose and colours to the thing's prototype (1 and less: full variation,
    2.5: an eighth less, 10: about half). `num_inference_steps` has none.
    """

    parallel_processes = True
    """One process a core may draw; nothing is shared and nothing needs a device."""

    def __init__(self) -> None:
        self.provenance: dict[str, Any] = {
            "generator": "toyworld-renderer",
            "back_end": "toy",
            "revision": REVISION,
            "size_drawn": None,
            "device": "cpu",
        }

    def generate(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        guidance_scale: float = 2.5,
        num_inference_steps: int = 1,
        size: int = 128,
    ) -> Iterator[Image]:
        """Return one RGB picture of `size` x `size` pixels a (prompt, seed) pair, in order, drawn when asked for.

        Raises:
            UserInputError: a size outside 32..512, a caption that names no known thing, or not one seed a prompt.
        """
        if len(prompts) != len(seeds):
            raise UserInputError(f"{len(prompts)} prompts came with {len(seeds)} seeds; give one seed a prompt")
        self.provenance["size_drawn"] = size
        _check_size(size)
        pairs = zip(prompts, seeds, strict=True)
        return (self.draw(prompt, seed, size, guidance_scale)[0] for prompt, seed in pairs)

    def draw(self, caption: str, seed: int, size: int = 128, guidance_scale: float = 2.5) -> tuple[Image, DrawnScene]:
        """Return the picture of a caption and everything that was drawn, as `DrawnScene`."""
        _check_size(size)
        drawn = sample(parse_caption(caption), seed, _spread(guidance_scale))
        return render(drawn, size)[0], drawn

    def draw_with_layers(
        self, caption: str, seed: int, size: int = 128, guidance_scale: float = 2.5
    ) -> tuple[Image, DrawnScene, np.ndarray]:
        """Like `draw`, and with a map of what is seen where.

        Returns:
            Picture, scene, and a uint8 array of shape (size, size): 0 is background, i the i-th of `scene.things`.
        """
        _check_size(size)
        drawn = sample(parse_caption(caption), seed, _spread(guidance_scale))
        picture, layers = render(drawn, size)
        return picture, drawn, label_map(layers, size)


def label_map(layers: Sequence[Layer], size: int) -> np.ndarray:
    """Return which layer is seen at each pixel (0 is the background), uint8, shape (size, size)."""
    labels = np.zeros((size, size), np.uint8)
    for number, layer in enumerate(layers, start=1):
        height, width = layer.alpha.shape
        region = labels[layer.y : layer.y + height, layer.x : layer.x + width]
        region[layer.alpha > 0.5] = number
    return labels


def _spread(guidance_scale: float) -> float:
    return 1.0 / (1.0 + 0.1 * max(guidance_scale - 1.0, 0.0))


def _check_size(size: int) -> None:
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UserInputError(
            f"image size {size} cannot be drawn by the toy world; allowed: {MIN_SIZE}..{MAX_SIZE}; type --size 128"
        )
