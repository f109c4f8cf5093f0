"""The whole page: what is loading, and a tab for each way of looking."""

from __future__ import annotations

import gradio as gr

from synclr_hf.explorer.page.browser_tab import browser_tab
from synclr_hf.explorer.page.comparison_tab import comparison_tab
from synclr_hf.explorer.page.maps_tab import maps_tab
from synclr_hf.explorer.page.retrieval_tab import retrieval_tab
from synclr_hf.explorer.session import Explorer

TABS = {"retrieval": "Retrieval", "maps": "PCA maps", "browser": "Data", "comparison": "Compare"}
"""Id -> title."""


def build_page(explorer: Explorer) -> gr.Blocks:
    """Build the page; nothing is loaded, and the explorer need not be ready."""
    built = {"retrieval": retrieval_tab, "maps": maps_tab, "browser": browser_tab, "comparison": comparison_tab}
    with gr.Blocks(title="SynCLR explorer") as page:
        gr.Markdown("# SynCLR explorer")
        status = gr.Markdown(elem_id="status")
        with gr.Tabs(selected="retrieval") as tabs:
            made = {}
            for name, title in TABS.items():
                with gr.Tab(title, id=name):
                    made[name] = built[name](explorer)
        loaded = page.load(lambda: _wait(explorer), None, status, api_visibility="private")
        for tab in made.values():
            if tab.on_ready is not None:
                loaded = loaded.then(lambda tab=tab: tab.on_ready(), None, list(tab.filled), api_visibility="private")
        for tab in made.values():
            for gallery in tab.galleries:
                for button, target in ((gallery.nearest, "retrieval"), (gallery.maps, "maps")):
                    if (taking := made[target].take_row) is not None:
                        button.click(
                            lambda row, target=target: [row, gr.update(selected=target)],
                            [gallery.chosen],
                            [taking, tabs],
                            api_visibility="private",
                        )
    return page


def _wait(explorer: Explorer) -> str:
    explorer.wait(600)
    return explorer.state.text
