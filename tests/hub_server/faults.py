"""What a test asks to go wrong, and the log of what came in."""

import re
import threading
from dataclasses import dataclass, field


@dataclass
class Request:
    """One request; the reply's status is 0 and nothing is sent when the connection closed without one."""

    method: str
    path: str
    received: int
    status: int = 0
    sent: int = 0


@dataclass
class Fault:
    """What happens to the next `times` requests of `method` whose raw path, query included, matches `path`."""

    method: str
    path: str
    status: int | None = None
    cut: int | None = None
    close: bool = False
    after: bool = False
    delay: float = 0.0
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    met: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        outcomes = (self.status is not None) + (self.cut is not None) + self.close
        if outcomes > 1 or not (outcomes or self.delay):
            raise ValueError("Give one of status, cut and close, or a delay.")

    @property
    def works(self) -> bool:
        """Whether the request is carried out all the same."""
        return self.after or (self.status is None and not self.close)


class Faults:
    """The rules of one server, in the order in which the test gave them."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        self._rules.append(fault)
        return fault

    def meet(self, method: str, path: str) -> Fault | None:
        """Use up one turn of the first rule that fits."""
        with self._lock:
            for fault in self._rules:
                if fault.met < fault.times and fault.method == method and re.search(fault.path, path):
                    fault.met += 1
                    return fault
        return None
