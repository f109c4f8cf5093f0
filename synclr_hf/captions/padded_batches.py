"""Generation in fixed batches, padded on the left: on any device, for any causal language model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from synclr_hf.data.seeds import seed_for

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

logger = logging.getLogger(__name__)


def complete_padded(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    config: GenerationConfig,
    batch_size: int,
) -> tuple[list[list[int]], int]:
    """Complete prompts in batches of like length; each batch has a seed of its own, made of its prompts' seeds.

    A row that has met an end stays in its batch, as padding, until the longest one is done; what has no such rows is
    continuous batching. A batch that the device's memory cannot hold is halved.

    Args:
        model: with `pad_token_id` in `config`.
        prompts: token ids.
        seeds: one a prompt.
        config: sampling, length and ends (`eos_token_id`).
        batch_size: rows of a batch.

    Returns:
        New token ids of every prompt, in order, the end included; and the batch size that fitted.

    Raises:
        torch.OutOfMemoryError: not even one prompt fits.
    """
    import torch

    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))  # if memory lacks, it shows at once
    done: list[list[int]] = [[] for _ in prompts]
    start = 0
    while start < len(order):
        batch = order[start : start + batch_size]
        try:
            tokens = _complete_batch(
                model, [prompts[i] for i in batch], seed_for(0, *(seeds[i] for i in batch)), config
            )
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            batch_size = (len(batch) + 1) // 2
            tokens = None
        if tokens is None:  # here the tensors that the error held on to are gone
            logger.warning("out of memory: %d prompts at once from here on", batch_size)
            torch.cuda.empty_cache()
            continue
        for index, new in zip(batch, tokens, strict=True):
            done[index] = new
        start += len(batch)
    return done, batch_size


def _complete_batch(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], seed: int, config: GenerationConfig
) -> list[list[int]]:
    import torch

    width = max(len(prompt) for prompt in prompts)
    pads = [width - len(prompt) for prompt in prompts]
    ids = [[config.pad_token_id] * pad + list(prompt) for pad, prompt in zip(pads, prompts, strict=True)]
    mask = [[0] * pad + [1] * (width - pad) for pad in pads]
    with own_random_numbers(seed):
        sequences = model.generate(
            input_ids=torch.tensor(ids, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            generation_config=config,
        )
    ends = set(config.eos_token_id or ())
    return [_up_to_end(row, ends) for row in sequences[:, width:].tolist()]


def _up_to_end(tokens: list[int], ends: set[int]) -> list[int]:
    """Return the tokens up to the first end, without the padding behind it."""
    return tokens[: next((place + 1 for place, token in enumerate(tokens) if token in ends), None)]


@contextmanager
def own_random_numbers(seed: int) -> Iterator[None]:
    """Draw from `seed`, and leave torch's generators as they were."""
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
