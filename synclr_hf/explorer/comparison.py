"""Two encoders on the same query: what each finds, what both find, and what can honestly be said about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synclr_hf.errors import UserInputError
from synclr_hf.explorer.index.stage import PIXELS, UNTRAINED
from synclr_hf.explorer.retrieval import FoundPicture, check_row, search_picture, search_row

if TYPE_CHECKING:
    from PIL import Image

    from synclr_hf.explorer.session import Explorer


@dataclass(frozen=True)
class Side:
    """What one encoder says.

    Attributes:
        name: what it is called.
        found: what it finds, best first, without the query.
        of_concept: how many of those that are not of the query's caption show its concept; `None`: not known.
        others: how many of `found` are not of the query's caption.
    """

    name: str
    found: Sequence[FoundPicture]
    of_concept: int | None
    others: int

    @property
    def words(self) -> str:
        """What stands above its pictures."""
        told = f"**{self.name}**{_kind(self.name)}"
        if self.found:
            told += f": similarities {self.found[0].similarity:.2f} to {self.found[-1].similarity:.2f}"
        if self.of_concept is not None:
            told += f"; {self.of_concept} of {self.others} are of the query's concept"
        return f"{told}."


@dataclass(frozen=True)
class Comparison:
    """Two encoders on one query.

    Attributes:
        sides: what each says.
        shared: pictures that both find.
        chance: share of the index that is of the query's concept, the query's caption left out; `None`: not known.
        is_toy: whether the pictures are of the toy world.
    """

    sides: tuple[Side, Side]
    shared: int
    chance: float | None
    is_toy: bool

    @property
    def words(self) -> str:
        """What both together say, and what they do not."""
        count = max(len(side.found) for side in self.sides)
        told = f"{self.shared} of {count} pictures are found by both."
        if self.chance is not None:
            told += (
                f" By chance {self.chance:.1%} would be of the query's concept; other pictures of its own caption, "
                "marked, are not counted."
            )
        told += (
            " Similarities of two encoders have different scales and cannot be compared; the order can. One query "
            "proves nothing: `synclr evaluate` and `synclr compare` measure many."
        )
        return told + (" These are toy pictures." if self.is_toy else "")

    def told(self) -> dict[str, Any]:
        """Return it as plain values."""
        sides = [
            {
                "encoder": side.name,
                "results": [one.told() for one in side.found],
                "of_concept": side.of_concept,
                "others": side.others,
            }
            for side in self.sides
        ]
        return {"sides": sides, "shared": self.shared, "chance": self.chance, "toy": self.is_toy}


def compare(
    explorer: Explorer, query: Image.Image | int, encoders: tuple[int, int] = (0, 1), count: int = 12
) -> Comparison:
    """Let two encoders of the index find the pictures nearest to one query.

    Args:
        explorer: what is loaded.
        query: a picture, RGB, or a row of the index.
        encoders: their numbers in the index.
        count: pictures that each finds.

    Raises:
        UserInputError: the index has one encoder only, the same is named twice, or one cannot be used.
    """
    index = explorer.index
    names = [one.name for one in index.facts.encoders]
    if len(names) < 2:
        raise UserInputError(
            f"the index '{index.name}' holds one encoder; build one with two: type synclr index --model "
            f"{names[0]} --model untrained:{names[0]} --images IMAGES --output-dir FOLDER"
        )
    if encoders[0] == encoders[1]:
        raise UserInputError(f"'{names[encoders[0]]}' is on both sides; choose two encoders")
    own = chance = None
    if isinstance(query, int):
        check_row(index, query)
        own = index.picture(query)
        chance = _chance(explorer, query) if own.concept else None
    found = [
        search_row(explorer, query, count, encoder=number)
        if isinstance(query, int)
        else search_picture(explorer, query, count, encoder=number)
        for number in encoders
    ]
    sides = [
        _side(explorer.encoder_names[number], one, own.concept if own else "")
        for number, one in zip(encoders, found, strict=True)
    ]
    shared = len({one.row for one in found[0]} & {one.row for one in found[1]})
    return Comparison((sides[0], sides[1]), shared, chance, index.facts.is_toy)


def random_row(explorer: Explorer, seed: int) -> int:
    """Return a row of the index; the same seed gives the same."""
    return int(np.random.default_rng(seed).integers(len(explorer.index)))


def _side(name: str, found: Sequence[FoundPicture], concept: str) -> Side:
    others = [one for one in found if not one.same_caption]
    of_concept = sum(one.concept == concept for one in others) if concept else None
    return Side(name, found, of_concept, len(others))


def _chance(explorer: Explorer, row: int) -> float:
    """Return the share of the pictures of other captions that are of the concept of a row."""
    index = explorer.index
    picture = index.picture(row)
    of_concept = index.rows_of_concepts([picture.concept])
    if not index.has_captions:
        return (len(of_concept) - 1) / max(1, len(index) - 1)
    ids = index.table.column("caption_id").to_numpy()
    same = ids == picture.caption_id
    return float((~same[of_concept]).sum() / max(1, (~same).sum()))


def _kind(name: str) -> str:
    if name == PIXELS:
        return " (no encoder: the picture itself, 16 x 16)"
    return " (random weights)" if name.startswith(UNTRAINED) else ""
