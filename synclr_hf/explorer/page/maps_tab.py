"""The tab "PCA maps": what the encoder sees in each patch, as colours."""

from __future__ import annotations

import gradio as gr

from synclr_hf.explorer.page.tab import Tab
from synclr_hf.explorer.session import Explorer


def maps_tab(explorer: Explorer) -> Tab:
    """Build the tab inside an open `gr.Tab`."""
    gr.Markdown("...")
    return Tab()
