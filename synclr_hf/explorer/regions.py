"""Search by a part of a picture: the patches most like a chosen one, among the pictures most like the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.vision_outputs import patch_size
from synclr_hf.explorer.heat_maps import Scale, common_scale, cosines, heat_map
from synclr_hf.explorer.look import Look, look
from synclr_hf.explorer.retrieval import rows_among

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from synclr_hf.explorer.session import Explorer

AMONG = 200
"""Pictures nearest to the whole query, whose patches are looked at."""
_LEAST_PATCHES = 8
"""Of the longer side of a picture: fewer are no regions."""
_AT_ONCE = 40
"""Of them, before something is shown."""


@dataclass(frozen=True)
class RegionHit:
    """A picture with the patch of it that is most like the chosen one.

    Attributes:
        row: its place in the index.
        similarity: cosine of that patch and the chosen one, in [-1, 1].
        place: row and column of that patch.
        look: the picture and its patches.
        values: (h, w) cosines of all its patches with the chosen one.
    """

    row: int
    similarity: float
    place: tuple[int, int]
    look: Look
    values: Tensor

    def drawn(self, scale: Scale) -> Image.Image:
        """Return the heat map over the picture, the best patch framed."""
        return heat_map(self.look.image, self.values, scale, marked=self.place)


@dataclass(frozen=True)
class RegionAnswer:
    """What is known so far.

    Attributes:
        hits: best first.
        scale: what the colours of the heat maps mean, the same for all.
        looked_at: pictures whose patches were looked at.
        total: pictures whose patches are to be looked at.
    """

    hits: Sequence[RegionHit]
    scale: Scale
    looked_at: int
    total: int


def query_look(explorer: Explorer, picture: Image.Image) -> Look:
    """Return the query as its patches are looked at: whole, at the size of the encoder, or larger if it has few."""
    return look(explorer, [picture], _long_side(explorer))[0]


def _long_side(explorer: Explorer) -> int:
    encoder = explorer.encoder()
    patch = patch_size(encoder.model) if encoder.model is not None else 1
    return max(encoder.image_size, _LEAST_PATCHES * patch)


def search_region(
    explorer: Explorer,
    picture: Image.Image,
    row: int,
    column: int,
    count: int = 12,
    concepts: Sequence[str] = (),
    *,
    among: int = AMONG,
) -> Iterator[RegionAnswer]:
    """Yield better and better answers: the pictures whose best patch is most like the chosen one.

    Only the `among` pictures nearest to the whole query are looked at; their thumbnails are described patch by patch,
    nearest first, and remembered, so that the next patch of the same query is answered at once.

    Args:
        explorer: what is loaded.
        picture: the query, RGB.
        row: of the patch in the query, see `query_look`.
        column: of the patch.
        count: pictures in an answer.
        concepts: look among pictures of these concepts only; default: all.
        among: pictures whose patches are looked at.

    Raises:
        UserInputError: nothing is loaded, there is no such patch, or the encoder has no patches.
    """
    from synclr_hf.explorer.queries import picture_queries
    from synclr_hf.explorer.search import nearest

    index, encoder = explorer.index, explorer.encoder()
    query = query_look(explorer, picture)
    rows, columns = query.grid
    if not (0 <= row < rows and 0 <= column < columns):
        raise UserInputError(
            f"there is no patch in row {row}, column {column}; allowed: rows 0 to {rows - 1}, columns 0 to "
            f"{columns - 1}"
        )
    with explorer.computing:
        whole = picture_queries(encoder, [picture])
    near = [hit.row for hit in nearest(index, whole, among, rows=rows_among(index, concepts))[0]]
    chosen = query.patches[row, column]
    hits: list[RegionHit] = []
    for start in range(0, len(near), _AT_ONCE):
        some = near[start : start + _AT_ONCE]
        looks = look(explorer, [index.thumbnail(number) for number in some], _long_side(explorer))
        hits += [_hit(number, one, cosines(one.patches, chosen)) for number, one in zip(some, looks, strict=True)]
        best = sorted(hits, key=lambda hit: (-hit.similarity, near.index(hit.row)))[:count]
        scale = common_scale([hit.values for hit in hits])
        yield RegionAnswer(best, scale, len(hits), len(near))


def _hit(row: int, seen: Look, values: Tensor) -> RegionHit:
    best = int(values.argmax())
    return RegionHit(row, float(values.max()), divmod(best, values.shape[1]), seen, values)
