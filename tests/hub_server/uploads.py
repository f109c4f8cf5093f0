"""Uploads: small files in the commit itself, large ones before it, by LFS here."""

import base64
import fnmatch
import hashlib
import json
from typing import Any

import yaml

from .calls import Call, Reply, as_json, route
from .repositories import front_matter
from .storage import Refusal, Repository, StoredFile, is_large


@route("POST", "/api/validate-yaml")
def validate_yaml(call: Call) -> Any:
    try:
        found = front_matter(call.json["content"])
    except yaml.YAMLError as error:
        return as_json({"errors": [{"message": str(error)}], "warnings": []}, 400)
    return {"errors": [], "warnings": [] if found else [{"message": "empty or missing yaml metadata in repo card"}]}


@route("POST", "/api/{kind}/{repo}/preupload/{revision}", "write")
def preupload(call: Call, repository: Repository, revision: str) -> Any:
    present = repository.find(revision).files
    hosted = present.get(".gitignore", StoredFile(b"")).data.decode()
    lines = [line.strip().strip("/") for line in call.json.get("gitIgnore", hosted).splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]

    def told(file: dict[str, Any]) -> dict[str, Any]:
        path, names = file["path"], [file["path"], *file["path"].split("/")]
        large = is_large(path, file["size"], base64.b64decode(file.get("sample", "")))
        ignored = any(fnmatch.fnmatch(name, pattern) for name in names for pattern in patterns)
        answer = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": ignored}
        return answer | ({"oid": present[path].etag} if path in present else {})

    return {"files": [told(file) for file in call.json["files"]]}


@route("POST", "/{prefix}{repo}\\.git/info/lfs/objects/batch", "write")
def lfs_batch(call: Call, repository: Repository) -> Any:
    def told(asked: dict[str, Any]) -> dict[str, Any]:
        place = f"{call.state.url}/lfs/{repository.kind}/{repository.name}/{asked['oid']}"
        actions = {"upload": {"href": place}, "verify": {"href": f"{place}/verify"}}
        return asked if asked["oid"] in repository.objects else asked | {"actions": actions}

    return {"transfer": "basic", "objects": [told(asked) for asked in call.json["objects"]]}


@route("PUT", "/lfs/{kind}/{repo}/{oid}", access=None)
def lfs_upload(call: Call, kind: str, repo: str, oid: str) -> Any:
    """As to a bucket: the caller brings no token."""
    if hashlib.sha256(call.body).hexdigest() != oid:
        raise Refusal(400, f"These bytes are not {oid}")
    call.state.repositories[kind, repo].objects[oid] = call.body
    return Reply()


@route("POST", "/lfs/{kind}/{repo}/{oid}/verify", "write")
def lfs_verify(call: Call, repository: Repository, oid: str) -> Any:
    if len(repository.objects.get(oid, b"")) != call.json["size"]:
        raise Refusal(422, f"{oid} is not here in full")
    return {}


@route("POST", "/api/{kind}/{repo}/commit/{name}", "write")
def commit(call: Call, repository: Repository, name: str) -> Any:
    if call.asked("create_pr"):
        raise Refusal(400, "This server has no pull requests")
    if name not in repository.branches:
        raise Refusal(404, f"Invalid rev id: {name}", "RevisionNotFound")
    lines = [json.loads(line) for line in call.body.splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    head = repository.find(name)
    if not head.oid.startswith(header.get("parentCommit") or ""):
        raise Refusal(412, "A commit has happened since. Please refresh and try again.")
    files = dict(head.files)
    for line in lines:
        change(files, repository, line["key"], line["value"])
    author = call.writer(repository.namespace).name
    made = repository.commit(name, files, header["summary"], header.get("description", ""), author)
    return {"commitOid": made.oid, "commitUrl": f"{call.state.url}/{repository.address}/commit/{made.oid}"}


def change(files: dict[str, StoredFile], repository: Repository, key: str, value: dict[str, Any]) -> None:
    """Do to `files` what one line of a commit says."""
    path = value.get("path", "").strip("/")
    if key == "file":
        files[path] = StoredFile(base64.b64decode(value["content"]))
    elif key == "lfsFile":
        if value["oid"] not in repository.objects:
            raise Refusal(400, f"LFS pointer of {path} points to an object that does not exist: {value['oid']}")
        files[path] = StoredFile(repository.objects[value["oid"]], lfs=True)
    elif key in ("deletedFile", "deletedFolder"):
        gone = [name for name in files if name == path or (key == "deletedFolder" and name.startswith(f"{path}/"))]
        if not gone:
            raise Refusal(404, f"{path} does not exist", "EntryNotFound")
        for name in gone:
            del files[name]
    elif key != "header":
        raise Refusal(400, f"This server knows no change {key}")
