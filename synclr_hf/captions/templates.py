"""Prompts: three in-context examples and a query line that the language model completes (paper, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random

from synclr_hf.concepts.mixture import TEMPLATE_SHARES, ConceptPrompt

ARROW = "=>"
NUM_EXAMPLES = 3


@dataclass(frozen=True)
class Example:
    """One line of an example file.

    Attributes:
        query: what stands in front of the arrow: the concept, and for two of the templates the second field.
        caption: the sentence behind it.
    """

    query: str
    caption: str

    def __str__(self) -> str:
        return f"{self.query} {ARROW} {self.caption}"


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


@cache
def load_examples(template: str) -> tuple[Example, ...]:
    """Read the example pool of a template, `captions/examples/{template}.txt`.

    Args:
        template: `concept`, `background` or `relation`.

    Raises:
        ValueError: no such template, or a line that is not `query => caption`.
    """
    if template not in TEMPLATE_SHARES:
        raise ValueError(f"template is '{template}', not one of {', '.join(TEMPLATE_SHARES)}")
    text = (files("synclr_hf.captions") / "examples" / f"{template}.txt").read_text(encoding="utf-8")
    examples = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        query, arrow, caption = line.partition(f" {ARROW} ")
        if not arrow or not caption.strip():
            raise ValueError(f"line '{line}' of the {template} examples is not 'query {ARROW} caption'")
        examples.append(Example(query.strip(), caption.strip()))
    return tuple(examples)


def build_prompt(wanted: ConceptPrompt, seed: int) -> Prompt:
    """Write the prompt for one caption, with three different examples drawn from the template's pool.

    Args:
        wanted: what the caption shall be about.
        seed: decides which examples are drawn.
    """
    examples = tuple(Random(seed).sample(load_examples(wanted.template), NUM_EXAMPLES))
    query = ", ".join(part for part in (wanted.concept.name, wanted.background, wanted.relation) if part)
    lines = [*(str(example) for example in examples), f"{query} {ARROW}"]
    return Prompt("\n".join(lines), query, examples)
