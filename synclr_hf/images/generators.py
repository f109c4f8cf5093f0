"""Text-to-image models: one interface, back ends found by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from PIL.Image import Image

from synclr_hf.data.back_ends import BackEnd, find_back_end, load_object
from synclr_hf.data.checks import check_integer
from synclr_hf.errors import UserInputError

DTYPES = ("auto", "bfloat16", "float16", "float32")


class ImageGenerator(Protocol):
    """Draws pictures; a (prompt, seed) pair gives the same picture whatever the batch it travels in.

    A class may say `parallel_processes = True`: several processes of one machine may then each build it. It may have
    a method `is_cut(prompt) -> bool`: whether its text encoder reads only the beginning of a prompt.
    """

    provenance: dict[str, Any]
    """What drew the pictures, complete once the first one is there: generator, revision, adapter, scheduler, size
    drawn, dtype, device."""

    def generate(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        guidance_scale: float,
        num_inference_steps: int,
        size: int,
    ) -> Iterator[Image | None]:
        """Yield one RGB picture a (prompt, seed) pair, in order, of at least `size` pixels on each side.

        Any number of pairs may come in one call; the back end forms its own batches and draws the next one when its
        first picture is asked for. Pairs with one prompt stand together, so that the prompt is encoded once. `None`
        stands for a picture that a safety checker has blocked.
        """
        ...


@dataclass(frozen=True)
class ImageGeneratorOptions:
    """How an image generator is built.

    Attributes:
        batch_size: pictures drawn at once; `None`: as many as suit the device.
        dtype: `auto` (bfloat16 on CUDA, float32 elsewhere), `bfloat16`, `float16` or `float32`.
        scheduler: name of a scheduler of diffusers, e.g. `DDIMScheduler`; `None`: the one that suits the model.
        adapter: LoRA weights by Hub id, folder or file; `None`: none.
        size_drawn: side of the pictures as they are drawn; `None`: the model's own.
        safety_checker: whether the safety checker of a pipeline that has one is asked.
    """

    batch_size: int | None = None
    dtype: str = "auto"
    scheduler: str | None = None
    adapter: str | None = None
    size_drawn: int | None = None
    safety_checker: bool = True

    def __post_init__(self) -> None:
        """Refuse options that cannot be used (`UserInputError`)."""
        if self.batch_size is not None:
            check_integer("--batch-size", self.batch_size, minimum=1, example=32)
        if self.size_drawn is not None:
            check_integer("--size-drawn", self.size_drawn, minimum=16, maximum=4096, example=512)
        if self.dtype not in DTYPES:
            raise UserInputError(
                f"--dtype {self.dtype} cannot be used; allowed: {', '.join(DTYPES)}; type --dtype auto"
            )


IMAGE_GENERATORS: dict[str, str] = {
    "toy": "synclr_hf.toyworld.image_generator:ToyImageGenerator",
    "diffusers": "synclr_hf.images.diffusers_generator:DiffusersGenerator",
}
"""Back end name -> import string, so that no room imports the toy world."""


def find_image_generator(spec: str, options: ImageGeneratorOptions | None = None) -> BackEnd:
    """Find an image generator without loading it.

    Args:
        spec: `toy`, `diffusers:ORG/NAME`, or just `ORG/NAME` or a folder with a saved pipeline.
        options: how to build it; default: `ImageGeneratorOptions()`.

    Raises:
        UserInputError: none of these, or an option that this back end does not take.
    """
    back_end = find_back_end(
        spec, IMAGE_GENERATORS, model_back_end="diffusers", what="image generator", option="--image-generator"
    )
    options = options or ImageGeneratorOptions()
    takes = back_end.takes
    for option in fields(options):
        if option.name not in (*takes, "batch_size") and getattr(options, option.name) != option.default:
            raise _not_taken(option.name, getattr(options, option.name), spec)
    return replace(back_end, options=tuple((name, getattr(options, name)) for name in takes))


def create_image_generator(spec: str, options: ImageGeneratorOptions | None = None) -> ImageGenerator:
    """Find and load an image generator; see `find_image_generator`."""
    generator: ImageGenerator = find_image_generator(spec, options).load()
    return generator


def _not_taken(name: str, value: object, spec: str) -> UserInputError:
    flag = f"--{name.replace('_', '-')}" if value is not False else f"--no-{name.replace('_', '-')}"
    able = [other for other, path in IMAGE_GENERATORS.items() if name in getattr(load_object(path), "takes", ())]
    return UserInputError(
        f"{flag} is for {' and '.join(able)}, not for '{spec}'; leave it out, or type --image-generator "
        f"{able[0]}:ORG/NAME"
    )
