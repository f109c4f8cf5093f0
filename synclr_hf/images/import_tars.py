"""Pictures and captions in webdataset tar files, read where they lie."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from synclr_hf.errors import UserInputError
from synclr_hf.images.import_index import (
    CAPTION_NAMES,
    LARGEST_FILE,
    PICTURE_SUFFIXES,
    Entry,
    FoundPicture,
    Index,
    OpenFiles,
    one_line,
    seed_of,
)

_ABSENT = -1
_LONGEST_TEXT = 2**20
_TEXT_ERRORS = (ValueError, OSError, RecursionError)
"""What a caption raises that is no UTF-8 or no JSON; the last one is for JSON that is nested very deeply."""


@dataclass
class _Sample:
    """Files of one key that stand together; numbers are the places of their headers."""

    key: str
    pictures: list[tuple[int, str, int]] = field(default_factory=list)
    text: int = _ABSENT
    data: int = _ABSENT


class TarPictures:
    """Tar files of samples: `KEY.jpg` (or .png, .webp) with `KEY.txt` or `KEY.json`, which stand together.

    The caption is that of `KEY.txt`, else the entry caption, text or prompt of `KEY.json`; its entries concept,
    source and seed are read as well. Nothing is unpacked.

    Args:
        paths: the tar files, not compressed.
        name: name of the whole.
    """

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        self.name = name
        self._files = OpenFiles(paths)

    def index(self, index: Index) -> None:
        """Read all headers and all captions."""
        for number in range(len(self._files.paths)):
            for sample in self._samples(number):
                try:
                    told = self._told(number, sample.text, sample.data)
                except _TEXT_ERRORS:
                    index.counts["unreadable_caption"] += len(sample.pictures)
                    continue
                for header, name, size in sample.pictures:
                    index.add(_caption(told), (number, header, sample.text, sample.data), (name, size))

    def read(self, place: Sequence[int]) -> Entry:
        """Read the caption of a sample and find its picture."""
        number, header, text, data = place
        try:
            told = self._told(number, text, data)
        except _TEXT_ERRORS as error:  # the index could read it
            raise OSError(f"'{self._files.paths[number].name}' has changed") from error
        name = f"{self._files.paths[number].name}/{self._header(number, header).name}"
        picture = FoundPicture(name, partial(self._contents, number, header), seed_of(told.get("seed")))
        concept, source = (one_line(told.get(what)) or None for what in ("concept", "source"))
        return Entry(_caption(told), [picture], concept, source)

    def close(self) -> None:
        """Close what is open."""
        self._files.close()

    def _samples(self, number: int) -> Iterator[_Sample]:
        sample = _Sample("")
        for member in self._members(number):
            path = PurePosixPath(member.name)
            stem, _, suffix = path.name.partition(".")
            if not stem:
                continue  # a hidden file
            if (key := str(path.with_name(stem))) != sample.key:
                if sample.pictures:
                    yield sample
                sample = _Sample(key)
            suffix = f".{suffix.lower()}"
            if suffix.endswith(PICTURE_SUFFIXES):
                sample.pictures.append((member.offset, member.name, member.size))
            elif suffix == ".txt":
                sample.text = member.offset
            elif suffix == ".json":
                sample.data = member.offset
        if sample.pictures:
            yield sample

    def _members(self, number: int) -> Iterator[tarfile.TarInfo]:
        """Yield the headers of the files in a tar file, which must be whole."""
        path = self._files.paths[number]
        try:
            with tarfile.open(path, "r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # it would keep them all
                    if member.isreg():
                        yield member
                end = tar.offset
        except tarfile.TarError as error:
            raise _damaged(path, str(error)) from None
        with open(path, "rb") as file:
            file.seek(end)  # tarfile stops without a word at what is no header
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise _damaged(path, f"there is no header at byte {end}")

    def _header(self, number: int, offset: int) -> tarfile.TarInfo:
        """Read one header, with the longer names that may stand before it."""
        file = self._files[number]
        file.seek(offset)
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                member = tar.next()
        except tarfile.TarError as error:
            raise OSError(f"the tar file has changed: {error}") from None
        if member is None:
            raise OSError("the tar file has changed")
        return member

    def _contents(self, number: int, offset: int) -> bytes:
        member = self._header(number, offset)
        if member.size > LARGEST_FILE:
            raise OSError("the file is too large")
        file = self._files[number]
        file.seek(member.offset_data)
        return file.read(member.size)

    def _told(self, number: int, text: int, data: int) -> dict[str, Any]:
        told = {}
        if data != _ABSENT:
            told = json.loads(self._contents(number, data)[:_LONGEST_TEXT])
            told = told if isinstance(told, dict) else {}
        if text != _ABSENT:
            told["caption"] = self._contents(number, text)[:_LONGEST_TEXT].decode("utf-8-sig")
        return told


def _caption(told: dict[str, Any]) -> str:
    texts = (one_line(told[name]) for name in CAPTION_NAMES if isinstance(told.get(name), str))
    return next((text for text in texts if text), "")


def _damaged(path: Path, reason: str) -> UserInputError:
    return UserInputError(
        f"'{path}' is no whole tar file ({reason[:200]}); needed: files made by tar, not compressed; fetch it again, "
        "unpack it (gunzip), or leave it out"
    )
