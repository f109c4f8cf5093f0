"""Causal language models of transformers as caption writers."""

from __future__ import annotations

from collections.abc import Sequence

from synclr_hf.data.back_ends import device_and_dtype, model_cannot_be_loaded
from synclr_hf.data.seeds import seed_for


class TransformersLanguageModel:
    """Any causal language model of the Hub, or of a folder; bfloat16 on CUDA, float32 elsewhere.

    The sampling is seeded once a batch, so a completion depends on the batch that it travels in.

    Args:
        model_id: `ORG/NAME` on the Hub, or a folder with model and tokenizer.

    Raises:
        UserInputError: it cannot be loaded.
    """

    takes = ("batch_size", "dtype", "device_map")
    parallel_processes = False
    uses_device = True

    def __init__(
        self, model_id: str, *, batch_size: int = 64, dtype: str = "auto", device_map: str | None = None
    ) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._device, dtype = device_and_dtype()
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(model_id, padding_side="left")
            model = AutoModelForCausalLM.from_pretrained(model_id, dtype=dtype)
        except Exception as error:  # missing, damaged, gated, too large: the library has a kind for each
            raise model_cannot_be_loaded("language model", model_id, "--language-model", error) from error
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model = model.to(self._device).eval()
        commit = getattr(model.config, "_commit_hash", None)
        self.name = f"{model_id}@{commit}" if commit else str(model_id)

    def complete(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        stop: Sequence[str],
    ) -> list[str]:
        """Return one completion a prompt; see `LanguageModel.complete`."""
        import torch

        inputs = self._tokenizer(list(prompts), return_tensors="pt", padding=True).to(self._device)
        sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(seed_for(0, *seeds))
            sequences = self._model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                pad_token_id=self._tokenizer.pad_token_id,
                stop_strings=list(stop) or None,
                tokenizer=self._tokenizer,
                **(sampling if temperature > 0 else {"do_sample": False}),
            )
        new = sequences[:, inputs["input_ids"].shape[1] :]
        return [_cut(text, stop) for text in self._tokenizer.batch_decode(new, skip_special_tokens=True)]


def _cut(text: str, stop: Sequence[str]) -> str:
    """Return `text` up to the first of the `stop` strings."""
    for ending in stop:
        text = text.partition(ending)[0]
    return text
