"""A page on a port of its own: two processes of tests would both find gradio's first one free."""

import socket

from synclr_hf.explorer.page.launch import launch


def served(explorer):
    """Serve the page of an explorer and return its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return launch(explorer, port=port, prevent_thread_lock=True).rstrip("/")
