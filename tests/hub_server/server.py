"""HTTP in and out: bodies in full or in chunks, faults on the way, one thread per connection."""

import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from . import repositories, uploads, xet  # noqa: F401 - they add the routes
from .calls import Call, Reply, State, answer
from .faults import Faults, Request
from .storage import Account


class HubServer(ThreadingHTTPServer):
    """The routes on a free port, one request at a time behind one lock."""

    request_queue_size = 64

    def __init__(self, tokens: dict[str, Account]):
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.state = State(f"http://127.0.0.1:{self.server_port}", tokens)
        self.faults = Faults()
        self.requests: list[Request] = []
        self.crashes: list[str] = []
        self._lock = threading.Lock()

    def carry_out(self, call: Call) -> Reply:
        try:
            with self._lock:
                return answer(call)
        except Exception:
            self.crashes.append(f"{call.method} {call.raw_path}\n{traceback.format_exc()}")
            return Reply(500)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may hang up at any time, any other error is one of this server."""
        if not isinstance(sys.exception(), OSError):
            self.crashes.append(traceback.format_exc())


class HubHandler(BaseHTTPRequestHandler):
    """One connection."""

    server: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def serve(self) -> None:
        body = self.read_body()
        log = Request(self.command, self.path, len(body))
        self.server.requests.append(log)
        fault = self.server.faults.meet(self.command, self.path)
        reply = Reply()
        if fault:
            time.sleep(fault.delay)
        if fault is None or fault.works:
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = self.server.carry_out(Call(self.server.state, self.command, self.path, headers, body))
        if fault and fault.close:
            self.close_connection = True
            return
        if fault and fault.status is not None:
            reply = Reply(fault.status, headers={"X-Error-Message": "The test asked for this error"} | fault.headers)
        cut = fault.cut if fault else None
        payload = b"" if self.command == "HEAD" else reply.body[:cut]
        log.status, log.sent = reply.status, len(payload)
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)
        if cut is not None:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve

    def read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.read_all(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().partition(b";")[0] or b"0", 16):
            parts.append(self.read_all(size))
            self.read_all(2)
        while self.read_all(1) != b"\n":
            pass
        return b"".join(parts)

    def read_all(self, size: int) -> bytes:
        """Half a request is none: the client was killed or lost its network."""
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionError("The client hung up")
        return data

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: tests read the log."""
