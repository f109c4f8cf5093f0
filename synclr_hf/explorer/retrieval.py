"""Which pictures of the index look alike to the encoder: by a picture, by a row of the index, by two pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from synclr_hf.errors import UserInputError, unknown_name

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from synclr_hf.explorer.index.opened import PictureIndex
    from synclr_hf.explorer.queries import Combination
    from synclr_hf.explorer.session import Explorer

MOST_RESULTS = 100
"""Pictures of one answer."""


@dataclass(frozen=True)
class FoundPicture:
    """A picture that was found.

    Attributes:
        row: its place in the index.
        similarity: cosine of its feature and the query's, in [-1, 1].
        caption: what it was drawn from; empty where none is known.
        concept: what the caption is about; empty where none is known.
        same_caption: whether it was drawn from the same caption as the query.
    """

    row: int
    similarity: float
    caption: str
    concept: str
    same_caption: bool = False

    @property
    def words(self) -> str:
        """What stands below it: similarity, concept, caption."""
        known = [part for part in (self.concept, self.caption) if part]
        told = f"{self.similarity:.2f}" + (" (same caption)" if self.same_caption else "")
        return ", ".join([told, *known])

    def told(self) -> dict[str, Any]:
        """Return it as plain values, the similarity with four digits."""
        return {**asdict(self), "similarity": round(self.similarity, 4)}


def search_picture(
    explorer: Explorer, picture: Image.Image, count: int = 12, concepts: Sequence[str] = (), *, encoder: int = 0
) -> list[FoundPicture]:
    """Return the pictures of the index that are nearest to a picture, best first.

    Args:
        explorer: what is loaded.
        picture: RGB, any size.
        count: 1 to `MOST_RESULTS`.
        concepts: look among pictures of these concepts only; default: all.
        encoder: number of the encoder that looks.

    Raises:
        UserInputError: nothing is loaded, or a setting cannot be used.
    """
    return _found(explorer, _query(explorer, picture, encoder), count, concepts, encoder=encoder)


def search_row(
    explorer: Explorer, row: int, count: int = 12, concepts: Sequence[str] = (), *, encoder: int = 0
) -> list[FoundPicture]:
    """Return the pictures of the index that are nearest to one of its own, which is left out itself.

    Its stored feature is the query. Pictures of the same caption stay, and are marked.
    """
    index = explorer.index
    check_row(index, row)
    query = index.embedding(row, encoder)
    return _found(explorer, query, count, concepts, encoder=encoder, own=row)


def search_pair(
    explorer: Explorer,
    first: Image.Image,
    second: Image.Image,
    how: Combination = "mean",
    count: int = 12,
    concepts: Sequence[str] = (),
) -> list[FoundPicture]:
    """Return the pictures nearest to what two pictures have in common (`mean`), or to the first without the second."""
    from synclr_hf.explorer.queries import combined

    queries = [_query(explorer, picture, 0) for picture in (first, second)]
    return _found(explorer, combined(*queries, how), count, concepts)


def check_row(index: PictureIndex, row: int | None) -> None:
    """Refuse what is no row of the index."""
    if row is None or not 0 <= row < len(index):
        raise UserInputError(f"there is no picture {row} in '{index.name}'; allowed: 0 to {len(index) - 1}; type 0")


def rows_among(index: PictureIndex, concepts: Sequence[str]) -> np.ndarray | None:
    """Return the rows of some concepts, ascending; `None` where no concept is named: all rows.

    Raises:
        UserInputError: the index has no such concept.
    """
    if not concepts:
        return None
    for concept in concepts:
        if concept not in index.concept_set:
            raise unknown_name("concept", concept, index.concepts[:20], "one of those in the list")
    return index.rows_of_concepts(concepts)


def _query(explorer: Explorer, picture: Image.Image, encoder: int) -> Tensor:
    from synclr_hf.explorer.queries import picture_queries

    explorer.index  # noqa: B018 - without an index there is nothing to look for
    model = explorer.encoder(encoder)
    with explorer.computing:
        return picture_queries(model, [picture])[0]


def _found(
    explorer: Explorer, query: Tensor, count: int, concepts: Sequence[str], *, encoder: int = 0, own: int | None = None
) -> list[FoundPicture]:
    from synclr_hf.explorer.search import nearest

    index = explorer.index
    if not 1 <= count <= MOST_RESULTS:
        raise UserInputError(f"{count} results cannot be shown; allowed: 1 to {MOST_RESULTS}; type 12")
    excluded = () if own is None else (own,)
    rows = rows_among(index, concepts)
    (hits,) = nearest(index, query[None], int(count), encoder=encoder, rows=rows, excluded=excluded)
    caption_id = None if own is None else index.picture(own).caption_id
    found = []
    for hit in hits:
        picture = index.picture(hit.row)
        same = own is not None and index.has_captions and picture.caption_id == caption_id
        found.append(FoundPicture(hit.row, hit.similarity, picture.caption, picture.concept, same))
    return found
