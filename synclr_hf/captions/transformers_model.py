"""Causal language models of transformers as caption writers."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synclr_hf.captions.continuous_batches import complete_continuously, halved, worth_it
from synclr_hf.captions.language_models import CutOff, cut_at, holds
from synclr_hf.captions.padded_batches import complete_padded
from synclr_hf.data.back_ends import device_and_dtype, fetch_model_card, model_cannot_be_loaded
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.workers import Report
from synclr_hf.errors import UserInputError

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


class TransformersLanguageModel:
    """Any causal language model of the Hub, or of a folder.

    On one CUDA device the prompts of a call are batched continuously; elsewhere, for models that cannot be, and for
    calls of few prompts (see `worth_it`), in padded batches. A text depends on the whole call that it is a part of; on
    a CPU the same call gives the same texts again. A model's own defaults for sampling are not used.

    Its name is the id with the commit for a model of the Hub, and for a folder its own name, wherever it lies.

    Args:
        model_id: `ORG/NAME` on the Hub, or a folder with model and tokenizer.
        batch_size: rows of a padded batch; halved for good when the device's memory does not hold them.
        dtype: `auto` is bfloat16 on CUDA, float32 elsewhere; or the name of a type of torch.
        device_map: given to accelerate, which spreads the model; `None`: the first device.

    Raises:
        UserInputError: it cannot be loaded, or does not write text.
    """

    takes = ("batch_size", "dtype", "device_map")
    parallel_processes = False
    uses_device = True
    batches_decide = True

    def __init__(
        self, model_id: str, *, batch_size: int = 64, dtype: str = "auto", device_map: str | None = None
    ) -> None:
        try:
            self._tokenizer, self._model = _load(model_id, dtype, device_map)
        except UserInputError:
            raise
        except Exception as error:  # missing, damaged, gated, too large: the library has a kind for each
            raise model_cannot_be_loaded("language model", model_id, "--language-model", error) from error
        fetch_model_card(model_id)
        self.name = _name(model_id, self._model)
        self.usage: Counter[str] = Counter()
        self._batch_size = batch_size
        parts = set((getattr(self._model, "hf_device_map", None) or {}).values())
        one_cuda_device = self._model.device.type == "cuda" and len(parts) <= 1
        self._continuous: dict[str, Any] | None = {} if one_cuda_device else None
        self._ends = _ends(self._tokenizer, self._model)
        self._ends_with: dict[tuple[str, ...], list[int]] = {}

    def complete(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        stop: Sequence[str],
        report: Report | None = None,
    ) -> list[str]:
        """Return one completion a prompt; see `LanguageModel.complete`.

        Raises:
            UserInputError: a prompt that is too long for the model, or a device too small for one prompt.
        """
        if not prompts:
            return []
        inputs = self._tokenizer(list(prompts))["input_ids"]
        self._check_lengths(inputs, max_new_tokens)
        config = self._config(temperature, top_p, max_new_tokens, tuple(stop))
        outputs = self._complete(inputs, seeds, config, report)
        self.usage["prompt_tokens"] += sum(len(tokens) for tokens in inputs)
        self.usage["completion_tokens"] += sum(len(tokens) for tokens in outputs)
        texts = self._tokenizer.batch_decode(outputs, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        ends = set(config.eos_token_id or ())
        return [
            CutOff(text) if ends.isdisjoint(tokens) and not holds(text, stop) else cut_at(text, stop)
            for text, tokens in zip(texts, outputs, strict=True)
        ]

    def _complete(
        self, inputs: Sequence[list[int]], seeds: Sequence[int], config: GenerationConfig, report: Report | None
    ) -> list[list[int]]:
        import torch

        outputs: list[list[int] | None] = [None] * len(inputs)
        left = list(range(len(inputs)))
        while self._continuous is not None and worth_it(len(left), self._batch_size):
            done, error = complete_continuously(
                self._model,
                [inputs[i] for i in left],
                seed_for(0, *(seeds[i] for i in left)),
                config,
                self._continuous,
            )
            for index, tokens in zip(left, done, strict=True):
                outputs[index] = tokens
            if report is not None:
                report(sum(tokens is not None for tokens in done))
            left = [index for index in left if outputs[index] is None]
            if error is not None:
                self._continue_after(error)
        try:
            done, self._batch_size = complete_padded(
                self._model, [inputs[i] for i in left], [seeds[i] for i in left], config, self._batch_size, report
            )
        except torch.OutOfMemoryError as error:
            raise UserInputError(
                f"the memory of {self._model.device} does not hold '{self.name}' with one prompt; type --device-map "
                "auto to spread it over several devices, or another --language-model"
            ) from error
        for index, tokens in zip(left, done, strict=True):
            outputs[index] = tokens
        return [tokens or [] for tokens in outputs]

    def _continue_after(self, error: str) -> None:
        """Ask for less memory if that is what was missing, else give up continuous batching."""
        short_of_memory = "out of memory" in error.lower()
        self._continuous = halved(self._continuous or {}) if short_of_memory else None
        if self._continuous is None:
            reason = next(iter(error.splitlines()), "")[:200]
            logger.warning("'%s' goes on in padded batches, not continuously: %s", self.name, reason)
        else:
            requests = self._continuous["max_requests_per_batch"]
            logger.warning("out of memory: %d prompts at once from here on", requests)

    def _config(
        self, temperature: float, top_p: float, max_new_tokens: int, stop: tuple[str, ...]
    ) -> GenerationConfig:
        from transformers import GenerationConfig

        if stop not in self._ends_with:
            self._ends_with[stop] = sorted(self._ends | tokens_with(self._tokenizer, stop))
        ends = self._ends_with[stop]
        pad = self._tokenizer.pad_token_id
        sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            eos_token_id=ends or None,
            pad_token_id=pad if pad is not None else min(self._ends, default=0),
            **(sampling if temperature > 0 else {"do_sample": False}),
        )

    def _check_lengths(self, inputs: Sequence[list[int]], max_new_tokens: int) -> None:
        limit = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        longest = max(len(tokens) for tokens in inputs)
        if limit is not None and longest + max_new_tokens > limit:
            raise UserInputError(
                f"a prompt has {longest} tokens; with --max-new-tokens {max_new_tokens} that is more than the {limit} "
                f"that '{self.name}' reads; type a smaller --max-new-tokens, or another --language-model"
            )


def tokens_with(tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> set[int]:
    """Return the ids of all tokens whose text contains one of the `stop` strings.

    Generation may end at any of these; a stop string that is spread over several tokens is only found in the text.
    """
    if not any(stop):
        return set()
    ids = sorted(tokenizer.get_vocab().values())
    texts = tokenizer.batch_decode([[token] for token in ids], clean_up_tokenization_spaces=False)
    return {token for token, text in zip(ids, texts, strict=True) if any(end in text for end in stop if end)}


def _name(model_id: str, model: PreTrainedModel) -> str:
    if Path(model_id).is_dir():
        return Path(model_id).resolve().name
    commit = getattr(model.config, "_commit_hash", None)
    return f"{model_id}@{commit}" if commit else str(model_id)


def _load(model_id: str, dtype_name: str, device_map: str | None) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(model_id)
    own_code = getattr(config, "auto_map", None) or {}
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and "AutoModelForCausalLM" not in own_code:
        raise UserInputError(
            f"the language model '{model_id}' is of type '{config.model_type}', which does not write text; "
            "type --language-model with a causal one, e.g. meta-llama/Llama-2-7b-hf, or --language-model toy"
        )
    tokenizer = AutoTokenizer.from_pretrained(model_id, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    device, best = device_and_dtype()
    dtype = best if dtype_name == "auto" else getattr(torch, dtype_name)
    model, report = AutoModelForCausalLM.from_pretrained(
        model_id, dtype=dtype, device_map=device_map, output_loading_info=True
    )
    if lacking := sorted(report["missing_keys"]):
        raise ValueError(f"its weights are incomplete: {len(lacking)} are missing, e.g. {lacking[0]}")
    model.eval()
    return tokenizer, model if device_map else model.to(device)


def _ends(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> set[int]:
    """Return the ids that end a text as tokenizer and model say, and forget the model's defaults for sampling."""
    from transformers import GenerationConfig

    ends: set[int] = set()
    for value in (tokenizer.eos_token_id, model.config.eos_token_id, model.generation_config.eos_token_id):
        ends.update([] if value is None else [value] if isinstance(value, int) else value)
    model.generation_config = GenerationConfig()
    return ends
