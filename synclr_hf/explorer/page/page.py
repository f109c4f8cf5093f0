"""The whole page: what is loading, and a tab for each way of looking."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from synclr_hf.explorer.page import wording
from synclr_hf.explorer.page.browser_tab import browser_tab
from synclr_hf.explorer.page.comparison_tab import comparison_tab
from synclr_hf.explorer.page.components import PRIVATE, ChosenPicture
from synclr_hf.explorer.page.friendly import friendly
from synclr_hf.explorer.page.maps_tab import maps_tab
from synclr_hf.explorer.page.retrieval_tab import retrieval_tab
from synclr_hf.explorer.page.tab import Tab
from synclr_hf.explorer.session import LONGEST_WAIT, Explorer

TABS = {"retrieval": "Retrieval", "maps": "PCA maps", "browser": "Data", "comparison": "Compare"}
"""Id -> title; `?tab=ID` behind the address opens one."""
_BUILDERS = {"retrieval": retrieval_tab, "maps": maps_tab, "browser": browser_tab, "comparison": comparison_tab}
_TELL_EVERY = 1.0
"""Seconds after which the status is told again while it is loading."""


def build_page(explorer: Explorer) -> gr.Blocks:
    """Build the page; nothing is loaded, and the explorer need not be ready."""
    with gr.Blocks(title="SynCLR explorer", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.HTML(wording.heading(explorer), elem_id="heading", padding=False)
        status = gr.HTML(wording.status(explorer, explorer.state), elem_id="status", padding=False)
        build = gr.Button("Build the index now", visible=False, elem_id="build")
        with gr.Tabs(selected="retrieval") as tabs:
            made: dict[str, Tab] = {}
            for name, title in TABS.items():
                with gr.Tab(title, id=name):
                    made[name] = _BUILDERS[name](explorer)
        gr.HTML(wording.foot(explorer), elem_id="foot", padding=False)
        page.load(_tab_of_address, None, tabs, **PRIVATE)
        told = {"fn": partial(_told, explorer), "outputs": [status, build], "concurrency_limit": None, **PRIVATE}
        ready = page.load(**told)
        built = build.click(friendly(explorer.build), None, None, **PRIVATE).then(**told)
        for event in (ready, built):
            _fill(event, list(made.values()), explorer)
        for tab in made.values():
            for panel in tab.panels:
                _connect(panel, made, tabs)
    return page


def _fill(event: Any, made: list[Tab], explorer: Explorer) -> None:
    """Fill all tabs behind an event; without an index they stay as they are."""
    filled = [component for tab in made for component in tab.filled]

    def values() -> list[Any]:
        state = explorer.state
        if state.stage != "ready" or state.no_index:
            return [gr.skip() for _ in filled]
        return [value for tab in made if tab.on_ready for value in tab.on_ready()]

    event.then(friendly(values), None, filled, **PRIVATE)


def _connect(panel: ChosenPicture, made: dict[str, Tab], tabs: gr.Tabs) -> None:
    buttons = {"retrieval": panel.nearest, "maps": panel.maps, "comparison": panel.side_by_side}
    for name, button in buttons.items():
        opened = button.click(lambda name=name: gr.Tabs(selected=name), None, tabs, **PRIVATE)
        made[name].take(opened, panel.row)  # type: ignore[misc]


def _tab_of_address(request: gr.Request) -> Any:
    """Open the tab that the address names."""
    name = request.query_params.get("tab")
    return gr.Tabs(selected=name) if name in TABS else gr.skip()


def _told(explorer: Explorer) -> Iterator[tuple[str, Any]]:
    """Tell how far the explorer is until nothing changes any more."""
    spent = 0.0
    state = explorer.state
    while True:
        can_build = state.stage == "ready" and state.no_index is not None and explorer.config.may_build is not None
        yield wording.status(explorer, state), gr.update(visible=can_build)
        if state.stage not in ("loading", "building") or spent > LONGEST_WAIT * 12:
            return
        state = explorer.wait_for_news(state, _TELL_EVERY)
        spent += _TELL_EVERY
