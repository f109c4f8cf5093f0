"""What each address of the Hub answers; addresses are matched before percent-decoding."""

import base64
import fnmatch
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import yaml

from .storage import Account, Commit, Refusal, Repository, StoredFile, is_large

DATE = "%Y-%m-%dT%H:%M:%S.%fZ"
PARTS = {
    "kind": "(?P<kind>models|datasets|spaces)",
    "prefix": "(?P<kind>(?:datasets/|spaces/)?)",
    "repo": "(?P<repo>[^/]+/[^/]+?)",
    "label": "(?P<label>branch|tag)",
    **{name: f"(?P<{name}>[^/]+)" for name in ("revision", "name", "oid")},
    "path": "(?P<path>.+)",
}
ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Any]]] = []


@dataclass
class Reply:
    """An answer that is not plain JSON."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class State:
    """All that the server knows."""

    url: str
    tokens: dict[str, Account]
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)


@dataclass
class Call:
    """One request, as the routes see it."""

    state: State
    method: str
    raw_path: str
    headers: dict[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.raw_path.partition("?")[2])

    @property
    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    @property
    def account(self) -> Account | None:
        authorization = self.headers.get("authorization")
        if authorization is None:
            return None
        account = self.state.tokens.get(authorization.removeprefix("Bearer "))
        if account is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return account

    def asked(self, name: str) -> bool:
        return self.query.get(name, ["false"])[0].lower() in ("true", "1")

    def writer(self, namespace: str) -> Account:
        """The caller, who may write to the namespace."""
        account = self.account
        if account is None:
            raise Refusal(401, "Invalid username or password.")
        if not (account.writes and account.belongs_to(namespace)):
            raise Refusal(403, f"You do not have the rights to write to {namespace} with this token")
        return account

    def open(self, kind: str, name: str, *, write: bool = False, content: bool = False) -> Repository:
        """The repository, for a caller who may know of it, change it, read the `content` of its files."""
        account, repository = self.account, self.state.repositories.get((kind, name))
        member = bool(repository and account and account.belongs_to(repository.namespace))
        if repository is None or (repository.private and not member):
            raise Refusal(404 if account else 401, "Repository not found", "RepoNotFound")
        if content and repository.gated and not member:
            raise Refusal(403 if account else 401, f"Access to {name} is restricted", "GatedRepo")
        if write:
            self.writer(repository.namespace)
        return repository


def route(method: str, pattern: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a function answer `method` on addresses like `pattern`; the {parts} are its arguments."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        ROUTES.append((method, re.compile(re.sub(r"{(\w+)}", lambda part: PARTS[part[1]], pattern)), function))
        return function

    return add


def answer(call: Call) -> Reply:
    path = call.raw_path.partition("?")[0]
    try:
        for method, pattern, function in ROUTES:
            if method == call.method.replace("HEAD", "GET") and (found := pattern.fullmatch(path)):
                parts = {name: unquote(part or "") for name, part in found.groupdict().items()}
                if "kind" in parts:
                    parts["kind"] = parts["kind"].rstrip("/") or "models"
                result = function(call, **parts)
                return result if isinstance(result, Reply) else as_json(result)
        raise Refusal(404, f"This server knows no {call.method} {path}")
    except Refusal as refusal:
        return as_json(refusal.body, refusal.status, refusal.headers)


def as_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})


# Accounts and repositories


@route("GET", "/api/whoami-v2")
def whoami(call: Call) -> Any:
    account = call.account
    if account is None:
        raise Refusal(401, "Invalid username or password.")
    orgs = [{"type": "org", "name": name, "fullname": name, "roleInOrg": "write"} for name in account.organizations]
    token = {"displayName": "test", "role": "write" if account.writes else "read"}
    auth = {"type": "access_token", "accessToken": token}
    return {
        "type": "user",
        "id": account.name,
        "name": account.name,
        "fullname": account.name,
        "orgs": orgs,
        "auth": auth,
    }


@route("POST", "/api/repos/create")
def create(call: Call) -> Any:
    kind, asked = f"{call.json.get('type') or 'model'}s", call.json
    namespace = asked.get("organization") or (call.account.name if call.account else "")
    account, name = call.writer(namespace), f"{namespace}/{asked['name']}"
    address = {"url": f"{call.state.url}/{'' if kind == 'models' else kind + '/'}{name}", "name": name}
    if (kind, name) in call.state.repositories:
        raise Refusal(409, f"You already created this {kind[:-1]} repo: {name}", **address)
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    call.state.repositories[kind, name] = Repository(kind, name, account.name, private, asked.get("sdk"))
    return address


@route("DELETE", "/api/repos/delete")
def delete(call: Call) -> Any:
    namespace = call.json.get("organization") or (call.account.name if call.account else "")
    repository = call.open(f"{call.json.get('type') or 'model'}s", f"{namespace}/{call.json['name']}", write=True)
    del call.state.repositories[repository.kind, repository.name]
    return "OK"


@route("PUT", "/api/{kind}/{repo}/settings")
def settings(call: Call, kind: str, repo: str) -> Any:
    repository, asked = call.open(kind, repo, write=True), call.json
    if "visibility" in asked or "private" in asked:
        repository.private = asked.get("visibility") == "private" or bool(asked.get("private"))
    repository.gated = asked.get("gated", repository.gated)
    return {"private": repository.private, "gated": repository.gated}


@route("GET", "/api/{kind}/{repo}")
@route("GET", "/api/{kind}/{repo}/revision/{revision}")
def info(call: Call, kind: str, repo: str, revision: str = "main") -> Any:
    repository = call.open(kind, repo)
    commit = repository.find(revision)
    card = metadata(commit)
    tags = [*(card.get("tags") or []), *(card[key] for key in ("library_name", "pipeline_tag") if key in card)]
    siblings = [
        {"rfilename": path, **(blob(file) if call.asked("blobs") else {})} for path, file in commit.files.items()
    ]
    first = list(commit.history())[-1]
    told = {"id": repo, "author": repository.namespace, "sha": commit.oid, "siblings": siblings, "tags": tags}
    told |= {"private": repository.private, "gated": repository.gated, "disabled": False, "downloads": 0, "likes": 0}
    told |= {"cardData": card, "lastModified": commit.date.strftime(DATE), "createdAt": first.date.strftime(DATE)}
    if kind == "models":
        told |= {"modelId": repo, **{key: card[key] for key in ("library_name", "pipeline_tag") if key in card}}
    if kind == "spaces":
        hardware = {"current": "cpu-basic", "requested": "cpu-basic"}
        told |= {"sdk": repository.sdk, "runtime": {"stage": "RUNNING", "hardware": hardware}}
    return told


def metadata(commit: Commit) -> dict[str, Any]:
    card = commit.files.get("README.md", StoredFile(b"")).data.decode(errors="replace")
    return front_matter(card) or {}


def front_matter(card: str) -> Any:
    """What stands between the two lines of --- at the top of a card."""
    block = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n?---", card, re.DOTALL)
    return yaml.safe_load(block[1]) if block else None


def blob(file: StoredFile) -> dict[str, Any]:
    lfs = {"sha256": file.sha256, "size": len(file.data), "pointerSize": len(file.pointer)}
    return {"size": len(file.data), "blobId": file.oid, **({"lfs": lfs} if file.lfs else {})}


# Listings


def entry(commit: Commit, path: str, file: StoredFile | None, expand: bool) -> dict[str, Any]:
    if file is None:
        told = {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}
    else:
        told = {"type": "file", "path": path, "size": len(file.data), "oid": file.oid}
        if file.lfs:
            told["lfs"] = {"oid": file.sha256, "size": len(file.data), "pointerSize": len(file.pointer)}
    if expand:
        last = commit.touched(path)
        told["lastCommit"] = {"id": last.oid, "title": last.title, "date": last.date.strftime(DATE)}
    return told


@route("GET", "/api/{kind}/{repo}/tree/{revision}(?:/{path})?")
def tree(call: Call, kind: str, repo: str, revision: str, path: str = "") -> Any:
    commit = call.open(kind, repo).find(revision)
    found = commit.listing(path.strip("/"), call.asked("recursive"))
    return [entry(commit, name, file, call.asked("expand")) for name, file in found.items()]


@route("POST", "/api/{kind}/{repo}/paths-info/{revision}")
def paths_info(call: Call, kind: str, repo: str, revision: str) -> Any:
    commit = call.open(kind, repo).find(revision)
    form = parse_qs(call.body.decode())
    everything, expand = commit.listing(recursive=True), form.get("expand", [""])[0].lower() == "true"
    asked = [path.strip("/") for path in form.get("paths", [])]
    return [entry(commit, path, everything[path], expand) for path in asked if path in everything]


@route("GET", "/api/{kind}/{repo}/refs")
def refs(call: Call, kind: str, repo: str) -> Any:
    repository = call.open(kind, repo)

    def told(names: dict[str, str], folder: str) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": oid} for name, oid in names.items()]

    branches, tags = told(repository.branches, "heads"), told(repository.tags, "tags")
    return {"branches": branches, "tags": tags, "converts": [], "pullRequests": []}


@route("GET", "/api/{kind}/{repo}/commits/{revision}")
def commits(call: Call, kind: str, repo: str, revision: str) -> Any:
    def told(commit: Commit) -> dict[str, Any]:
        texts = {"title": commit.title, "message": commit.message}
        return {"id": commit.oid, "authors": [{"user": commit.author}], "date": commit.date.strftime(DATE), **texts}

    return [told(commit) for commit in call.open(kind, repo).find(revision).history()]


@route("POST", "/api/{kind}/{repo}/{label}/{name}")
def create_label(call: Call, kind: str, repo: str, label: str, name: str) -> Any:
    """A branch is named in the address and starts where the body says; with a tag it is the other way round."""
    repository, asked = call.open(kind, repo, write=True), call.json
    labels, start = repository.tags, name
    if label == "branch":
        labels, start = repository.branches, asked.get("startingPoint") or "main"
    new = name if label == "branch" else asked["tag"]
    if new in labels:
        raise Refusal(409, f"Reference already exists: {new}")
    labels[new] = repository.find(start).oid
    return "OK"


@route("DELETE", "/api/{kind}/{repo}/{label}/{name}")
def delete_label(call: Call, kind: str, repo: str, label: str, name: str) -> Any:
    repository = call.open(kind, repo, write=True)
    if name == "main":
        raise Refusal(403, "The main branch stays")
    if (repository.branches if label == "branch" else repository.tags).pop(name, None) is None:
        raise Refusal(404, f"There is no {label} {name}", "RevisionNotFound")
    return "OK"


# Uploads


@route("POST", "/api/validate-yaml")
def validate_yaml(call: Call) -> Any:
    try:
        found = front_matter(call.json["content"])
    except yaml.YAMLError as error:
        return as_json({"errors": [{"message": str(error)}], "warnings": []}, 400)
    missing = {"message": "empty or missing yaml metadata in repo card"}
    return {"errors": [], "warnings": [] if found else [missing]}


@route("POST", "/api/{kind}/{repo}/preupload/{revision}")
def preupload(call: Call, kind: str, repo: str, revision: str) -> Any:
    present = call.open(kind, repo, write=True).find(revision).files
    hosted = present[".gitignore"].data.decode() if ".gitignore" in present else ""
    lines = [line.strip().strip("/") for line in call.json.get("gitIgnore", hosted).splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]

    def told(file: dict[str, Any]) -> dict[str, Any]:
        path, names = file["path"], [file["path"], *file["path"].split("/")]
        large = is_large(path, file["size"], base64.b64decode(file.get("sample", "")))
        ignored = any(fnmatch.fnmatch(name, pattern) for name in names for pattern in patterns)
        answer = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": ignored}
        return answer | ({"oid": present[path].etag} if path in present else {})

    return {"files": [told(file) for file in call.json["files"]]}


@route("POST", "/{prefix}{repo}\\.git/info/lfs/objects/batch")
def lfs_batch(call: Call, kind: str, repo: str) -> Any:
    objects = call.open(kind, repo, write=True).objects
    place = f"{call.state.url}/lfs/{kind}/{quote(repo)}"

    def told(asked: dict[str, Any]) -> dict[str, Any]:
        actions = {"upload": {"href": f"{place}/{asked['oid']}"}, "verify": {"href": f"{place}/{asked['oid']}/verify"}}
        return asked if asked["oid"] in objects else asked | {"actions": actions}

    return {"transfer": "basic", "objects": [told(asked) for asked in call.json["objects"]]}


@route("PUT", "/lfs/{kind}/{repo}/{oid}")
def lfs_upload(call: Call, kind: str, repo: str, oid: str) -> Any:
    """As to a bucket: the caller brings no token, the address is the secret."""
    if hashlib.sha256(call.body).hexdigest() != oid:
        raise Refusal(400, f"These bytes are not {oid}")
    call.state.repositories[kind, repo].objects[oid] = call.body
    return Reply()


@route("POST", "/lfs/{kind}/{repo}/{oid}/verify")
def lfs_verify(call: Call, kind: str, repo: str, oid: str) -> Any:
    stored = call.open(kind, repo, write=True).objects.get(oid)
    if stored is None or len(stored) != call.json["size"]:
        raise Refusal(422, f"{oid} is not here in full")
    return {}


@route("POST", "/api/{kind}/{repo}/commit/{name}")
def commit(call: Call, kind: str, repo: str, name: str) -> Any:
    repository = call.open(kind, repo, write=True)
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
    page = f"{call.state.url}/{'' if kind == 'models' else kind + '/'}{repo}/commit/{made.oid}"
    return {"success": True, "commitOid": made.oid, "commitUrl": page, "hookOutput": ""}


def change(files: dict[str, StoredFile], repository: Repository, key: str, value: dict[str, Any]) -> None:
    """Do to `files` what one line of a commit says."""
    path = value.get("path", "").strip("/")
    if key == "file":
        content = value["content"]
        files[path] = StoredFile(base64.b64decode(content) if value.get("encoding") == "base64" else content.encode())
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


# Downloads


@route("GET", "/{prefix}{repo}/resolve/{revision}/{path}")
def resolve(call: Call, kind: str, repo: str, revision: str, path: str) -> Reply:
    found, file = call.open(kind, repo, content=True).file(revision, path)
    headers = {"X-Repo-Commit": found.oid, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
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
