"""The Hub as a test sees it."""

import os
import re
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path
from typing import Any, Self

from .faults import Fault, Request
from .server import HubServer
from .storage import Account, Repository, StoredFile, is_large

ROOT = Path(__file__).parents[2]
WRITER, READER, STRANGER = "token-writer", "token-reader", "token-stranger"
FOREIGN = re.compile(r"(HF|HUGGING_?FACE(_HUB)?|TRANSFORMERS|DIFFUSERS|DATASETS|XDG)_.*|.*_PROXY", re.IGNORECASE)


class Hub:
    """A server in a thread, and clients in processes of their own: what they read at import is then the test's."""

    user, organization = "ada", "org"
    token, read_only_token, stranger_token = WRITER, READER, STRANGER

    def __init__(self, folder: Path):
        orgs = (self.organization,)
        writer, reader = Account(self.user, orgs), Account(self.user, orgs, writes=False)
        self.folder = folder
        self._server = HubServer({WRITER: writer, READER: reader, STRANGER: Account("stranger")})
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return self._server.state.url

    @property
    def requests(self) -> list[Request]:
        """All requests so far, in order of arrival."""
        return self._server.requests

    @property
    def crashes(self) -> list[str]:
        """Errors of the server itself; the fixture checks that there are none."""
        return self._server.crashes

    def calls(self, method: str, path: str) -> list[Request]:
        """The requests of `method` whose raw path matches the regular expression."""
        return [request for request in self.requests if request.method == method and re.search(path, request.path)]

    def uploads(self) -> list[Request]:
        """The requests that brought bytes of large files, whatever became of them."""
        return self.calls("PUT", "^/lfs/") + self.calls("POST", "^/xet/v1/xorbs/")

    def fail(self, method: str, path: str, **outcome: Any) -> Fault:
        """Let the next requests of `method` whose raw path, query included, matches `path` go wrong.

        Args:
            method: The method, in capitals.
            path: A regular expression, searched for.
            outcome: `status` replies with an error (and `headers`, if given), `cut` sends that many bytes of the
                body and hangs up, `close` hangs up without a reply; with `after=True` the work is done before. `delay`
                waits that many seconds first, and may stand alone. `times` is the number of requests, 1 unless given.

        Returns:
            The rule, whose `met` counts the requests it has met.
        """
        return self._server.faults.add(Fault(method, path, **outcome))

    def add(
        self, repo_id: str, files: dict[str, bytes], repo_type: str = "model", private: bool = False
    ) -> Repository:
        """Put a repository on the Hub without any client."""
        kind = f"{repo_type}s"
        repository = Repository(kind, repo_id, self.user, private)
        stored = {path: StoredFile(data, is_large(path, len(data), data[:512])) for path, data in files.items()}
        repository.objects = {file.sha256: file.data for file in stored.values() if file.lfs}
        repository.commit("main", {**repository.find("main").files, **stored}, "Add files", "", self.user)
        self._server.state.repositories[kind, repo_id] = repository
        return repository

    def repository(self, repo_id: str, repo_type: str = "model") -> Repository:
        return self._server.state.repositories[f"{repo_type}s", repo_id]

    def files(self, repo_id: str, repo_type: str = "model", revision: str = "main") -> dict[str, bytes]:
        """All files of a revision; new repositories hold a .gitattributes, as on the Hub."""
        return {path: file.data for path, file in self.repository(repo_id, repo_type).find(revision).files.items()}

    def history(self, repo_id: str, repo_type: str = "model", revision: str = "main") -> list[str]:
        """The titles of all commits, the newest first."""
        return [commit.title for commit in self.repository(repo_id, repo_type).find(revision).history()]

    def environment(self, token: str | None = WRITER, **extra: str) -> dict[str, str]:
        """Variables for a process that knows this Hub only and has an empty cache of its own.

        Uploads go by Xet where the clients have it; HF_HUB_DISABLE_XET="1" in `extra` lets them go by LFS.
        """
        own = {name: value for name, value in os.environ.items() if not FOREIGN.fullmatch(name)}
        path = os.pathsep.join(filter(None, (str(ROOT), own.get("PYTHONPATH"))))
        home = tempfile.mkdtemp(prefix="home-", dir=self.folder)
        own |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HOME": home, "HF_ENDPOINT": self.url}
        own |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        own |= {"HF_UPDATE_DOWNLOAD_COUNTS": "0", "HF_XET_XORB_COMPRESSION_POLICY": "none"}
        return own | ({"HF_TOKEN": token} if token else {}) | extra

    def python(self, code: str, token: str | None = WRITER, timeout: float = 120, **extra: str) -> str:
        """Run Python in a fresh process, which has to succeed, and return what it printed."""
        done = self.try_python(code, token, timeout, **extra)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def try_python(
        self, code: str, token: str | None = WRITER, timeout: float = 120, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        """As `python`, for a process that may fail; both start in `folder`."""
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env=self.environment(token, **extra),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
