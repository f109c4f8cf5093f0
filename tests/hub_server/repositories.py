"""Accounts, repositories, what is in them, and downloads."""

import hashlib
import re
from typing import Any
from urllib.parse import parse_qs

import yaml

from .calls import Call, Reply, route
from .storage import Commit, Refusal, Repository, StoredFile

DATE = "%Y-%m-%dT%H:%M:%S.%fZ"


@route("GET", "/api/whoami-v2")
def whoami(call: Call) -> Any:
    account = call.account
    if account is None:
        raise Refusal(401, "Invalid username or password.")
    orgs = [{"type": "org", "name": name, "fullname": name} for name in account.organizations]
    token = {"displayName": "test", "role": "write" if account.writes else "read"}
    auth = {"type": "access_token", "accessToken": token}
    return {"type": "user", "name": account.name, "fullname": account.name, "orgs": orgs, "auth": auth}


@route("POST", "/api/repos/create")
def create(call: Call) -> Any:
    asked = call.json
    account = call.writer(asked.get("organization"))
    name = f"{asked.get('organization') or account.name}/{asked['name']}"
    repository = Repository(
        f"{asked.get('type') or 'model'}s", name, account.name, is_private(asked), asked.get("sdk")
    )
    told, place = {"url": f"{call.state.url}/{repository.address}", "name": name}, (repository.kind, name)
    if place in call.state.repositories:
        raise Refusal(409, f"You already created this repository: {name}", **told)
    call.state.repositories[place] = repository
    return told


def is_private(asked: dict[str, Any]) -> bool:
    return asked.get("visibility") == "private" or asked.get("private") is True


@route("DELETE", "/api/repos/delete")
def delete(call: Call) -> Any:
    namespace = call.json.get("organization") or call.writer().name
    repository = call.open(f"{call.json.get('type') or 'model'}s", f"{namespace}/{call.json['name']}", "write")
    del call.state.repositories[repository.kind, repository.name]
    return "OK"


@route("PUT", "/api/{kind}/{repo}/settings", "write")
def settings(call: Call, repository: Repository) -> Any:
    if "visibility" in call.json or "private" in call.json:
        repository.private = is_private(call.json)
    repository.gated = call.json.get("gated", repository.gated)
    return {"private": repository.private, "gated": repository.gated}


@route("GET", "/api/{kind}/{repo}")
@route("GET", "/api/{kind}/{repo}/revision/{revision}")
def info(call: Call, repository: Repository, revision: str = "main") -> Any:
    commit = repository.find(revision)
    card = front_matter(commit.files.get("README.md", StoredFile(b"")).data.decode(errors="replace")) or {}
    named = {key: card[key] for key in ("library_name", "pipeline_tag") if key in card}
    siblings = [
        {"rfilename": path} | (blob(file) if call.asked("blobs") else {}) for path, file in commit.files.items()
    ]
    *_, first = commit.history()
    told = {"id": repository.name, "author": repository.namespace, "sha": commit.oid, "siblings": siblings}
    told |= {"private": repository.private, "gated": repository.gated, "disabled": False, "downloads": 0, "likes": 0}
    told |= {"lastModified": commit.date.strftime(DATE), "createdAt": first.date.strftime(DATE)}
    told |= {"cardData": card, "tags": [*(card.get("tags") or []), *named.values()]}
    if repository.kind == "spaces":
        hardware = {"current": "cpu-basic", "requested": "cpu-basic"}
        told |= {"sdk": repository.sdk, "runtime": {"stage": "RUNNING", "hardware": hardware}}
    return told | (named if repository.kind == "models" else {})


def front_matter(card: str) -> Any:
    """What stands between the two lines of --- at the top of a card."""
    block = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n?---", card, re.DOTALL)
    return yaml.safe_load(block[1]) if block else None


def blob(file: StoredFile) -> dict[str, Any]:
    told: dict[str, Any] = {"size": len(file.data), "oid": file.oid, "blobId": file.oid}
    if file.lfs:
        told["lfs"] = {"oid": file.sha256, "sha256": file.sha256, "size": len(file.data)}
        told["lfs"]["pointerSize"] = len(file.pointer)
    return told


def entry(path: str, file: StoredFile | None) -> dict[str, Any]:
    if file is None:
        return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}
    return {"type": "file", "path": path, **blob(file)}


@route("GET", "/api/{kind}/{repo}/tree/{revision}(?:/{path})?")
def tree(call: Call, repository: Repository, revision: str, path: str) -> Any:
    found = repository.find(revision).listing(path.strip("/"), call.asked("recursive"))
    return [entry(name, file) for name, file in found.items()]


@route("POST", "/api/{kind}/{repo}/paths-info/{revision}")
def paths_info(call: Call, repository: Repository, revision: str) -> Any:
    found = repository.find(revision).listing(recursive=True)
    asked = [path.strip("/") for path in parse_qs(call.body.decode()).get("paths", [])]
    return [entry(path, found[path]) for path in asked if path in found]


@route("GET", "/api/{kind}/{repo}/commits/{revision}")
def commits(call: Call, repository: Repository, revision: str) -> Any:
    def told(commit: Commit) -> dict[str, Any]:
        texts = {"title": commit.title, "message": commit.message}
        return {"id": commit.oid, "authors": [{"user": commit.author}], "date": commit.date.strftime(DATE), **texts}

    return [told(commit) for commit in repository.find(revision).history()]


@route("GET", "/api/{kind}/{repo}/refs")
def refs(call: Call, repository: Repository) -> Any:
    def told(labels: dict[str, str], folder: str) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": oid} for name, oid in labels.items()]

    branches, tags = told(repository.branches, "heads"), told(repository.tags, "tags")
    return {"branches": branches, "tags": tags, "converts": [], "pullRequests": []}


@route("POST", "/api/{kind}/{repo}/{label}/{name}", "write")
def create_label(call: Call, repository: Repository, label: str, name: str) -> Any:
    """A branch is named in the address and starts where the body says; with a tag it is the other way round."""
    labels, new, start = repository.tags, call.json.get("tag"), name
    if label == "branch":
        labels, new, start = repository.branches, name, call.json.get("startingPoint") or "main"
    if new in labels:
        raise Refusal(409, f"Reference already exists: {new}")
    labels[new] = repository.find(start).oid
    return "OK"


@route("DELETE", "/api/{kind}/{repo}/{label}/{name}", "write")
def delete_label(call: Call, repository: Repository, label: str, name: str) -> Any:
    labels = repository.branches if label == "branch" else repository.tags
    if label == "branch" and name == "main":
        raise Refusal(403, "The main branch stays")
    if labels.pop(name, None) is None:
        raise Refusal(404, f"There is no {label} {name}", "RevisionNotFound")
    return "OK"


@route("GET", "/{prefix}{repo}/resolve/{revision}/{path}", "content")
def resolve(call: Call, repository: Repository, revision: str, path: str) -> Reply:
    commit = repository.find(revision)
    if path not in commit.files:
        raise Refusal(404, "Entry not found", "EntryNotFound", commit=commit.oid)
    file = commit.files[path]
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
    headers["Content-Type"] = "application/octet-stream" if file.lfs else "text/plain; charset=utf-8"
    if file.lfs:
        headers |= {"X-Linked-Size": str(len(file.data)), "X-Linked-Etag": f'"{file.etag}"'}
    size, wanted = len(file.data), re.fullmatch(r"bytes=(\d*)-(\d*)", call.headers.get("range", ""))
    if wanted is None or not any(wanted.groups()):
        return Reply(200, file.data, headers)
    start = int(wanted[1]) if wanted[1] else max(0, size - int(wanted[2]))
    end = min(size, int(wanted[2]) + 1) if wanted[1] and wanted[2] else size
    if start >= size:
        return Reply(416, headers=headers | {"Content-Range": f"bytes */{size}"})
    return Reply(206, file.data[start:end], headers | {"Content-Range": f"bytes {start}-{end - 1}/{size}"})
