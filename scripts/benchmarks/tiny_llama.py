"""A random Llama of any size, saved to disk, whose lines end after a caption-like number of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

VOCABULARY = 32_000
_NEWLINE = "Ċ"
"""How byte-level tokenizers spell the newline."""


def save_random_llama(
    folder: str | Path, size: dict[str, Any], texts: Iterable[str], *, end_probability: float
) -> None:
    """Save the model and a tokenizer trained on `texts`.

    The tokenizer is filled up to 32,000 entries that no text is split into, a share `end_probability` of which hold a
    newline. A random model draws all tokens about equally often, so every token ends the line with that probability.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=8_000, special_tokens=["<s>", "</s>"], initial_alphabet=letters, show_progress=False
    )
    trained.train_from_iterator(texts, trainer)
    trained.save(str(Path(folder) / "trained.json"))
    filled = _filled(Path(folder) / "trained.json", end_probability)
    filled.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=filled, bos_token="<s>", eos_token="</s>")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        torch.manual_seed(0)
        network = LlamaForCausalLM(
            LlamaConfig(vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=1, dtype="bfloat16", **size)
        )
    network.to(torch.bfloat16 if device == "cuda" else torch.float32).save_pretrained(folder)
    fast.save_pretrained(folder)


def _filled(path: Path, end_probability: float) -> Any:
    import json

    from tokenizers import Tokenizer

    stored = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    vocabulary = stored["model"]["vocab"]
    ends = sum(_NEWLINE in token for token in vocabulary)
    wanted = round(VOCABULARY * end_probability)
    for number in range(len(vocabulary), VOCABULARY):
        if ends < wanted:
            vocabulary[f"{_NEWLINE}{number}"] = number
            ends += 1
        else:
            vocabulary[f"w{number}"] = number
    return Tokenizer.from_str(json.dumps(stored))
