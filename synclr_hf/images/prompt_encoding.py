"""Encoding each caption once for all its pictures."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from synclr_hf.images.diffusers_loading import quiet
from synclr_hf.images.families import FAMILIES, Family

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


class PromptEncoder:
    """Turns captions into the arguments of a pipeline that stand for them.

    The text encoders run once a caption, however many pictures and batches it has; only captions of the last batch are
    kept. A pipeline whose `encode_prompt` is not in the table of families gets the texts.

    Args:
        pipeline: a loaded pipeline.
    """

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self._pipeline = pipeline
        self._names = FAMILIES.get(type(pipeline).__name__, Family()).encoded
        self._call = inspect.signature(type(pipeline).__call__).parameters
        self._kept: dict[str, tuple[torch.Tensor | None, ...]] = {}
        self._guided: bool | None = None
        self._limits = self._read_limits()

    def arguments(self, prompts: Sequence[str], guidance_scale: float) -> dict[str, Any]:
        """Return the arguments for a batch of captions.

        Args:
            prompts: one caption a picture.
            guidance_scale: as the pipeline takes it; it decides whether the empty prompt is encoded, too.
        """
        import torch

        if not self._names:
            return {"prompt": list(prompts)}
        self._pipeline._guidance_scale = guidance_scale
        guided = bool(getattr(self._pipeline, "do_classifier_free_guidance", guidance_scale > 1))
        known = self._kept if guided == self._guided else {}
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]
        known = {**known, **(self._encode(new, guided) if new else {})}
        self._kept, self._guided = {prompt: known[prompt] for prompt in prompts}, guided
        columns = zip(*(known[prompt] for prompt in prompts), strict=True)
        arguments = {
            name: torch.stack(column)
            for name, column in zip(self._names, columns, strict=True)
            if name is not None and column[0] is not None
        }
        if "negative_prompt" in self._call:  # some have the empty text as their default, and refuse both
            arguments["negative_prompt"] = None
        return arguments

    def is_cut(self, prompt: str) -> bool:
        """Return whether no text encoder of the pipeline reads the whole caption."""
        with quiet():
            return bool(self._limits) and all(
                len(tokenizer(prompt)["input_ids"]) > limit for tokenizer, limit in self._limits
            )

    def _encode(self, prompts: list[str], guided: bool) -> dict[str, tuple[torch.Tensor | None, ...]]:
        """Return the outputs of `encode_prompt` by caption; settings are those that a call has by itself."""
        import torch

        takes = inspect.signature(self._pipeline.encode_prompt).parameters
        shared = {name: self._call[name].default for name in takes if name in self._call}
        own = {
            "prompt": prompts,
            "device": self._pipeline._execution_device,
            "num_images_per_prompt": 1,
            "do_classifier_free_guidance": guided,
        }
        with torch.no_grad():
            outputs = self._pipeline.encode_prompt(**shared | {name: own[name] for name in own if name in takes})
        columns = [
            [None] * len(prompts) if name is None or output is None else output.unbind()
            for name, output in zip(self._names, outputs, strict=True)
        ]
        return dict(zip(prompts, zip(*columns, strict=True), strict=True))

    def _read_limits(self) -> list[tuple[Any, int]]:
        """Return the tokenizers and how many tokens are read after them."""
        from transformers import PreTrainedTokenizerBase

        longest = self._call["max_sequence_length"].default if "max_sequence_length" in self._call else None
        limits = []
        for component in self._pipeline.components.values():
            if isinstance(component, PreTrainedTokenizerBase):
                clip = "CLIP" in type(component).__name__
                limits.append((component, component.model_max_length if clip or longest is None else longest))
        return limits
