"""Cards of data sets as the page may show them: somebody else's Markdown, without what would act or load."""

from __future__ import annotations

import re

LONGEST = 20_000
"""Characters of a card that are shown."""
_FRONT_MATTER = re.compile(r"\A\s*---\n.*?\n---\n", re.DOTALL)
_INSIDE = r"(?:[^()]|\([^()]*\))*"
# What stands between brackets holds no bracket: each pattern then reads a text once, whatever the text.
_PICTURE = re.compile(rf"!\[([^\[\]]*)\](?:\({_INSIDE}\)|\[[^\[\]]*\])")
_TAG = re.compile(r"<(?=[a-zA-Z/!?])")
_LINK = re.compile(rf"(?<!\\)\[([^\[\]]*)\]\((?!\s*https?://){_INSIDE}\)")
_REFERENCE = re.compile(r"^\s{0,3}\[[^\[\]]+\]:\s+\S+.*$", re.MULTILINE)


def shown_card(card: str) -> str:
    """Return a card as Markdown that shows text, tables and web links, and nothing else.

    Its front matter is left out; pictures are replaced by their words, since their files are not here and those of
    others would be loaded from elsewhere; HTML is shown as text.
    """
    text = _FRONT_MATTER.sub("", card.replace("\r\n", "\n"), count=1)
    text = _PICTURE.sub(r"\1", text)
    text = _LINK.sub(r"\1", text)
    text = _REFERENCE.sub("", text)
    text = _TAG.sub("&lt;", text)
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    if len(text) > LONGEST:
        text = text[:LONGEST].rsplit("\n", 1)[0] + "\n\n(cut here)"
    text = re.sub(r"^(#{1,5}) ", r"#\1 ", text, flags=re.MULTILINE)
    # Last: whatever was left out before, no picture begins in what is returned.
    return text.replace("![", "&#33;[")
