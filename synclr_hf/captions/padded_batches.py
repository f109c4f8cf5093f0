"""Generation in fixed batches, padded on the left: on any device, for any causal language model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from synclr_hf.data.seeds import seed_for
from synclr_hf.data.workers import Report

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel

logger = logging.getLogger(__name__)

FEWEST_ROWS = 8
"""Smaller batches keep their rows to the end."""


def complete_padded(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    config: GenerationConfig,
    batch_size: int,
    report: Report | None = None,
) -> tuple[list[list[int]], int]:
    """Complete prompts in batches of like length; each batch has a seed of its own, made of its prompts' seeds.

    When half the rows of a batch have met an end, they leave it, down to a few rows; so the long ones hold up nobody
    for long. A batch that the device's memory cannot hold is halved.

    Args:
        model: with `pad_token_id` in `config`.
        prompts: token ids.
        seeds: one a prompt.
        config: sampling, length and ends (`eos_token_id`).
        batch_size: rows of a batch.
        report: is told how many more prompts are done.

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
        if report is not None:
            report(len(batch))
    return done, batch_size


def _complete_batch(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], seed: int, config: GenerationConfig
) -> list[list[int]]:
    import torch

    width = max(len(prompt) for prompt in prompts)
    pads = [width - len(prompt) for prompt in prompts]
    ids = torch.tensor([[config.pad_token_id] * pad + list(prompt) for pad, prompt in zip(pads, prompts, strict=True)])
    mask = torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads])
    ids, mask = ids.to(model.device), mask.to(model.device)
    ends = set(config.eos_token_id or ())
    new: list[list[int]] = [[] for _ in prompts]
    rows, cache, shrinks = list(range(len(prompts))), None, bool(ends) and _has_plain_cache(model)
    name = _name_of_the_cache()
    with own_random_numbers(seed):
        while rows:
            made = max(len(new[row]) for row in rows)
            result = model.generate(
                input_ids=ids,
                attention_mask=mask,
                **({name: cache} if cache is not None else {}),
                generation_config=_shortened(config, made),
                stopping_criteria=[_half_done(ids.device, ends)] if shrinks and len(rows) >= FEWEST_ROWS else None,
            )
            ids, cache = result.sequences, getattr(result, name)
            for row, tokens in zip(rows, ids[:, mask.shape[1] :].tolist(), strict=True):
                new[row] += _up_to_end(tokens, ends)
            open_rows = [n for n, row in enumerate(rows) if new[row][-1] not in ends]
            if ids.shape[1] - width >= config.max_new_tokens:
                break
            keep = torch.tensor(open_rows, device=ids.device, dtype=torch.long)
            mask = torch.cat([mask, mask.new_ones(len(rows), ids.shape[1] - mask.shape[1])], dim=1)[keep]
            ids, rows = ids[keep], [rows[n] for n in open_rows]
            cache = _rows_of(cache, keep, ids.shape[1] - 1) if rows else None
    return new


def _up_to_end(tokens: list[int], ends: set[int]) -> list[int]:
    """Return the tokens up to the first end, without the padding behind it."""
    return tokens[: next((place + 1 for place, token in enumerate(tokens) if token in ends), None)]


def _shortened(config: GenerationConfig, made: int) -> GenerationConfig:
    shorter = deepcopy(config)
    shorter.max_new_tokens = config.max_new_tokens - made
    shorter.return_dict_in_generate = True
    return shorter


def _half_done(device: torch.device, ends: set[int]) -> Callable[..., torch.Tensor]:
    """Return a stopping criterion that is met by all rows when half of them have met an end."""
    import torch

    ids_of_ends = torch.tensor(sorted(ends), device=device)
    done = torch.zeros(1, dtype=torch.bool, device=device)

    def criterion(input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        nonlocal done
        done = done | torch.isin(input_ids[:, -1], ids_of_ends)
        return (2 * done.sum() >= len(done)).expand(len(done))

    return criterion


def _name_of_the_cache() -> str:
    """Return what `generate` calls the cache: `past_key_values` in transformers 5.17, `cache` in 5.24."""
    from transformers.generation import GenerateDecoderOnlyOutput

    names = {field.name for field in fields(GenerateDecoderOnlyOutput)}
    return "cache" if "cache" in names else "past_key_values"


def _has_plain_cache(model: PreTrainedModel) -> bool:
    """Whether rows can be taken out of the model's cache: keys and values of every token, in every layer."""
    from transformers import DynamicCache

    return not model._is_stateful and _is_plain(DynamicCache(config=model.config.get_text_config()))


def _is_plain(cache: object) -> bool:
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    return type(cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in cache.layers)


def _rows_of(cache: Any, rows: torch.Tensor, length: int) -> Any:
    """Return the cache of some rows, or `None`, so that it is computed again, if it is not what it should be."""
    if not _is_plain(cache) or cache.get_seq_length() != length:
        return None
    cache.batch_select_indices(rows)
    return cache


@contextmanager
def own_random_numbers(seed: int) -> Iterator[None]:
    """Draw from `seed`, and leave torch's generators as they were."""
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
