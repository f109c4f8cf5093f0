"""`synclr demo`: look at what an encoder sees, in the browser."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec

from synclr_hf.errors import UserInputError
from synclr_hf.explorer.config import run_config
from synclr_hf.explorer.session import Explorer

OLDEST_GRADIO = (6, 31)
"""Major and minor version."""


def main(arguments: Sequence[str]) -> None:
    """Parse the options and serve the page until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="synclr demo", description=__doc__)
    parser.add_argument("run", help="folder of a run, e.g. outputs/quickstart, of an encoder, or ORG/NAME on the Hub")
    parser.add_argument("--index", help="folder or Hub id of an index (default: that of the run, or ORG/NAME-index)")
    parser.add_argument("--port", type=int, help="port of the page (default: 7860 or the next one that is free)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="where to listen; 0.0.0.0: everywhere (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if find_spec("gradio") is None:
        raise UserInputError('synclr demo needs gradio; type pip install "synclr-hf[space]"')
    if options.port is not None and not 1 <= options.port <= 65535:
        raise UserInputError(f"--port {options.port} cannot be used; allowed: 1 to 65535; type --port 7860")
    try:
        _serve(options)
    except KeyboardInterrupt:
        sys.stdout.flush()
        os._exit(0)  # threads that load or compute would be waited for


def _serve(options: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    explorer = Explorer(run_config(options.run, index=options.index))
    _check_gradio()
    from synclr_hf.explorer.page.launch import launch

    url = launch(explorer, port=options.port, host=options.host, prevent_thread_lock=True)
    print(f"demo: {url.rstrip('/')} (Ctrl-C ends it)", flush=True)
    while True:
        threading.Event().wait(3600)


def _check_gradio() -> None:
    """Refuse a gradio that the page is not made for; it would fail with a traceback."""
    found = version("gradio")
    if tuple(int(part) for part in found.split(".")[:2] if part.isdigit()) < OLDEST_GRADIO:
        wanted = ".".join(map(str, OLDEST_GRADIO))
        raise UserInputError(
            f'synclr demo needs gradio {wanted} or newer, not {found}; type pip install --upgrade "synclr-hf[space]"'
        )
