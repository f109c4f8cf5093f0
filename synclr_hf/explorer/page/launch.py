"""Starts the page on this machine."""

from __future__ import annotations

from typing import Any

from synclr_hf.explorer.page.page import build_page
from synclr_hf.explorer.session import Explorer
from synclr_hf.explorer.uploads import MAX_BYTES


def launch(explorer: Explorer, *, port: int | None = None, **options: Any) -> str:
    """Start loading and serve the page; return its address (with `prevent_thread_lock=True`)."""
    page = build_page(explorer)
    explorer.start()
    _, url, _ = page.queue(max_size=256).launch(server_port=port, max_file_size=MAX_BYTES, quiet=True, **options)
    return url
