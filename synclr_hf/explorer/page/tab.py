"""What a tab hands to the page that holds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from synclr_hf.explorer.page.components import ChosenPicture


@dataclass(frozen=True)
class Tab:
    """A tab, built inside `with gr.Tab(...)`.

    Attributes:
        on_ready: fills the tab for a visitor when model and index are there: returns a value for each of `filled`.
        filled: components that `on_ready` fills.
        panels: what is said about a picture that was chosen; the page connects their buttons with the other tabs.
        take: what the tab does with a picture of the index that was chosen elsewhere: `take(event, row)` adds it
            behind an event (`.then`); `row` is the component that holds the row.
    """

    on_ready: Callable[[], Sequence[Any]] | None = None
    filled: Sequence[Any] = ()
    panels: Sequence[ChosenPicture] = field(default_factory=tuple)
    take: Callable[[Any, Any], Any] | None = None
