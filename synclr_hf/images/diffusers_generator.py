"""Text-to-image pipelines of diffusers."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from synclr_hf.errors import UserInputError
from synclr_hf.images.batching import ON_CPU, measured_batch_size, stepped_down
from synclr_hf.images.diffusers_loading import load_pipeline, quiet, size_multiple, too_little_memory
from synclr_hf.images.fast_path import CompiledBlocks, denoiser, prepare
from synclr_hf.images.prompt_encoding import PromptEncoder


@dataclass(frozen=True)
class _Settings:
    guidance_scale: float
    num_inference_steps: int


class DiffusersGenerator:
    """Any text-to-image pipeline of the Hub, or of a folder; bfloat16 on CUDA, float32 elsewhere.

    Every picture has a CPU generator of its own, so it does not depend on the batch that it travels in: on a CPU it is
    the same within 1 level of 255 whatever the batch. Guidance is w of w x conditional + (1 - w) x unconditional, both
    in one batch; 1 or less draws without it. Models that guidance was distilled into take w as an input.

    Fast path: a caption is encoded once for all its pictures; on CUDA convolutions run channels last, queries, keys
    and values are one product, repeated blocks are compiled once that pays, the denoising loop does not wait for the
    device, and the pictures of a batch come back in one copy. The VAE decodes in slices that fit.

    Args:
        model_id: `ORG/NAME` on the Hub, or a folder with a saved pipeline.
        batch_size: pictures drawn at once; `None`: as many as fit a CUDA device, by a trial, or 4 elsewhere. Halved
            for good when the memory does not hold them.
        dtype: `auto` or the name of a type of torch.
        scheduler: name of a scheduler of diffusers; `None`: what suits the model.
        adapter: LoRA weights: `ORG/NAME`, `ORG/NAME/FILE.safetensors`, a folder or a file.
        size_drawn: side of the pictures; `None`: the model's own.
        safety_checker: whether a pipeline that has one asks it; what it blocks comes back as `None`.

    Raises:
        UserInputError: it cannot be loaded, does not draw pictures from texts, or an option does not fit it.
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
        import torch

        self._pipeline, told = load_pipeline(
            model_id, dtype=dtype, scheduler=scheduler, adapter=adapter, safety_checker=safety_checker
        )
        self.provenance: dict[str, Any] = told
        self._call = inspect.signature(type(self._pipeline).__call__).parameters
        self._size = self._checked_size(size_drawn)
        self.provenance["size_drawn"] = self._size
        try:
            prepare(self._pipeline)
        except torch.OutOfMemoryError as error:
            raise self._too_little_memory() from error
        self._encoder = PromptEncoder(self._pipeline)
        self._on_cuda = self._pipeline.device.type == "cuda"
        self._blocks = CompiledBlocks(denoiser(self._pipeline) if self._on_cuda else None)
        self._batch_size = batch_size or (None if self._on_cuda else ON_CPU)
        self._drawn, self._seconds = 0, 0.0

    def is_cut(self, prompt: str) -> bool:
        """Return whether the text encoders read only the beginning of a caption."""
        return self._encoder.is_cut(prompt)

    def generate(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        guidance_scale: float,
        num_inference_steps: int,
        size: int,
    ) -> Iterator[Image.Image | None]:
        """Yield one picture a (prompt, seed) pair; see `ImageGenerator.generate`. They are not reduced.

        Raises:
            UserInputError: pictures smaller than `size`, more steps than the scheduler has, a device too small for
                one picture, or a model whose output are no pictures.
        """
        self._check_steps(num_inference_steps)
        self._check_size(size)
        settings = _Settings(guidance_scale, num_inference_steps)
        place = 0
        while place < len(prompts):
            batch = slice(place, place + self._next_batch(prompts[place:], settings))
            pictures = self._draw_what_fits(prompts[batch], seeds[batch], settings)
            self._check_size(size)
            place += len(pictures)
            self._blocks.consider(self._drawn, self._seconds, len(prompts) - place)
            yield from pictures

    def _next_batch(self, prompts: Sequence[str], settings: _Settings) -> int:
        """Return how many of these pictures are drawn next; a trial finds it once there are some to draw."""
        if self._batch_size is None and len(prompts) > ON_CPU:
            import torch

            few = _Settings(settings.guidance_scale, min(2, settings.num_inference_steps))
            try:
                self._batch_size = measured_batch_size(lambda count: self._try(prompts[0], count, few))
            except torch.OutOfMemoryError as error:
                raise self._too_little_memory() from error
        return min(len(prompts), self._batch_size or ON_CPU)

    def _try(self, prompt: str, count: int, settings: _Settings) -> None:
        self._draw([prompt] * count, range(count), settings)

    def _draw_what_fits(
        self, prompts: Sequence[str], seeds: Sequence[int], settings: _Settings
    ) -> list[Image.Image | None]:
        """Draw these pictures, or the first half of them as often as it takes to fit."""
        import torch

        count = len(prompts)
        while True:
            start = time.perf_counter()
            try:
                pictures = self._draw_padded(prompts[:count], seeds[:count], settings)
            except torch.OutOfMemoryError as error:
                if count == 1:
                    raise self._too_little_memory() from error
            except UserInputError:
                raise
            except Exception as error:  # whatever the compiler or its product meets
                if not self._blocks.active:
                    raise
                self._blocks.give_up(error)
                continue
            else:
                self._drawn += count
                self._seconds += time.perf_counter() - start
                return pictures
            count = self._batch_size = stepped_down(count)

    def _draw_padded(
        self, prompts: Sequence[str], seeds: Sequence[int], settings: _Settings
    ) -> list[Image.Image | None]:
        """Draw a batch; compiled blocks get batches of one size, or stay out of one that is less than half of it."""
        count, whole = len(prompts), self._batch_size or ON_CPU
        if not self._blocks.active or count >= whole:
            return self._draw(prompts, seeds, settings)
        if 2 * count < whole:
            with self._blocks.left_out():
                return self._draw(prompts, seeds, settings)
        more = whole - count
        padded = self._draw([*prompts, *[prompts[-1]] * more], [*seeds, *[seeds[-1]] * more], settings)
        return padded[:count]

    def _draw(self, prompts: Sequence[str], seeds: Sequence[int], settings: _Settings) -> list[Image.Image | None]:
        import torch

        with quiet():
            output = self._pipeline(
                **self._encoder.arguments(prompts, settings.guidance_scale),
                **self._arguments(settings),
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                output_type="pt",
            )
        pictures = self._as_pictures(getattr(output, "images", None), len(prompts))
        blocked = getattr(output, "nsfw_content_detected", None) or [False] * len(pictures)
        return [None if no else picture for picture, no in zip(pictures, blocked, strict=True)]

    def _arguments(self, settings: _Settings) -> dict[str, Any]:
        """Return the arguments of a call that do not depend on the pictures, as far as the pipeline has them."""
        steps = settings.num_inference_steps
        wanted: dict[str, Any] = {
            "num_inference_steps": steps,
            "guidance_scale": settings.guidance_scale,
            "distilled_guidance_scale": settings.guidance_scale,
            "use_resolution_binning": False,  # else the pictures are drawn in another size, and resized
        }
        if self._size is not None:
            wanted |= {"height": self._size, "width": self._size}
        if steps != 2:
            wanted["intermediate_timesteps"] = None  # Sana Sprint: for two steps only
        return {name: value for name, value in wanted.items() if name in self._call}

    def _as_pictures(self, images: Any, count: int) -> list[Image.Image]:
        """Return pictures of a tensor (B, 3, H, W) in [0, 1]: rounded on its device, and copied from it at once.

        Notes their size.
        """
        import torch

        if not isinstance(images, torch.Tensor) or images.dim() != 4 or images.shape[:2] != (count, 3):
            shape = tuple(images.shape) if isinstance(images, torch.Tensor) else type(images).__name__
            raise UserInputError(
                f"the image generator '{self.provenance['generator']}' returned {shape}, not {count} RGB pictures; "
                "type --image-generator with a text-to-image pipeline, or toy"
            )
        self.provenance["size_drawn"] = min(images.shape[2:])
        levels = (images.float() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        return [Image.fromarray(picture) for picture in levels.cpu().numpy()]

    def _checked_size(self, size: int | None) -> int | None:
        """Return the side to draw; `None`: the pipeline finds it."""
        if size is None:
            default = self._call["height"].default if "height" in self._call else None
            own = getattr(getattr(denoiser(self._pipeline), "config", None), "sample_size", None)
            known = isinstance(default, int) and isinstance(own, int)  # Sana has one default for all its models
            return own * int(getattr(self._pipeline, "vae_scale_factor", 8)) if known else None
        multiple = size_multiple(self._pipeline)
        if "height" not in self._call:
            raise UserInputError(
                f"--size-drawn {size} cannot be used: '{self.provenance['generator']}' has one size only; leave it out"
            )
        if size % multiple:
            raise UserInputError(
                f"--size-drawn {size} cannot be used: '{self.provenance['generator']}' draws sides that are multiples "
                f"of {multiple}; type --size-drawn {-(-size // multiple) * multiple}"
            )
        return size

    def _check_steps(self, steps: int) -> None:
        trained = getattr(getattr(self._pipeline, "scheduler", None), "config", {}).get("num_train_timesteps")
        if trained is not None and steps > trained:
            raise UserInputError(
                f"--num-inference-steps {steps} is more than the {trained} that '{self.provenance['generator']}' was "
                "trained with; type --num-inference-steps 50"
            )

    def _check_size(self, size: int) -> None:
        drawn = self.provenance["size_drawn"]  # None before the first picture, if the model decides
        if drawn is not None and drawn < size:
            raise UserInputError(
                f"'{self.provenance['generator']}' draws pictures of {drawn} px, smaller than --size {size}; type "
                f"--size {drawn}, or --size-drawn {size} or more"
            )

    def _too_little_memory(self) -> UserInputError:
        return too_little_memory(self.provenance["generator"], self.provenance["device"])
