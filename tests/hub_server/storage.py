"""Repositories with their history and the accounts that may see them."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

LARGE_SUFFIXES = (
    "7z arrow avi bin bmp bz2 ckpt ftz gif gz h5 jpeg jpg joblib mlmodel model mp3 mp4 msgpack npy npz onnx ot "
    "parquet pb pickle pkl png pt pth rar safetensors tar tflite tgz tiff wasm wav webp whl xz zip zst"
).split()
LARGE_BYTES = 10 * 1024**2


class Refusal(Exception):
    """A request that the Hub answers with an error."""

    def __init__(self, status: int, message: str, code: str | None = None, commit: str | None = None, **body: object):
        super().__init__(message)
        self.status, self.body = status, {"error": message, **body}
        headers = {"X-Error-Message": message, "X-Error-Code": code, "X-Repo-Commit": commit}
        self.headers = {name: value for name, value in headers.items() if value}


@dataclass(frozen=True)
class Account:
    """Who a token stands for."""

    name: str
    organizations: tuple[str, ...] = ()
    writes: bool = True

    def belongs_to(self, namespace: str) -> bool:
        return namespace == self.name or namespace in self.organizations


@dataclass(frozen=True)
class StoredFile:
    """The bytes of a file, and whether git holds only a pointer to them."""

    data: bytes
    lfs: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        lines = ("version https://git-lfs.github.com/spec/v1", f"oid sha256:{self.sha256}", f"size {len(self.data)}")
        return "".join(f"{line}\n" for line in lines).encode()

    @cached_property
    def oid(self) -> str:
        """What git calls the blob."""
        content = self.pointer if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def etag(self) -> str:
        """What clients compare their own bytes with."""
        return self.sha256 if self.lfs else self.oid


Files = Mapping[str, StoredFile]


@dataclass(frozen=True)
class Commit:
    """One state of all files, and how it came to be."""

    files: Files
    title: str
    message: str = ""
    author: str = ""
    parent: "Commit | None" = None
    date: datetime = field(default_factory=lambda: datetime.now(UTC))

    @cached_property
    def oid(self) -> str:
        tree = sorted((path, file.oid) for path, file in self.files.items())
        told = (self.parent and self.parent.oid, self.date, self.author, self.title, self.message, tree)
        return hashlib.sha1(repr(told).encode()).hexdigest()

    def history(self) -> Iterator["Commit"]:
        """This commit and those before it."""
        commit: Commit | None = self
        while commit:
            yield commit
            commit = commit.parent

    def listing(self, folder: str = "", recursive: bool = False) -> dict[str, StoredFile | None]:
        """What lies in `folder`, with None in the place of a folder's bytes."""
        start = f"{folder}/" if folder else ""
        found: dict[str, StoredFile | None] = {}
        for path in sorted(self.files):
            if path.startswith(start):
                parts = path.removeprefix(start).split("/")
                for depth in range(1, len(parts) + 1 if recursive else 2):
                    found[start + "/".join(parts[:depth])] = self.files[path] if depth == len(parts) else None
        if folder and not found:
            raise Refusal(404, f"{folder} does not exist on {self.oid}", "EntryNotFound", commit=self.oid)
        return found


class Repository:
    """Branches, tags, settings and the LFS objects uploaded so far; new ones hold the Hub's .gitattributes."""

    def __init__(self, kind: str, name: str, author: str, private: bool = False, sdk: str | None = None):
        self.kind, self.name, self.private, self.sdk = kind, name, private, sdk
        self.gated: str | bool = False
        self.objects: dict[str, bytes] = {}
        attributes = "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE_SUFFIXES)
        first = Commit({".gitattributes": StoredFile(attributes.encode())}, "initial commit", author=author)
        self.commits = {first.oid: first}
        self.branches = {"main": first.oid}
        self.tags: dict[str, str] = {}

    @property
    def namespace(self) -> str:
        return self.name.split("/")[0]

    @property
    def address(self) -> str:
        return self.name if self.kind == "models" else f"{self.kind}/{self.name}"

    def find(self, revision: str) -> Commit:
        """The commit that a branch, a tag or the beginning of a sha names."""
        oid = self.branches.get(revision) or self.tags.get(revision)
        if oid is None and len(revision) >= 7:
            oid = next((oid for oid in self.commits if oid.startswith(revision)), None)
        if oid is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def commit(self, branch: str, files: Files, title: str, message: str, author: str) -> Commit:
        """Put `files` on `branch` in the place of all that is there."""
        commit = Commit(files, title, message, author, parent=self.commits[self.branches[branch]])
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit


def is_large(path: str, size: int, sample: bytes) -> bool:
    """Whether the Hub keeps such a file as an LFS object."""
    return path.rpartition(".")[2].lower() in LARGE_SUFFIXES or size > LARGE_BYTES or b"\0" in sample
