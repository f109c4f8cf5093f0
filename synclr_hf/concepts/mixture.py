"""Which concept and which template the next caption gets."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from synclr_hf.concepts.concept import Concept

RELATIONS = ("in", "on", "next to", "behind", "in front of", "over", "under", "above", "below", "besides")
"""Paper, section 3.1 and appendix A."""

TEMPLATE_SHARES = {"concept": 0.44, "relation": 0.11, "background": 0.45}
"""Shares of the templates among the prompts of an object (the authors' reference code)."""


@dataclass(frozen=True)
class ConceptPrompt:
    """What one caption shall be about.

    Attributes:
        concept: the thing.
        template: `concept`, `background` or `relation`.
        background: one of the concept's backgrounds if the template is `background`.
        relation: one of `RELATIONS` if the template is `relation`.
        without_list: the background template was drawn first, and redrawn because the concept lists no backgrounds.
    """

    concept: Concept
    template: str
    background: str | None = None
    relation: str | None = None
    without_list: bool = False


class ConceptMixture:
    """Draws prompts from a bank, concepts in proportion to their weights.

    Args:
        concepts: at least one.
    """

    def __init__(self, concepts: Sequence[Concept]) -> None:
        if not concepts:
            raise ValueError("a mixture needs at least one concept")
        self.concepts = tuple(concepts)
        self._cumulative = list(accumulate(concept.weight for concept in self.concepts))

    def sample(self, seed: int) -> ConceptPrompt:
        """Draw one prompt: the same seed gives the same prompt.

        Scenes and textures take the plain template only; a concept without backgrounds shares the background
        template's part among the other two, in proportion.
        """
        random = Random(seed)
        place = bisect_right(self._cumulative, random.random() * self._cumulative[-1])
        concept = self.concepts[min(place, len(self.concepts) - 1)]
        template = "concept"
        without_list = False
        if concept.kind == "object":
            template = _draw_template(random, TEMPLATE_SHARES)
            without_list = template == "background" and not concept.backgrounds
            if without_list:
                others = {name: share for name, share in TEMPLATE_SHARES.items() if name != "background"}
                template = _draw_template(random, others)
        if template == "background":
            return ConceptPrompt(concept, template, background=_pick(random, concept.backgrounds))
        relation = _pick(random, RELATIONS) if template == "relation" else None
        return ConceptPrompt(concept, template, relation=relation, without_list=without_list)


def _draw_template(random: Random, shares: dict[str, float]) -> str:
    point = random.random() * sum(shares.values())
    for name, share in shares.items():
        point -= share
        if point < 0:
            return name
    return next(iter(shares))


def _pick(random: Random, choices: Sequence[str]) -> str:
    return choices[int(random.random() * len(choices))]
