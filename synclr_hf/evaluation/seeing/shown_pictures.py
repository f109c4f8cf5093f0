"""Pictures to look at: from a folder of files, from files, or from a data set, with what is known about each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synclr_hf.data.pictures import Picture
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.data import TEST_SPLITS
from synclr_hf.evaluation.labelled.label_columns import PictureColumn, has_label_column, image_column, label_column
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.evaluation.labelled.stored_sets import is_images_set, load_splits

if TYPE_CHECKING:
    from datasets import Dataset

PICTURE_ENDINGS = frozenset(".jpg .jpeg .png .webp .bmp .gif .tif .tiff .ppm .pgm .jp2 .avif".split())
_DATA_SET_FILES = ("*.parquet", "*.arrow", "*.tar", "*.zip", "metadata.csv", "metadata.jsonl")
_CAPTION_COLUMNS = ("caption", "text", "captions")
_NO_CLASS = ""


@dataclass(frozen=True)
class Origin:
    """Where the pictures of an images set come from: a caption with all its pictures is one of its rows.

    Attributes:
        rows: the set.
        own: (N,) int64, the row of each picture.
        places: (N,) int64, which of the row's pictures it is, counted from 0.
    """

    rows: Dataset
    own: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class ShownPictures:
    """Pictures of any source.

    Attributes:
        data: the pictures, still encoded; without classes all labels are 0 and `label_names` is `("",)`.
        texts: what is known about each: its class, else its caption, else the name of its file, else nothing.
        origin: where the pictures of an images set come from; `None` for others, and for chosen rows.
        fingerprint: of the data set that they are; empty for picture files.
        captions: the caption of each, where a data set has captions beside its classes.
    """

    data: LabelledImages
    texts: Sequence[str]
    origin: Origin | None = None
    fingerprint: str = ""
    captions: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.data)

    @property
    def has_classes(self) -> bool:
        """Whether classes tell the pictures apart."""
        return len(self.data.label_names) > 1

    def rows(self, rows: Sequence[int]) -> ShownPictures:
        """Return the chosen rows, in the given order."""
        return ShownPictures(self.data.rows(rows), [self.texts[row] for row in rows])


def shown_pictures(sources: Sequence[str], *, split: str | None = None, option: str = "--images") -> ShownPictures:
    """Find pictures; nothing is decoded.

    Args:
        sources: picture files and folders of them, or one data set: a folder that `datasets.load_dataset` reads, a
            folder that our images stage wrote, a name on the Hub. Where all pictures of a folder lie in subfolders,
            the subfolders are their classes.
        split: of a data set; default: the test side if there is one, else the first split.
        option: the option that names the sources, for the errors.

    Raises:
        UserInputError: nothing is there, or something without pictures.
    """
    paths = [Path(source).expanduser() for source in sources]
    are_pictures = [path.is_file() or (path.is_dir() and not _is_data_set(path)) for path in paths]
    if all(are_pictures):
        if split is not None:
            raise UserInputError(f"--split '{split}' is for a data set; {option} names plain pictures; leave it out")
        return _of_files(paths, option)
    if len(paths) > 1:
        odd = sources[are_pictures.index(False)]
        raise UserInputError(
            f"{option} '{odd}' is neither a picture nor a folder of pictures; allowed: any number of these, or one "
            f"data set alone; type {option} {odd}"
        )
    splits = load_splits(sources[0], option)
    if split is not None and split not in splits:
        raise UserInputError(f"'{sources[0]}' has no split '{split}'; it has {', '.join(splits)}; type --split NAME")
    default = next((name for name in TEST_SPLITS if name in splits), next(iter(splits)))
    return _of_data_set(splits[split or default], sources[0])


def in_turns(classes: Sequence[Any], seed: int) -> list[int]:
    """Order rows at random so that no class comes again before every other one that is left."""
    order = np.random.default_rng(seed).permutation(len(classes)).tolist()
    seen: dict[Any, int] = {}
    turn = {}
    for row in order:
        turn[row] = seen.get(classes[row], 0)
        seen[classes[row]] = turn[row] + 1
    return sorted(order, key=turn.__getitem__)


def _is_data_set(folder: Path) -> bool:
    return any(next(folder.rglob(pattern), None) is not None for pattern in _DATA_SET_FILES)


def _of_files(paths: Sequence[Path], option: str) -> ShownPictures:
    files: list[Path] = []
    classes: list[str] = []
    for path in paths:
        found = [path] if path.is_file() else sorted(_pictures_below(path))
        files += found
        classes += [_NO_CLASS if file.parent == path or file == path else file.parent.name for file in found]
    if not files:
        raise UserInputError(
            f"there are no pictures in '{paths[0]}'; needed: files that end in {', '.join(sorted(PICTURE_ENDINGS))}; "
            f"type {option} FOLDER, {option} FILE FILE ... or {option} ORG/NAME"
        )
    known = _NO_CLASS not in classes and len(set(classes)) > 1
    return _shown([str(file) for file in files], classes if known else None, [file.stem for file in files])


def _pictures_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_ENDINGS and path.is_file()]


def _of_data_set(rows: Dataset, source: str) -> ShownPictures:
    storage, plain = rows.with_format("arrow"), rows.with_format(None)
    if is_images_set(rows):
        import pyarrow.compute as pc

        counts = pc.list_value_length(storage[:]["images"]).fill_null(0).to_numpy()
        own = np.repeat(np.arange(len(rows)), counts)
        places = np.concatenate([np.arange(count) for count in counts])
        concepts = ["" if name is None else name for name in plain["concept"][:]]
        captions = plain["caption"][:] if "caption" in rows.column_names else [""] * len(rows)
        pictures = PictureColumn(storage, "images", own, places)
        shown = _shown(pictures, [concepts[row] for row in own], [captions[row] or "" for row in own])
        return replace(shown, origin=Origin(rows, own, places), fingerprint=rows._fingerprint)
    pictures = PictureColumn(storage, image_column(rows, source), np.arange(len(rows)))
    captions = next((name for name in _CAPTION_COLUMNS if name in rows.column_names), None)
    texts = [text if isinstance(text, str) else "" for text in plain[captions][:]] if captions else [""] * len(rows)
    shown = _shown(pictures, _classes(rows, source), texts)
    return replace(shown, fingerprint=rows._fingerprint, captions=texts if captions else None)


def _classes(rows: Dataset, source: str) -> list[str] | None:
    """Return the class of each row as a word; an empty one where it is not told."""
    from datasets import ClassLabel

    if not has_label_column(rows):
        return None
    column = label_column(rows, source)
    values, feature = rows.with_format(None)[column][:], rows.features[column]
    if isinstance(feature, ClassLabel):
        return [_NO_CLASS if value is None or value < 0 else feature.int2str(value) for value in values]
    return [_NO_CLASS if value is None else str(value) for value in values]


def _shown(pictures: Sequence[Picture], classes: Sequence[str] | None, texts: Sequence[str]) -> ShownPictures:
    names = sorted(set(classes)) if classes is not None else [_NO_CLASS]
    numbers = {name: number for number, name in enumerate(names)}
    labels = (
        np.zeros(len(texts), dtype=np.int64) if classes is None else np.asarray([numbers[name] for name in classes])
    )
    words = texts if classes is None else [name or text for name, text in zip(classes, texts, strict=True)]
    data = LabelledImages(pictures, labels.astype(np.int64), tuple(names), np.arange(len(texts)), fingerprint="")
    return ShownPictures(data, words)
