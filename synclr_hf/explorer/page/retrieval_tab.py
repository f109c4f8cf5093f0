"""The tab "Retrieval": the pictures of the index that are nearest to a query."""

from __future__ import annotations

import gradio as gr

from synclr_hf.explorer.page.tab import Tab
from synclr_hf.explorer.session import Explorer


def retrieval_tab(explorer: Explorer) -> Tab:
    """Build the tab inside an open `gr.Tab`."""
    gr.Markdown("...")
    return Tab()
