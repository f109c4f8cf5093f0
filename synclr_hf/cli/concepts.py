"""`synclr concepts`: show what a bank or a mixture of concepts will ask for, before it costs anything."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import islice
from textwrap import shorten

from synclr_hf.cli.options import count_option
from synclr_hf.concepts.backgrounds import BACKGROUND_DOMAINS, with_backgrounds
from synclr_hf.concepts.banks import CONCEPT_BANKS, load_bank
from synclr_hf.concepts.mixture import ConceptPrompt
from synclr_hf.concepts.mixture_report import SourceRow, draw_prompts, mixture_report
from synclr_hf.data.checks import check_integer

EXAMPLES = 10
_NAMES_WIDTH = 60
_HEADING = ("source", "concepts", "wanted", "drawn", "plain", "relation", "background", "no list", "drawn most")


def main(arguments: Sequence[str]) -> None:
    """Parse the options, draw prompts and print their shares by source, and some of them."""
    parser = argparse.ArgumentParser(prog="synclr concepts", description=__doc__)
    banks = ", ".join(CONCEPT_BANKS)
    parser.add_argument(
        "concepts", help=f"{banks}; FILE.txt, FILE.csv, MIXTURE.yaml, or hub:ORG/NAME[/CONFIG][:COLUMN]"
    )
    domains = ", ".join(BACKGROUND_DOMAINS)
    parser.add_argument("--backgrounds", help=f"places: {domains}; FILE.txt, or what synclr backgrounds wrote")
    parser.add_argument("--draws", type=count_option, default=100_000, help="prompts drawn (default: 100000)")
    parser.add_argument("--seed", type=int, default=0, help="decides which (default: 0)")
    options = parser.parse_args(arguments)
    check_integer("--draws", options.draws, minimum=1, example=100_000)
    check_integer("--seed", options.seed, minimum=0, example=0)
    bank = load_bank(options.concepts)
    concepts = with_backgrounds(bank.concepts, options.backgrounds) if options.backgrounds else bank.concepts
    print(_table(mixture_report(concepts, options.draws, options.seed)))
    for source, count in bank.dropped.items():
        print(f"\n{source}: names left out, as they come again or cannot be used: {count:,}")
    print(
        f"\nno list: objects without places (--backgrounds or a column domain gives them); their share of the "
        "background template goes to the other two\n\n"
        f"the first of {options.draws:,} prompts:"
    )
    for prompt in islice(draw_prompts(concepts, options.draws, options.seed), EXAMPLES):
        print(f"  {_query(prompt)}  [{prompt.concept.source}]")


def _query(prompt: ConceptPrompt) -> str:
    return ", ".join(part for part in (prompt.concept.name, prompt.background, prompt.relation) if part)


def _table(rows: Sequence[SourceRow]) -> str:
    cells = [_HEADING, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADING))]
    return "\n".join(_line(line, widths) for line in cells)


def _cells(row: SourceRow) -> tuple[str, ...]:
    templates = (f"{share:.1%}" for share in row.templates.values()) if row.templates else ("-",) * 3
    names = shorten(", ".join(name for name, _ in row.most_drawn), width=_NAMES_WIDTH, placeholder=" ...")
    return (
        row.source,
        f"{row.concepts:,}",
        f"{row.wanted:.2%}",
        f"{row.drawn:.2%}",
        *templates,
        f"{row.without_backgrounds:.1%}",
        names,
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *numbers, last = (
        cell.ljust(width) if place in (0, len(cells) - 1) else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join((first, *numbers, last)).rstrip()
