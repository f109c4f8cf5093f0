"""What an index says of itself: which encoders see its pictures, and where the pictures come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from synclr_hf.errors import UserInputError

FACTS_FILE = "index.json"
"""Lies at the root of an index."""
CARDS_FOLDER = "cards"
"""Holds the cards of the sets that the pictures are from."""
FAISS_FILE = "faiss/embedding.faiss"
"""A prepared FAISS index of the first encoder, where one was asked for."""
_KIND, _VERSION = "synclr_hf picture index", 1


@dataclass(frozen=True)
class IndexedEncoder:
    """One encoder of an index.

    Attributes:
        name: what it is called: a Hub id, the last part of a folder's path, `untrained:` before one of these, or
            `pixels`. Runs are moved and published, so which one it is, is told by `fingerprint` and never by the name.
        column: of its features in the rows.
        width: D, length of a feature.
        fingerprint: checksum of weights and settings, `Encoder.fingerprint` in float32.
        settings: what decides the features beside the weights, `Encoder.settings()`.
    """

    name: str
    column: str
    width: int
    fingerprint: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class IndexFacts:
    """What an index says of itself.

    Attributes:
        encoders: whose features it holds; the first is the one that is shown.
        num_pictures: rows of the index.
        images: name of the pictures' data set: a Hub id, or the last part of a folder's path.
        is_toy: whether the toy world drew the pictures.
        thumbnail_size: longest side of a stored picture in pixels.
        faiss: `factory` and `recall_at_10` (share of the exact ten nearest that it finds) of a prepared FAISS index.
    """

    encoders: tuple[IndexedEncoder, ...]
    num_pictures: int
    images: str = ""
    is_toy: bool = False
    thumbnail_size: int = 224
    faiss: Mapping[str, Any] | None = None

    def save(self, folder: str | Path) -> None:
        """Write them into the folder of an index."""
        told = {"kind": _KIND, "version": _VERSION, **asdict(self)}
        Path(folder, FACTS_FILE).write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: str | Path, where: str) -> IndexFacts:
        """Read what `save` wrote.

        Args:
            file: the file.
            where: name of the index, for the errors.

        Raises:
            UserInputError: there is no such file, it is something else, or a newer version wrote it.
        """
        try:
            told = json.loads(Path(file).read_text(encoding="utf-8"))
            if told.pop("kind") != _KIND:
                raise KeyError(_KIND)
            version = told.pop("version")
            if version == _VERSION:
                encoders = tuple(IndexedEncoder(**one) for one in told.pop("encoders"))
                return cls(encoders=encoders, **told)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserInputError(
                f"'{where}' is no index of pictures ({FACTS_FILE} is missing or is something else); make one: type "
                "synclr index --model MODEL --images IMAGES --output-dir FOLDER"
            ) from error
        raise UserInputError(
            f"'{where}' was made by another version of synclr_hf (index version {version}); make it anew"
        )
