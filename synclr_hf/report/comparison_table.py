"""The table of a comparison: numbers with intervals, as Markdown and as a plot."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from synclr_hf.data.cards import code, table
from synclr_hf.data.plots import interval_plot

TOY_WORDS = "Toy pictures: these numbers say that the street works, and are not to be compared with any others."
PAPER = " (paper)"
"""Behind the name of a model whose numbers are printed in the paper."""


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        value: fraction in [0, 1].
        interval: (low, high), or `None` where it is not known.
        from_paper: printed in the paper, not measured.
        num_seeds: of how many seeds it is the mean.
    """

    value: float
    interval: tuple[float, float] | None = None
    from_paper: bool = False
    num_seeds: int = 1

    def text(self) -> str:
        """Return it in per cent."""
        between = "" if self.interval is None else " [{:.1f}, {:.1f}]".format(*(100 * end for end in self.interval))
        return f"{100 * self.value:.1f}{between}"


@dataclass
class Comparison:
    """A table whose rows are data sets with a protocol and whose columns are encoders.

    Attributes:
        is_toy: whether the pictures are toy pictures.
        rows: row -> encoder -> number.
        notes: what a reader must know, one line each.
    """

    is_toy: bool
    rows: dict[str, dict[str, Cell]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The encoders, those of the paper last."""
        names = dict.fromkeys(name for cells in self.rows.values() for name in cells)
        return sorted(names, key=lambda name: name.endswith(PAPER))

    def markdown(self) -> str:
        """Return the table with its notes."""
        rows = [
            [name, *(cells[column].text() if column in cells else "" for column in self.columns)]
            for name, cells in self.rows.items()
        ]
        heads = [code(name) if not name.endswith(PAPER) else name for name in self.columns]
        words = "Per cent [95 % interval]."
        head = f"{TOY_WORDS} {words}" if self.is_toy else words
        notes = "".join(f"\n- {note}" for note in self.notes)
        return f"{head}\n\n{table(['', *heads], rows, heads)}\n{notes}".rstrip() + "\n"

    def picture(self) -> bytes:
        """Return the table as a plot, a PNG."""
        short = {name.partition(" (")[0] for name in self.rows}
        rows = [
            (
                name.partition(" (")[0] if len(short) == len(self.rows) else name,
                [(one, 100 * cell.value, _percent(cell.interval), cell.from_paper) for one, cell in cells.items()],
            )
            for name, cells in self.rows.items()
        ]
        return interval_plot(rows, axis="per cent (toy pictures)" if self.is_toy else "per cent")


def short_text(value: object) -> str:
    """Return a plain value as a short text."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _percent(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (100 * interval[0], 100 * interval[1])
