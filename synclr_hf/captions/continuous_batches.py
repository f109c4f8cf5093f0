"""Generation by continuous batching: a prompt moves in when another one is done; the cache is paged, not padded."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from synclr_hf.captions.padded_batches import own_random_numbers

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

FEWEST_REQUESTS = 64
"""With fewer at once than this, padded batches do as well."""


def worth_it(prompts: int, batch_size: int) -> bool:
    """Whether a call of so many prompts is batched continuously rather than in padded batches of `batch_size`.

    More than `FEWEST_REQUESTS` are; so are fewer that fill more than half a batch, e.g. a shard of as many concepts as
    a batch has rows. One alone is not.
    """
    return prompts > max(1, min(FEWEST_REQUESTS, batch_size // 2))


def complete_continuously(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    seed: int,
    config: GenerationConfig,
    limits: Mapping[str, Any],
) -> tuple[list[list[int] | None], str | None]:
    """Complete prompts by `model.generate_batch`; blocks of the cache that prompts have in common are shared.

    The library logs what goes wrong and returns what it has; here it comes back in words.

    Args:
        model: a model that supports paged attention, on one device.
        prompts: token ids.
        seed: for the whole call; a text depends on all of it.
        config: sampling, length and ends (`eos_token_id`).
        limits: settings of `ContinuousBatchingConfig`; empty on CUDA, where the library measures the memory. On a CPU
            `num_blocks` and `max_batch_tokens` must be there, or it takes most of the memory.

    Returns:
        New token ids of every prompt in order, the end included, `None` for those that failed; and why, if any did.
    """
    from transformers import ContinuousBatchingConfig

    done: list[list[int] | None] = [None] * len(prompts)
    error, attention = None, model.config._attn_implementation
    try:
        with own_random_numbers(seed), _quiet():
            results = model.generate_batch(
                [list(prompt) for prompt in prompts],
                generation_config=deepcopy(config),
                continuous_batching_config=ContinuousBatchingConfig(seed=seed, **limits),
            )
    except Exception as failure:  # a model without paged attention, or the memory; the library has a kind for each
        return done, str(failure) or type(failure).__name__
    finally:
        if model.config._attn_implementation != attention:  # after a failure the library leaves the paged one
            model.set_attn_implementation(attention)
    for request, result in results.items():
        if result.error is not None:
            error = error or str(result.error) or "unknown error"
        else:
            done[int(request.rpartition("_")[2])] = list(result.generated_tokens)
    if error is None and None in done:
        error = "the generation ended early"
    return done, error


def halved(limits: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return limits that take about half the memory, or `None` when continuous batching is not worth it any more."""
    requests = int(limits.get("max_requests_per_batch", 1024)) // 2
    if requests < FEWEST_REQUESTS:
        return None
    return {
        **limits,
        "max_requests_per_batch": requests,
        "max_batch_tokens": max(256, int(limits.get("max_batch_tokens", 8192)) // 2),
        "max_memory_percent": 0.75 * limits.get("max_memory_percent", 0.8),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's tracebacks out of the output: what failed is told once, by the caller."""
    library = logging.getLogger("ContinuousBatchingLogger")
    level = library.level
    library.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        library.setLevel(level)
