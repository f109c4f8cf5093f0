"""Uploads by Xet: chunks arrive in xorbs, then a shard tells how files are made of them.

Downloads need none of this: without an X-Xet-Hash clients read plain bytes. Chunks have to come uncompressed, which is
a setting in the environments that the Hub hands out.
"""

import hashlib
import struct
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from .calls import Call, Reply, as_json, route
from .storage import Refusal, Repository

ROW = 48
BOOKEND = b"\xff" * 32 + bytes(16)
VERIFIED, EXTENDED = 1 << 31, 1 << 30


@route("GET", "/api/{kind}/{repo}/xet-write-token/{revision}", "write")
def write_token(call: Call, repository: Repository, revision: str) -> Reply:
    """The token names the repository: it is all that later requests bring."""
    address, token = f"{call.state.url}/xet", f"{repository.kind}/{repository.name}"
    expiration = int(time.time()) + 3600
    headers = {"X-Xet-Cas-Url": address, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(expiration)}
    return as_json({"casUrl": address, "accessToken": token, "exp": expiration}, headers=headers)


@route("POST", "/xet/v1/xorbs/default/{oid}")
def upload_xorb(call: Call, oid: str) -> Any:
    chunks, start = [], 0
    while start < len(call.body) and call.body[start : start + 7] != b"XETBLOB":
        _, size, compression, _ = struct.unpack("<B3sB3s", call.body[start : start + 8])
        if compression:
            raise Refusal(400, "This server reads uncompressed chunks only: set HF_XET_XORB_COMPRESSION_POLICY=none")
        end = start + 8 + int.from_bytes(size, "little")
        chunks.append(call.body[start + 8 : end])
        start = end
    inserted = oid not in call.state.xorbs
    call.state.xorbs[oid] = chunks
    return {"was_inserted": inserted}


@route("POST", "/xet/v1/shards")
def upload_shard(call: Call) -> Any:
    kind, _, name = call.headers["authorization"].removeprefix("Bearer ").partition("/")
    rows = (call.body[start : start + ROW] for start in range(ROW, len(call.body), ROW))
    for oid, terms in files(rows):
        if unknown := [xorb for xorb, _, _ in terms if xorb not in call.state.xorbs]:
            raise Refusal(400, f"These xorbs were not uploaded: {unknown}")
        data = b"".join(chunk for xorb, start, end in terms for chunk in call.state.xorbs[xorb][start:end])
        if hashlib.sha256(data).hexdigest() != oid:
            raise Refusal(400, f"The file made of {terms} is not {oid}")
        call.state.repositories[kind, name].objects[oid] = data
    for xorb in xorbs(rows):
        for chunk in xorb[1:]:
            call.state.chunks[spelled(chunk)] = shard_of(call.body[:40], b"".join(xorb))
    return {"result": 1}


@route("GET", "/xet/v1/chunks/default/{oid}")
def known_chunk(call: Call, oid: str) -> Reply:
    """The shard of an earlier upload of this chunk, so that nobody uploads it again."""
    if oid not in call.state.chunks:
        raise Refusal(404, "This chunk is new")
    return Reply(200, call.state.chunks[oid])


def files(rows: Iterator[bytes]) -> Iterator[tuple[str, list[tuple[str, int, int]]]]:
    """The sha256 of each file and its terms: a xorb and which chunks of it, the last one excluded."""
    while (header := next(rows)) != BOOKEND:
        flags, count = struct.unpack("<II", header[32:40])
        terms = [(spelled(row), *struct.unpack("<II", row[40:])) for row in islice(rows, count)]
        if flags & VERIFIED:
            list(islice(rows, count))
        if flags & EXTENDED:
            yield spelled(next(rows)), terms


def xorbs(rows: Iterator[bytes]) -> Iterator[list[bytes]]:
    """A row about each xorb, followed by the rows about its chunks."""
    while (header := next(rows)) != BOOKEND:
        yield [header, *islice(rows, struct.unpack("<I", header[36:40])[0])]


def shard_of(start: bytes, xorb: bytes) -> bytes:
    """A shard about one xorb and no files, which expires in an hour."""
    body = start + struct.pack("<Q", 200) + BOOKEND + xorb + BOOKEND
    end, now = len(body), int(time.time())
    return body + struct.pack("<9Q32x2Q72xQ", 1, ROW, 2 * ROW, end, 0, end, 0, end, 0, now, now + 3600, end)


def spelled(row: bytes) -> str:
    """A hash is written as four numbers of 64 bits."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", row[:32]))
