"""Words that no caption may hold: the user's own list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from synclr_hf.captions.words import stems
from synclr_hf.concepts.text_files import read_text_file, user_path
from synclr_hf.errors import UserInputError


@dataclass(frozen=True)
class UnsafeWords:
    """A list of words and phrases, compared by their stems: `gun` finds `guns`, not `gunwale`.

    Attributes:
        single: stems of single words.
        phrases: stems of phrases, joined by spaces, with a space at both ends.
    """

    single: frozenset[str] = frozenset()
    phrases: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> UnsafeWords:
        """Read a file with one word or phrase a line; empty lines and lines that start with `#` are skipped.

        Raises:
            UserInputError: it cannot be read, is not UTF-8 text, or holds no words.
        """
        fix = "--unsafe-words FILE.txt with one word or phrase a line"
        text = read_text_file(user_path(path), "file of unsafe words", fix)
        lines = [line.strip() for line in text.splitlines()]
        entries = [stems(line) for line in lines if line and not line.startswith("#")]
        entries = [entry for entry in entries if entry]
        if not entries:
            raise UserInputError(f"--unsafe-words {path} holds no words; type {fix}")
        return cls(
            frozenset(entry[0] for entry in entries if len(entry) == 1),
            tuple(sorted({f" {' '.join(entry)} " for entry in entries if len(entry) > 1})),
        )

    def listed(self) -> list[str]:
        """Return all entries in order."""
        return sorted(self.single) + list(self.phrases)

    def __call__(self, caption: str) -> str | None:
        """Return `"unsafe_word"` if one of the words is there."""
        if not self.single and not self.phrases:
            return None
        given = stems(caption)
        if not self.single.isdisjoint(given):
            return "unsafe_word"
        line = f" {' '.join(given)} "
        return "unsafe_word" if any(phrase in line for phrase in self.phrases) else None
