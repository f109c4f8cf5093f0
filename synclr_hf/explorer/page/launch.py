"""Serves the page, on this machine or in a Space."""

from __future__ import annotations

import logging
import os
import tempfile
from importlib import resources
from typing import Any

import gradio as gr

from synclr_hf.errors import UserInputError
from synclr_hf.explorer.page.page import build_page
from synclr_hf.explorer.session import Explorer
from synclr_hf.explorer.uploads import MAX_BYTES

MOST_WAITING = 200
"""Requests of one kind that may wait; further ones are told to come back."""
AT_ONCE = 8
"""Requests of one kind that are answered at once."""
_FONTS = ["ui-sans-serif", "system-ui", "sans-serif"]
_MONO = ["ui-monospace", "Consolas", "monospace"]


def launch(explorer: Explorer, *, port: int | None = None, host: str = "127.0.0.1", **options: Any) -> str:
    """Start loading and serve the page; return its address (with `prevent_thread_lock=True`, else when it ends).

    Args:
        explorer: what is shown.
        port: of the server; default: 7860, or the next one that is free.
        host: address to listen on.
        **options: of gradio's `launch`.

    Raises:
        UserInputError: the port is taken.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # A folder of this process alone: whoever ends deletes the files of its page, and those of two pages have one name.
    if "GRADIO_TEMP_DIR" not in os.environ:
        os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="synclr_explorer_")
    page = build_page(explorer)
    page.queue(max_size=MOST_WAITING, default_concurrency_limit=AT_ONCE)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # gradio asks its own server whether it is there
    explorer.start()
    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            max_file_size=MAX_BYTES,
            theme=theme(),
            head=head(),
            footer_links=["api"],
            enable_monitoring=False,
            show_error=False,
            quiet=True,
            max_threads=80,
            **options,
        )
    except OSError as error:
        raise UserInputError(
            f"--port {port} cannot be used ({str(error).splitlines()[0].rstrip('.')}); type another one, or leave it "
            "out"
        ) from error
    return str(url)


def head() -> str:
    """Return style and script for the head of the page; gradio's own way for styles puts a prefix on every rule."""
    files = resources.files("synclr_hf.explorer.page")
    style, script = ((files / name).read_text(encoding="utf-8") for name in ("style.css", "page.js"))
    return f"<style>{style}</style><script>{script}</script>"


def theme() -> gr.themes.Base:
    """Return the theme: quiet, with the fonts of the visitor's machine, so that nothing is loaded from elsewhere."""
    hues = {"primary_hue": "teal", "secondary_hue": "teal", "neutral_hue": "slate"}
    quiet = gr.themes.Default(**hues, font=_FONTS, font_mono=_MONO)
    return quiet.set(  # white words need a darker ground than the theme's, links a lighter colour in the dark
        color_accent="*primary_700",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_600",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
    )
