"""What a tab hands to the page that holds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from synclr_hf.explorer.page.components import PictureGallery


@dataclass(frozen=True)
class Tab:
    """A tab, built inside `with gr.Tab(...)`.

    Attributes:
        on_ready: fills the tab for a visitor when model and index are there: returns a value for each of `filled`.
        filled: components that `on_ready` fills.
        galleries: pictures of the index that it shows; the page connects their buttons with the other tabs.
        take_row: the component (a `gr.State`) that holds a row of the index which another tab has sent here, if the
            tab takes any; the tab listens to its `change`.
    """

    on_ready: Callable[[], Sequence[Any]] | None = None
    filled: Sequence[Any] = ()
    galleries: Sequence[PictureGallery] = field(default_factory=tuple)
    take_row: Any = None
