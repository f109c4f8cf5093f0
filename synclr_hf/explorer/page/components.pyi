"""Parts that several tabs show: an upload that is checked by us, a gallery of pictures of the index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from synclr_hf.explorer.session import Explorer

class Upload(gr.Image):
    """A picture from a file, the camera or the clipboard; functions get the path of the file, unread.

    Gradio's own component opens the file before any check of ours; read it with `read_upload`.
    """

    is_template = True  # the frontend shows it as what it is made of; it reads the parameters off `__init__`

    def preprocess(self, payload: Any) -> str | None:
        """Return the path of the uploaded file; gradio has checked that it is one."""
        return None if payload is None else payload.path
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component

@dataclass(frozen=True)
class Shown:
    """A picture of the index as a gallery shows it.

    Attributes:
        row: its place in the index.
        words: below it, also what is read out to those who do not see it.
    """

    row: int
    words: str

class PictureGallery:
    """Pictures of the index; one can be chosen by click or keyboard, and looked at elsewhere on the page.

    Attributes:
        chosen: row of the picture that is chosen, `None` before.
        nearest: button that asks for the pictures nearest to the chosen one.
        maps: button that asks for the PCA map of the chosen one.
    """

    def __init__(self, explorer: Explorer, label: str, *, columns: int = 4, elem_id: str | None = None) -> None:
        self._explorer = explorer
        self.gallery = gr.Gallery(
            label=label, columns=columns, allow_preview=False, object_fit="contain", interactive=False, elem_id=elem_id
        )
        self.rows = gr.State([])
        self.chosen = gr.State(None)
        self.told = gr.Markdown()
        with gr.Row():
            self.nearest = gr.Button("More like this", size="sm", interactive=False)
            self.maps = gr.Button("PCA map", size="sm", interactive=False)
        self.gallery.select(
            self._choose, [self.rows], [self.chosen, self.told, self.nearest, self.maps], api_visibility="private"
        )

    @property
    def outputs(self) -> list[Any]:
        """The components that `values` fills."""
        return [self.gallery, self.rows, self.chosen, self.told, self.nearest, self.maps]

    def values(self, pictures: Sequence[Shown]) -> list[Any]:
        """Return what goes into `outputs` to show some pictures, none of them chosen."""
        index = self._explorer.index
        shown = [(index.thumbnail(picture.row), picture.words) for picture in pictures]
        off = gr.update(interactive=False)
        return [shown, [picture.row for picture in pictures], None, "", off, off]

    def _choose(self, rows: list[int], event: gr.SelectData) -> list[Any]:
        row = rows[event.index]
        picture = self._explorer.index.picture(row)
        on = gr.update(interactive=True)
        return [row, f"**{picture.concept}** {picture.caption}", on, on]
