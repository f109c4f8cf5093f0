"""Filters: each looks at one caption and returns `None` to keep it, or the reason why it is dropped."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache

from synclr_hf.captions.language_models import CutOff, Refused
from synclr_hf.captions.naming import is_named
from synclr_hf.captions.prompt_tokens import TokenCounter
from synclr_hf.captions.templates import Prompt
from synclr_hf.captions.unsafe_words import UnsafeWords
from synclr_hf.captions.words import normalized, stems

REASONS = (
    "server_refused",
    "cut_off",
    "empty",
    "markup",
    "refusal",
    "chatter",
    "too_short",
    "too_long",
    "repeats_prompt",
    "lacks_concept",
    "unsafe_word",
    "duplicate",
)
"""In the order in which they are looked for: the first one counts."""

MIN_WORDS = 3
MAX_TOKENS = 77
"""What the text encoder of Stable Diffusion 1.5 and SDXL reads of a prompt, its two special tokens included."""

_ARTICLES = frozenset(("a", "an", "the"))
_MARKUP = re.compile(r"[<>{}\[\]|\\`*_#~^\t\n\r\x00-\x1f\u2028\u2029�]|https?:|www\.|&\w+;|->")
_REFUSAL = re.compile(
    r"^(?:i['’]?m (?:really |very )?sorry|i am (?:really |very )?sorry|sorry,|my apologies|i apologi[sz]e)"
    r"|^(?:i['’]?m|i am) (?:unable|not able)\b|^i (?:can['’]?t|cannot|can not|won['’]?t|will not) "
    r"|\bas an? (?:ai|artificial intelligence|large language model|language model)\b|\bai language model\b",
    re.IGNORECASE,
)
_CHATTER = re.compile(
    r"^(?:sure|certainly|of course|absolutely|okay|ok|great|no problem|got it)\s*[,!.:]"
    r"|^here(?:['’]s| is| are) (?:a|an|the|one|your|my|some|three|another)(?: \w+)? "
    r"(?:caption|sentence|description|example|completion)s?\b"
    r"|^(?:(?:image |possible |new )?caption|description|sentence|answer|output|response|result|completion|assistant|"
    r"user|human|system|note)s?\s*\d*\s*:"
    r"|\b(?:let me know if|i hope this helps|hope that helps|feel free to|would you like me|can i help you|"
    r"is there anything else|happy to help)\b"
    r"|\b(?:this|the) caption\b|\bin this caption\b",
    re.IGNORECASE,
)


def empty(caption: str) -> str | None:
    """Return `"empty"` if no letter is there."""
    return None if any(character.isalpha() for character in caption) else "empty"


def markup(caption: str) -> str | None:
    """Return `"markup"` for arrows, tags, links, brackets and control characters: no sentence of plain words."""
    return "markup" if _MARKUP.search(caption) else None


def chat(caption: str) -> str | None:
    """Return `"refusal"` or `"chatter"` for what chat models say instead of, or around, a caption."""
    if _REFUSAL.search(caption):
        return "refusal"
    return "chatter" if _CHATTER.search(caption) else None


def repeats_prompt(caption: str, prompt: Prompt) -> str | None:
    """Return `"repeats_prompt"` if it says no more than the query, or is the caption of one of the examples.

    It says no more if all its words, articles aside, are in the query, in whatever order, form and number.
    """
    if _ARTICLES.issuperset(set(stems(caption)) - _stems_once(prompt.query)):
        return "repeats_prompt"
    said = normalized(caption)
    known = any(said == _normalized_once(example.caption) for example in prompt.examples)
    return "repeats_prompt" if known else None


def lacks_concept(caption: str, concept: str) -> str | None:
    """Return `"lacks_concept"` unless the caption names the concept; `is_named` says what counts."""
    return None if is_named(caption, concept) else "lacks_concept"


@dataclass(frozen=True)
class CaptionFilters:
    """All filters with their settings.

    Attributes:
        count_tokens: tokens of a caption as the image model will read it, special ones included.
        max_tokens: the most it reads.
        unsafe: words that no caption may hold.
    """

    count_tokens: TokenCounter = field(default_factory=TokenCounter)
    max_tokens: int = MAX_TOKENS
    unsafe: UnsafeWords = field(default_factory=UnsafeWords)

    def length(self, caption: str) -> str | None:
        """Return `"too_short"` below `MIN_WORDS` words, `"too_long"` above the tokens that the image model reads."""
        if len(caption.split()) < MIN_WORDS:
            return "too_short"
        return "too_long" if self.count_tokens(caption) > self.max_tokens else None

    def first_reason(self, caption: str, prompt: Prompt, concept: str, seen: Collection[str]) -> str | None:
        """Return the first reason to drop the caption, `None` if all filters keep it.

        Args:
            caption: one line, stripped; `Refused` and `CutOff` mark what is no whole caption.
            prompt: what the language model read.
            concept: name of the concept that the caption is about.
            seen: the normalized captions of the shard so far.

        Returns:
            One of `REASONS`, or `None`.
        """
        if isinstance(caption, Refused):
            return "server_refused"
        if isinstance(caption, CutOff):
            return "cut_off"
        return (
            empty(caption)
            or markup(caption)
            or chat(caption)
            or self.length(caption)
            or repeats_prompt(caption, prompt)
            or lacks_concept(caption, concept)
            or self.unsafe(caption)
            or duplicate(caption, seen)
        )


def duplicate(caption: str, seen: Collection[str]) -> str | None:
    """Return `"duplicate"` if the `normalized` caption is among those `seen`."""
    return "duplicate" if normalized(caption) in seen else None


_normalized_once = lru_cache(maxsize=4096)(normalized)


@lru_cache(maxsize=65536)
def _stems_once(text: str) -> frozenset[str]:
    return frozenset(stems(text))
