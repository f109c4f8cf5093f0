"""How a request finds its route; addresses are matched before percent-decoding."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

from .storage import Account, Refusal, Repository

PARTS = {
    "kind": "(?P<kind>models|datasets|spaces)",
    "prefix": "(?P<kind>(?:datasets/|spaces/)?)",
    "repo": "(?P<repo>[^/]+/[^/]+?)",
    "label": "(?P<label>branch|tag)",
    **{name: f"(?P<{name}>[^/]+)" for name in ("revision", "name", "oid")},
    "path": "(?P<path>.+)",
}
ROUTES: list[tuple[str, re.Pattern[str], str | None, Callable[..., Any]]] = []


@dataclass
class Reply:
    """An answer that is not plain JSON."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class State:
    """All that the server knows; what came by Xet belongs to no single repository."""

    url: str
    tokens: dict[str, Account]
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    xorbs: dict[str, list[bytes]] = field(default_factory=dict)
    chunks: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Call:
    """One request, as the routes see it."""

    state: State
    method: str
    raw_path: str
    headers: dict[str, str]
    body: bytes

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
        return parse_qs(self.raw_path.partition("?")[2]).get(name, [""])[0].lower() in ("true", "1")

    def writer(self, namespace: str | None = None) -> Account:
        """The caller, who may write to the namespace; the own one where none is given."""
        account = self.account
        if account is None:
            raise Refusal(401, "Invalid username or password.")
        if not (account.writes and account.belongs_to(namespace or account.name)):
            raise Refusal(403, f"You do not have the rights to write to {namespace or account.name} with this token")
        return account

    def open(self, kind: str, name: str, access: str) -> Repository:
        """The repository, for a caller who may know of it and has the access."""
        account, repository = self.account, self.state.repositories.get((kind, name))
        member = bool(repository and account and account.belongs_to(repository.namespace))
        if repository is None or (repository.private and not member):
            raise Refusal(404 if account else 401, "Repository not found", "RepoNotFound")
        if access == "content" and repository.gated and not member:
            raise Refusal(403 if account else 401, f"Access to {name} is restricted", "GatedRepo")
        if access == "write":
            self.writer(repository.namespace)
        return repository


def route(method: str, pattern: str, access: str | None = "read") -> Callable[..., Any]:
    """Let a function answer `method` on addresses like `pattern`; the {parts} are its arguments.

    With an access (to "read" about, "write", or get the "content" of files) {kind} and {repo} become `repository`.
    """

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        expression = re.sub(r"{(\w+)}", lambda part: PARTS[part[1]], pattern)
        ROUTES.append((method, re.compile(expression), access if "{repo}" in pattern else None, function))
        return function

    return add


def answer(call: Call) -> Reply:
    path = call.raw_path.partition("?")[0]
    try:
        for method, pattern, access, function in ROUTES:
            if method == call.method.replace("HEAD", "GET") and (found := pattern.fullmatch(path)):
                parts: dict[str, Any] = {name: unquote(part) for name, part in found.groupdict("").items()}
                if access:
                    kind = parts.pop("kind").rstrip("/") or "models"
                    parts["repository"] = call.open(kind, parts.pop("repo"), access)
                result = function(call, **parts)
                return result if isinstance(result, Reply) else as_json(result)
        raise Refusal(404, f"This server knows no {call.method} {path}")
    except Refusal as refusal:
        return as_json(refusal.body, refusal.status, refusal.headers)


def as_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})
