"""What a mixture will ask for, source by source, before anything is paid for."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from synclr_hf.concepts.concept import Concept
from synclr_hf.concepts.mixture import TEMPLATE_SHARES, ConceptMixture, ConceptPrompt
from synclr_hf.data.seeds import seed_for

ALL_SOURCES = "all"
"""Source of the last row, which sums up the others."""
MOST_DRAWN = 5


@dataclass(frozen=True)
class SourceRow:
    """One line of the report. Shares are in [0, 1].

    Attributes:
        source: the bank, or `ALL_SOURCES`.
        concepts: number of its concepts.
        wanted: share of the draws that the weights give it.
        drawn: share of the draws that it got.
        templates: template -> share of its draws; empty if none was drawn.
        without_backgrounds: share of its concepts that take the background template and have no list for it.
        most_drawn: its `MOST_DRAWN` most frequent names with their numbers of draws.
    """

    source: str
    concepts: int
    wanted: float
    drawn: float
    templates: dict[str, float]
    without_backgrounds: float
    most_drawn: tuple[tuple[str, int], ...]


@dataclass
class _Tally:
    names: Counter[str] = field(default_factory=Counter)
    templates: Counter[str] = field(default_factory=Counter)


def draw_prompts(concepts: Sequence[Concept], draws: int, seed: int) -> Iterator[ConceptPrompt]:
    """Yield so many prompts of the mixture, the same ones again for the same seed."""
    mixture = ConceptMixture(concepts)
    return (mixture.sample(seed_for(seed, "mixture_report", number)) for number in range(draws))


def mixture_report(concepts: Sequence[Concept], draws: int, seed: int) -> list[SourceRow]:
    """Draw prompts and count them by source.

    Args:
        concepts: what `load_concepts` returned.
        draws: how many, at least 1.
        seed: decides which.

    Returns:
        One row a source, in the order of the concepts, and one over all.
    """
    tallies: defaultdict[str, _Tally] = defaultdict(_Tally)
    for prompt in draw_prompts(concepts, draws, seed):
        for source in (prompt.concept.source, ALL_SOURCES):
            tallies[source].names[prompt.concept.name] += 1
            tallies[source].templates[prompt.template] += 1
    members: defaultdict[str, list[Concept]] = defaultdict(list)
    for concept in concepts:
        members[concept.source].append(concept)
    total = math.fsum(concept.weight for concept in concepts)
    rows = [_row(source, members[source], tallies[source], total, draws) for source in members]
    return [*rows, _row(ALL_SOURCES, list(concepts), tallies[ALL_SOURCES], total, draws)]


def _row(source: str, concepts: list[Concept], tally: _Tally, total: float, draws: int) -> SourceRow:
    drawn = tally.templates.total()
    without = sum(concept.kind == "object" and not concept.backgrounds for concept in concepts)
    return SourceRow(
        source=source,
        concepts=len(concepts),
        wanted=math.fsum(concept.weight for concept in concepts) / total,
        drawn=drawn / draws,
        templates={name: tally.templates[name] / drawn for name in TEMPLATE_SHARES} if drawn else {},
        without_backgrounds=without / len(concepts),
        most_drawn=tuple(tally.names.most_common(MOST_DRAWN)),
    )
