"""An OpenAI-compatible server to test against, on 127.0.0.1: canned texts, and the faults that a test asks for."""

import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Fault:
    """What goes wrong with one request.

    Attributes:
        status: of the reply.
        body: instead of the real one.
        headers: more of them.
        cut: hang up half-way through the body.
        close: hang up without a word.
        delay: seconds before the reply.
    """

    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    close: bool = False
    delay: float = 0


GARBAGE = Fault(body=b"<html>Bad gateway</html>")
EMPTY = Fault(body=b'{"choices": []}')
CUT = Fault(cut=True)
CLOSED = Fault(close=True)


def busy(retry_after=None):
    return Fault(429, b"", {"Retry-After": str(retry_after)} if retry_after is not None else {})


def error(status, message, **more):
    return Fault(status, json.dumps({"error": {"message": message, **more}}).encode())


class LanguageServer(ThreadingHTTPServer):
    """Answers `/v1/chat/completions` and `/v1/completions` with `write(prompt, body)`.

    It returns a text, a text with its finish_reason, or what goes wrong with this prompt whenever it comes, a `Fault`.

    Attributes:
        faults: met by the next requests, one each; `None` is a request that goes well.
        always: met by every request after those.
        delay: seconds that every answer takes.
        requests: (seconds, path, headers, body) in order of arrival.
        most_at_once: largest number of requests that were open at a time.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, write=None, *, delay=0.0, port=0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.write = write or (lambda prompt, body: f"{prompt.splitlines()[-1]} written with seed {body['seed']}")
        self.delay = delay
        self.faults: deque[Fault | None] = deque()
        self.always: Fault | None = None
        self.requests = []
        self.most_at_once = self._open = 0
        self._lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """Clients may hang up at any time."""

    def arrive(self, path, headers, body):
        with self._lock:
            self.requests.append((time.monotonic(), path, headers, body))
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
            return self.faults.popleft() if self.faults else self.always

    def leave(self):
        with self._lock:
            self._open -= 1

    def reply(self, path, body):
        if path == "/v1/chat/completions":
            prompt = body["messages"][-1]["content"]
        elif path == "/v1/completions":
            prompt = body["prompt"]
        else:
            return 404, {"detail": "Not Found"}
        said = self.write(prompt, body)
        if isinstance(said, Fault):
            return said.status, said.body
        text, reason = said if isinstance(said, tuple) else (said, "stop")
        choice = {"text": text} if "prompt" in body else {"message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": 3}
        return 200, {
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": reason, **choice}],
            "usage": usage,
        }


class _Handler(BaseHTTPRequestHandler):
    server: LanguageServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = self.server.arrive(self.path, dict(self.headers), body) or Fault()
        try:
            time.sleep(self.server.delay + fault.delay)
            status, reply = self.server.reply(self.path, body)
            payload = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            payload = payload if fault.body is None else fault.body
        finally:
            self.server.leave()  # before the answer is out, or the next request could arrive first
        if fault.close:
            self.close_connection = True
            return
        self.send_response(fault.status if fault.status != 200 else status)
        for name, value in {"Content-Length": str(len(payload)), **fault.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload[: len(payload) // 2] if fault.cut else payload)
        self.close_connection = self.close_connection or fault.cut

    def log_message(self, *_):
        """Say nothing."""
