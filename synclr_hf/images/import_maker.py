"""Makes image rows of pictures that were made elsewhere: makes them smaller, leaves out what is broken."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from io import BytesIO

from PIL import Image

from synclr_hf.data.pictures import open_picture
from synclr_hf.data.shards import Row, ShardTask
from synclr_hf.data.tally import Tally
from synclr_hf.data.workers import Report
from synclr_hf.errors import UserInputError
from synclr_hf.images.import_index import Entry, FoundPicture, Source

ALWAYS_ALLOWED = 20
"""Pictures that may be unreadable whatever their share: one of the first ten is no reason to stop."""

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA")
"""What is decoded; Pillow reads others by running other programs."""

_KEPT_FORMATS = ("JPEG", "WEBP")
_KEPT_MODES = ("RGB", "L")
_ORIENTATION = 0x0112
_NAMED = 3


class UnreadablePicture(ValueError):
    """A file that is missing, broken, too large, or no picture."""


@dataclass
class ImportMaker:
    """Makes the rows of a shard from the places where its pictures lie.

    Attributes:
        source: where they lie.
        size: the short side of larger pictures after they were made smaller, in pixels.
        quality: of the JPEG files that are made of pictures which cannot stay as they are.
        most: the most pictures of a caption.
        max_unreadable_share: of the pictures that a process reads, never fewer than `ALWAYS_ALLOWED`.
        left_out: what the index left out, by reason; told with the first shard.
    """

    source: Source
    size: int
    quality: int
    most: int
    max_unreadable_share: float
    left_out: Counter[str]
    _read: int = field(default=0, init=False, repr=False)
    _unreadable: int = field(default=0, init=False, repr=False)
    _first_unreadable: list[str] = field(default_factory=list, init=False, repr=False)

    def load(self) -> None:
        """Do nothing: files are opened when they are read."""

    def make(self, task: ShardTask, tally: Tally, report: Report) -> Iterator[Row]:
        """Yield the rows of the captions that have two pictures or more, in order."""
        if task.index == 0:
            tally.counts.update(self.left_out)
        for caption_id, row in enumerate(task.inputs, task.first_row):
            made = self._row(caption_id, row, tally)
            report(1)
            if made is None:
                tally.dropped += 1
            else:
                yield made

    def _row(self, caption_id: int, places: Row, tally: Tally) -> Row | None:
        told, taken, images = Entry("", ()), [], []
        seen: set[bytes] = set()
        tried = 0
        for entry in self._entries(places["places"]):
            if told.caption and told.caption != entry.caption:  # two captions with one checksum
                tally.counts["other_caption"] += len(entry.pictures)
                tried += len(entry.pictures)
                continue
            told = Entry(entry.caption, (), told.concept or entry.concept, told.source or entry.source)
            for picture in entry.pictures:
                if len(taken) == self.most:
                    break
                tried += 1
                contents = self._stored(picture, seen, tally)
                if contents is not None:
                    images.append({"bytes": contents, "path": None})
                    taken.append(picture)
            if len(taken) == self.most:
                break
        if left_over := places["pictures"] - tried:
            tally.counts["left_over"] += left_over
        if len(images) < 2:
            tally.counts["single_picture"] += 1
            return None
        provenance = {
            "imported_from": self.source.name,
            "originals": [picture.name for picture in taken],
            "largest_short_side": self.size,
            "quality": self.quality,
        }
        return {
            "caption_id": caption_id,
            "caption": told.caption,
            "concept": told.concept,
            "source": told.source or self.source.name,
            "images": images,
            "seeds": [picture.seed for picture in taken],
            "guidance_scale": float("nan"),
            "provenance": json.dumps(provenance, sort_keys=True),
        }

    def _entries(self, places: list[list[int]]) -> Iterator[Entry]:
        """Read the entries of a caption when they are needed: a common one may have very many."""
        for place in places:
            try:
                yield self.source.read(place)
            except OSError as error:
                raise UserInputError(
                    f"'{self.source.name}' cannot be read any more ({error}); run the same command again"
                ) from error

    def _stored(self, picture: FoundPicture, seen: set[bytes], tally: Tally) -> bytes | None:
        """Return a picture as it is stored, or `None` and say in the tally why it is left out."""
        self._read += 1
        try:
            contents = _contents(picture)
            stored = stored_picture(contents, self.size, self.quality)
        except UnreadablePicture as error:
            tally.counts["unreadable"] += 1
            self._note(picture, error)
            return None
        checksum = blake2b(contents, digest_size=16).digest()
        if checksum in seen:
            tally.counts["same_picture"] += 1
            return None
        seen.add(checksum)
        return stored

    def _note(self, picture: FoundPicture, error: UnreadablePicture) -> None:
        """Stop where too many pictures cannot be read."""
        self._unreadable += 1
        if len(self._first_unreadable) < _NAMED:
            self._first_unreadable.append(f"'{picture.name}': {error}")
        if self._unreadable > max(ALWAYS_ALLOWED, self.max_unreadable_share * self._read):
            raise UserInputError(
                f"{self._unreadable} of {self._read} pictures of '{self.source.name}' cannot be read "
                f"({'; '.join(self._first_unreadable)}); mend the source, or allow a larger share: type "
                "--max-unreadable-share 0.5"
            )


def _contents(picture: FoundPicture) -> bytes:
    """Return the bytes of a picture (`UnreadablePicture`)."""
    try:
        return picture.read()
    except OSError as error:
        raise UnreadablePicture(error.strerror or str(error)) from error


def check_readable(picture: FoundPicture) -> None:
    """Raise `UnreadablePicture` unless a picture of a source can be read and decoded."""
    stored_picture(_contents(picture), 1, 1)


def stored_picture(contents: bytes, size: int, quality: int) -> bytes:
    """Return a picture as it is stored: as it is where it is small and plain, else made smaller, as a JPEG.

    A JPEG or WebP file whose short side has at most `size` pixels stays as it is, unless it lies on its side, moves or
    has transparent parts. Others are turned upright and made smaller, the whole picture with its proportions.

    Args:
        contents: the encoded picture.
        size: pixels of the short side of a larger picture afterwards.
        quality: of the JPEG file.

    Raises:
        UnreadablePicture: it is none, broken, or has so many pixels that it must be an attack.
    """
    try:
        image = Image.open(BytesIO(contents), formats=_formats())
        if image.format in _KEPT_FORMATS and min(image.size) <= size and _is_plain(image):
            image.load()
            return contents
        image.draft(None, (2 * size, 2 * size))  # a JPEG is decoded at a fraction of its size
        picture = open_picture(image)
        short = min(picture.size)
        if short > size:
            width, height = (max(size, round(side * size / short)) for side in picture.size)
            picture = picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
        file = BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return file.getvalue()
    except Exception as error:  # Pillow and its decoders raise dozens of kinds for rubbish
        raise UnreadablePicture(_reason(error)) from error


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _is_plain(image: Image.Image) -> bool:
    moves = getattr(image, "is_animated", False)
    return image.mode in _KEPT_MODES and image.getexif().get(_ORIENTATION, 1) == 1 and not moves


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no picture"
    return (str(error).splitlines() or [type(error).__name__])[0][:100]


def _first(values: list[str | None]) -> str | None:
    return next((value for value in values if value), None)
