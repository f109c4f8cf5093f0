"""What two encoders of an index find for the same query, told so that nobody compares what cannot be compared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from synclr_hf.errors import UserInputError, unknown_name
from synclr_hf.evaluation.neighbours import first_largest
from synclr_hf.explorer.index.opened import NO_CAPTION
from synclr_hf.explorer.index.stage import PIXELS, UNTRAINED
from synclr_hf.explorer.retrieval import check_row
from synclr_hf.explorer.search import similarities

if TYPE_CHECKING:
    from synclr_hf.explorer.index.opened import PictureIndex
    from synclr_hf.explorer.session import Explorer

MOST_SHOWN = 48
"""Pictures of each encoder."""


@dataclass(frozen=True)
class ComparedHit:
    """A picture that one encoder found.

    Attributes:
        row: its place in the index.
        rank: counted from 1; of equals the smaller row comes first.
        similarity: cosine of its feature and the query's, in [-1, 1], on this encoder's own scale.
        percentile: share of the index's pictures that are less similar to the query, in [0, 100].
        rank_of_other: which place the other encoder gives it.
        is_shared: whether it is among the other's found ones, too.
        is_sibling: whether it was made from the query's caption.
        caption: its caption.
        concept: its concept.
    """

    row: int
    rank: int
    similarity: float
    percentile: float
    rank_of_other: int
    is_shared: bool
    is_sibling: bool
    caption: str
    concept: str


@dataclass(frozen=True)
class ConceptShare:
    """How many of the found pictures show the concept of a query that is itself in the index.

    Pictures of the query's own caption are counted apart: they are found by what they share beside the concept.

    Attributes:
        concept: the query's.
        siblings: found pictures of the query's own caption.
        others: found pictures of other captions.
        same: those of `others` that show the concept.
        chance: share of the concept among all pictures of other captions: what a blind choice gives, in [0, 1].
    """

    concept: str
    siblings: int
    others: int
    same: int
    chance: float


@dataclass(frozen=True)
class EncoderAnswer:
    """What one encoder found.

    Attributes:
        encoder: its name in the index.
        hits: the nearest pictures, best first.
        median: of the similarities of all pictures to the query.
        concept: `None` where the query has no known concept.
    """

    encoder: str
    hits: tuple[ComparedHit, ...]
    median: float
    concept: ConceptShare | None


@dataclass(frozen=True)
class Comparison:
    """The answers of two encoders to one query.

    Attributes:
        answers: of the first and of the second.
        shared: pictures that both have among theirs.
        searched: pictures that were looked through (a query of the index is left out).
        row: of the query, where it is a picture of the index.
    """

    answers: tuple[EncoderAnswer, EncoderAnswer]
    shared: int
    searched: int
    row: int | None

    def plain(self) -> dict[str, Any]:
        """Return it as plain values, for code."""
        return asdict(self)


def two_encoders(index: PictureIndex, first: str, second: str) -> tuple[int, int]:
    """Return the numbers of two encoders by their names.

    Raises:
        UserInputError: the index has only one encoder, a name is unknown, or both are the same.
    """
    names = [one.name for one in index.facts.encoders]
    if len(names) < 2:
        raise UserInputError(one_encoder_words(index))
    for name in (first, second):
        if name not in names:
            raise unknown_name("encoder", name, names, "one of these")
    numbers = names.index(first), names.index(second)
    if numbers[0] == numbers[1]:
        raise UserInputError(f"both sides are '{first}'; choose two different encoders of {', '.join(names)}")
    return numbers


def one_encoder_words(index: PictureIndex) -> str:
    """Return what to do where an index has a single encoder, one line."""
    name = index.facts.encoders[0].name
    return (
        f"this index holds one encoder, '{name}', and comparing needs two; build it with another: type "
        f"synclr index --model {name} --model untrained:{name} --images IMAGES --output-dir FOLDER"
    )


def told_name(name: str) -> str:
    """Return the name of an encoder, with a plain word where it has learnt nothing."""
    if name.startswith(UNTRAINED):
        return f"{name} (untrained: random weights, it has learnt nothing)"
    return f"{name} (raw pixels, no model)" if name == PIXELS else name


def random_row(index: PictureIndex, visitor: str, press: int) -> int:
    """Return a row of the index: always the same for the same visitor and the same number of presses."""
    _check_filled(index)
    return Random(f"{visitor}/{press}").randrange(len(index))


def compare_row(index: PictureIndex, row: int, encoders: tuple[int, int], count: int) -> Comparison:
    """Compare on a picture of the index, which is itself left out; no model runs.

    Raises:
        UserInputError: there is no such row, or `count` is not allowed.
    """
    _check_filled(index)
    check_row(index, row)
    return compare(index, [index.embedding(row, number) for number in encoders], encoders, count, row=row)


def compare_picture(explorer: Explorer, picture: Any, encoders: tuple[int, int], count: int) -> Comparison:
    """Compare on any picture; both encoders describe it, one after the other.

    Args:
        explorer: index and encoders.
        picture: an opened picture.
        encoders: numbers of the two.
        count: pictures of each.
    """
    from synclr_hf.explorer.queries import picture_queries

    models = [explorer.encoder(number) for number in encoders]  # waits for them, before others have to wait for us
    with explorer.computing:
        queries = [picture_queries(model, [picture])[0] for model in models]
    return compare(explorer.index, queries, encoders, count)


@torch.inference_mode()
def compare(
    index: PictureIndex,
    queries: list[Tensor],
    encoders: tuple[int, int],
    count: int,
    *,
    row: int | None = None,
) -> Comparison:
    """Return what two encoders find nearest to one query.

    Args:
        index: where to look.
        queries: the query as each of the two sees it, (D,) each, any scale.
        encoders: their numbers in the index.
        count: pictures of each, 1 to `MOST_SHOWN`; fewer where the index has fewer.
        row: of the query, where it is a picture of the index: it is left out.

    Raises:
        UserInputError: `count` is not allowed, or nothing is there to be found.
    """
    _check_filled(index)
    if not 1 <= count <= MOST_SHOWN:
        raise UserInputError(f"the number of pictures is {count}; choose one from 1 to {MOST_SHOWN}")
    candidates = torch.arange(len(index))
    if row is not None:
        candidates = candidates[candidates != row]
        if len(candidates) == 0:
            raise UserInputError("this index holds nothing but the query; build one with more pictures")
    both = [
        similarities(index, F.normalize(query.float(), dim=0)[None], number)[0, candidates].clamp(-1, 1)
        for query, number in zip(queries, encoders, strict=True)
    ]
    found = [first_largest(values[None], count)[1][0] for values in both]
    shared = set(found[0].tolist()) & set(found[1].tolist())
    siblings = set() if row is None else _siblings(index, row)
    answers = []
    for side, number in enumerate(encoders):
        values, others = both[side], both[1 - side]
        hits = []
        for rank, place in enumerate(found[side].tolist(), start=1):
            picture = index.picture(int(candidates[place]))
            hits.append(
                ComparedHit(
                    row=picture.row,
                    rank=rank,
                    similarity=float(values[place]),
                    percentile=100 * float((values < values[place]).double().mean()),
                    rank_of_other=_rank(others, place),
                    is_shared=place in shared,
                    is_sibling=picture.row in siblings,
                    caption=picture.caption,
                    concept=picture.concept,
                )
            )
        concept = None if row is None else _concept_share(index, row, siblings, hits)
        name = index.facts.encoders[number].name
        answers.append(EncoderAnswer(name, tuple(hits), float(values.median()), concept))
    return Comparison((answers[0], answers[1]), len(shared), len(candidates), row)


def _check_filled(index: PictureIndex) -> None:
    if len(index) == 0:
        raise UserInputError(f"the index '{index.name}' has no pictures; build one with some: type synclr index")


def _rank(values: Tensor, place: int) -> int:
    """Return the place of an entry among all, from 1, the largest first; of equals the earlier one."""
    return 1 + int((values > values[place]).sum()) + int((values[:place] == values[place]).sum())


def _siblings(index: PictureIndex, row: int) -> set[int]:
    """Return the other rows of a row's caption."""
    caption_id = index.picture(row).caption_id
    if caption_id == NO_CAPTION:
        return set()
    return set(np.flatnonzero(index.table.column("caption_id").to_numpy() == caption_id).tolist()) - {row}


def _concept_share(index: PictureIndex, row: int, siblings: set[int], hits: list[ComparedHit]) -> ConceptShare | None:
    concept = index.picture(row).concept
    own = siblings | {row}
    possible = len(index) - len(own)
    if not concept or possible == 0:
        return None
    others = [hit for hit in hits if not hit.is_sibling]
    same = sum(hit.concept == concept for hit in others)
    with_concept = len(set(index.rows_of_concepts([concept]).tolist()) - own)
    return ConceptShare(concept, len(hits) - len(others), len(others), same, with_concept / possible)
