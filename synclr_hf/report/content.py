"""What a report shows, as plain values: no model and no data set in here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL.Image import Image


@dataclass(frozen=True)
class CaptionPictures:
    """A caption and the pictures drawn of it, and what is told about them beside the concept."""

    caption: str
    concept: str
    pictures: Sequence[Image]
    note: str = ""


@dataclass(frozen=True)
class Neighbour:
    """A labelled picture near a query.

    Attributes:
        picture: the picture.
        label: its class.
        similarity: cosine of its features with the query's, in [-1, 1].
        is_right: whether it has the query's class.
    """

    picture: Image
    label: str
    similarity: float
    is_right: bool


@dataclass(frozen=True)
class NeighbourRow:
    """A query picture, its class and its nearest neighbours, best first."""

    picture: Image
    label: str
    neighbours: Sequence[Neighbour]


@dataclass(frozen=True)
class FeatureMaps:
    """Pictures above the colours of their patch features.

    Attributes:
        pictures: N pictures.
        labels: what each shows.
        maps: encoder name -> (N, h, w, 3) float in [0, 1].
        explained: encoder name -> share of the variance that the three colours hold, in [0, 1].
    """

    pictures: Sequence[Image]
    labels: Sequence[str]
    maps: Mapping[str, np.ndarray]
    explained: Mapping[str, float]


@dataclass(frozen=True)
class ReportContent:
    """Everything on the page.

    Attributes:
        facts: the numbers of the run, as in `report.json`; see `synclr_hf.report.stage.check_facts`.
        captions: examples of the data that was learned from.
        history: the Trainer's log, one dict an entry, each with `step`.
        neighbours: queries with their neighbours.
        feature_maps: PCA maps, or `None`.
    """

    facts: Mapping[str, Any]
    captions: Sequence[CaptionPictures] = ()
    history: Sequence[Mapping[str, Any]] = ()
    neighbours: Sequence[NeighbourRow] = ()
    feature_maps: FeatureMaps | None = field(default=None)
