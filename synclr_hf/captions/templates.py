"""Prompts: three in-context examples and a query line that the language model completes (paper, section 3.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

from synclr_hf.concepts.mixture import ConceptPrompt
from synclr_hf.concepts.text_files import (
    check_characters,
    is_there,
    numbered_lines,
    read_text_file,
    shown_path,
    user_path,
)
from synclr_hf.errors import UserInputError, unknown_name

ARROW = "=>"
NUM_EXAMPLES = 3
POOLS = ("concept", "scene", "texture", "background", "relation")
"""Pools of examples, `captions/examples/{pool}.txt`; the first three serve the plain template, by kind of concept."""

_MASK = (1 << 64) - 1
_FORM = f"'query {ARROW} caption'"
_FIX = f"--examples FOLDER with files of lines {_FORM}"


@dataclass(frozen=True)
class Example:
    """One line of an example file.

    Attributes:
        query: what stands in front of the arrow: the concept, and for two of the pools the second field.
        caption: the sentence behind it.
        line: both, as they stand in a prompt.
    """

    query: str
    caption: str
    line: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Put the line together once: a pool's examples stand in very many prompts."""
        object.__setattr__(self, "line", f"{self.query} {ARROW} {self.caption}")

    def __str__(self) -> str:
        return self.line


@dataclass(frozen=True)
class Prompt:
    """What the language model reads.

    Attributes:
        text: the whole prompt; it ends with the arrow.
        query: the last line, without the arrow.
        examples: the lines before it.
    """

    text: str
    query: str
    examples: tuple[Example, ...]


Pools = Mapping[str, tuple[Example, ...]]
"""Name of a pool -> its examples."""


def load_examples(pool: str, folder: str | Path | None = None) -> tuple[Example, ...]:
    """Read a pool of examples: the user's `{folder}/{pool}.txt` if there is one, else the one that ships.

    Lines are `query => caption`; empty ones and those that start with `#` are skipped.

    Args:
        pool: one of `POOLS`.
        folder: the user's folder of examples, if there is one.

    Raises:
        UserInputError: the user's file cannot be read, has a line of another form, or fewer than three examples.
        ValueError: no such pool.
    """
    if pool not in POOLS:
        raise ValueError(f"pool is '{pool}', not one of {', '.join(POOLS)}")
    own = user_path(folder) / f"{pool}.txt" if folder is not None else None
    if own is not None and is_there(own):
        return parse_examples(str(own), read_text_file(own, "file of examples", _FIX))
    return shipped_examples(pool)


def load_pools(folder: str | Path | None = None) -> dict[str, tuple[Example, ...]]:
    """Read all pools; files of a user's folder replace those that ship, one by one.

    Raises:
        UserInputError: the folder is not there, holds no `.txt` file or one that is no pool, or a file of it cannot
            be used.
    """
    if folder is not None:
        _check_folder(user_path(folder))
    return {pool: load_examples(pool, folder) for pool in POOLS}


@cache
def shipped_examples(name: str) -> tuple[Example, ...]:
    """Return the examples of `captions/examples/{name}.txt`."""
    file = files("synclr_hf.captions") / "examples" / f"{name}.txt"
    return parse_examples(f"{name}.txt", file.read_text(encoding="utf-8"))


@cache
def shipped_pools() -> dict[str, tuple[Example, ...]]:
    """Return the pools that ship, read once."""
    return load_pools()


def pools_fingerprint(pools: Pools) -> str:
    """Return a checksum of all examples: with other ones, other captions are written."""
    lines = [f"{name}\t{example}" for name in sorted(pools) for example in pools[name]]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def build_prompt(wanted: ConceptPrompt, seed: int, pools: Pools | None = None) -> Prompt:
    """Write the prompt for one caption, with three different examples drawn from the pool that suits it.

    Args:
        wanted: what the caption shall be about; a scene or a texture has a pool of its own.
        seed: decides which examples are drawn.
        pools: from `load_pools`; `None`: those that ship.
    """
    concept, template = wanted.concept, wanted.template
    pool = template if template != "concept" or concept.kind == "object" else concept.kind
    examples = draw_examples((shipped_pools() if pools is None else pools)[pool], seed)
    query = concept.name
    if wanted.background:
        query = f"{query}, {wanted.background}"
    if wanted.relation:
        query = f"{query}, {wanted.relation}"
    return write_prompt(query, examples)


def write_prompt(query: str, examples: tuple[Example, Example, Example]) -> Prompt:
    """Put three examples and a query line together."""
    first, second, third = examples
    return Prompt(f"{first.line}\n{second.line}\n{third.line}\n{query} {ARROW}", query, examples)


def draw_examples(pool: tuple[Example, ...], seed: int) -> tuple[Example, Example, Example]:
    """Draw three different examples; every ordered choice is as likely as any other.

    This is `Random(seed).sample(pool, 3)` for a tenth of its price: the seed is mixed as in splitmix64 and read as
    three digits.
    """
    mixed = (seed + 1) * 0x9E3779B97F4A7C15 & _MASK
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    mixed ^= mixed >> 27
    size = len(pool)
    mixed, first = divmod(mixed, size)
    mixed, second = divmod(mixed, size - 1)
    third = mixed % (size - 2)
    # places among what is left, counted past what is taken
    second += second >= first
    low, high = (first, second) if first < second else (second, first)
    third += third >= low
    third += third >= high
    return pool[first], pool[second], pool[third]


def parse_examples(where: str, text: str) -> tuple[Example, ...]:
    """Read the lines of an example file.

    Args:
        where: the file, as the user knows it.
        text: what it holds.

    Raises:
        UserInputError: a line of another form, or fewer than three examples.
    """
    found: dict[str, Example] = {}
    for number, line in numbered_lines(text):
        check_characters(line, f"'{where}' line {number}")
        query, _, caption = (part.strip() for part in line.partition(ARROW))
        if not query or not caption or ARROW in caption:
            raise UserInputError(f"'{where}' line {number}: '{line[:60]}' is not {_FORM}; write one example a line")
        example = Example(query, caption)
        found.setdefault(example.line, example)
    if len(found) < NUM_EXAMPLES:
        raise UserInputError(
            f"'{where}' holds {len(found)} different examples; needed: {NUM_EXAMPLES} or more lines {_FORM}; "
            "add some, or delete the file to use the examples that ship"
        )
    return tuple(found.values())


def _check_folder(folder: Path) -> None:
    allowed = [f"{pool}.txt" for pool in POOLS]
    fix = f"type a folder with files of the names {', '.join(allowed)}"
    if not is_there(folder) or not folder.is_dir():
        kind = "is not a folder" if is_there(folder) else "does not exist"
        raise UserInputError(f"the examples folder '{shown_path(folder)}' {kind}; {fix}")
    names = sorted(path.name for path in folder.iterdir() if path.suffix == ".txt")
    if not names:
        raise UserInputError(f"the examples folder '{folder}' holds no .txt file; {fix}")
    for name in names:
        if name not in allowed:
            raise unknown_name(f"file in the examples folder '{folder}'", name, allowed, "one of these names for it")
