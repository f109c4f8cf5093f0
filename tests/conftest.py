"""What every test may use; nothing here touches the network, the Hub of `hub` is one of this machine."""

import os
import socket

import pytest
from hub_server import Hub

os.environ["HF_HUB_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: more threads would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture
def free_port() -> int:
    """A port of the loopback interface that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def hub(tmp_path_factory):
    """A Hub with nothing on it, for clients in processes of their own."""
    with Hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub
    assert hub.crashes == []
