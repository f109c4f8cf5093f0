"""Parts that several tabs show: an upload that is checked by us, a gallery of pictures of the index."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from synclr_hf.explorer.page.friendly import friendly
from synclr_hf.explorer.page.kept_pictures import keep_pictures
from synclr_hf.explorer.page.wording import about_picture
from synclr_hf.explorer.session import Explorer

_CHOOSE = "Choose a picture to go on from it."
PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}
"""Options of an event that only the page uses."""


def picture_upload(label: str, *, height: int, elem_id: str | None = None) -> gr.Image:
    """Return a field for one picture from a file, the camera or the clipboard; functions get its path, unread.

    Gradio would open the file before any check of ours; read it with `read_upload`. (A subclass would have to lie in a
    folder where gradio may write: it makes a stub file beside it.)
    """
    sources = ["upload", "webcam", "clipboard"]
    field = gr.Image(label=label, height=height, elem_id=elem_id, sources=sources, type="filepath", format="png")
    field.preprocess = partial(_uploaded, Path(field.GRADIO_CACHE).resolve())  # type: ignore[method-assign]
    keep_pictures(field)
    return field


def _uploaded(uploads: Path, payload: Any) -> str | None:
    """Return the path of an uploaded picture.

    Gradio checks that it is one only where the request calls it a file: `{"path": "/any/picture"}` without `meta`
    would be read from the disk of the server.

    Args:
        uploads: folder that uploads lie in.
        payload: what gradio made of the request.

    Raises:
        gr.Error: it was not uploaded.
    """
    if payload is None or payload.path is None:
        return None
    file = Path(payload.path).resolve()
    if not file.is_relative_to(uploads):
        raise gr.Error("upload the picture first", print_exception=False, title="Not possible")
    return str(file)


def patch_picture(label: str, elem_id: str) -> gr.Image:
    """Return a picture whose patches are chosen by a click; see `patch_at`."""
    field = gr.Image(label=label, interactive=False, elem_id=elem_id, buttons=[])
    keep_pictures(field)
    return field


def choice(label: str, *, multiselect: bool = False, **options: Any) -> gr.Dropdown:
    """Return a list that is filled when the index is there, of which one or several are chosen.

    Gradio would check values against the list of its first moment, which is empty; the functions check them.
    """
    field = gr.Dropdown([], label=label, multiselect=multiselect, **options)
    text = {"type": "string"}
    field.preprocess = lambda payload: payload  # type: ignore[method-assign]
    field.api_info = lambda: {"type": "array", "items": text} if multiselect else text  # type: ignore[method-assign]
    return field


class ChosenPicture:
    """What is known about the picture that was chosen last, and where one can go with it.

    Attributes:
        row: its row in the index, `None` before.
        nearest: button that asks for the pictures nearest to it.
        maps: button that asks for its PCA map.
        side_by_side: button that compares two encoders on it.
        parts: all components, filled by `nothing`.
    """

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer
        self.row = gr.State(None)
        told = gr.Markdown(_CHOOSE, elem_classes="chosen-words")
        with gr.Row(elem_classes="chosen-buttons"):
            self.nearest = gr.Button("More like this", size="sm", interactive=False, min_width=120)
            self.maps = gr.Button("PCA map", size="sm", interactive=False, min_width=120)
            self.side_by_side = gr.Button("Compare encoders", size="sm", interactive=False, min_width=120)
        self.parts = [self.row, told, self.nearest, self.maps, self.side_by_side]

    def listen(self, grid: gr.Gallery, rows: gr.State) -> None:
        """Take the picture that is chosen in a gallery which shows these rows."""
        grid.select(friendly(self._choose), [rows], self.parts, **PRIVATE)

    @staticmethod
    def nothing(there_are_some: bool = True) -> list[Any]:
        """Return what `parts` show while none is chosen."""
        off = gr.update(interactive=False)
        return [None, _CHOOSE if there_are_some else "", off, off, off]

    def _choose(self, rows: list[int], event: gr.SelectData) -> list[Any]:
        row = rows[event.index]
        on = gr.update(interactive=True)
        return [row, about_picture(self._explorer.index.picture(row)), on, on, on]


class PictureGallery:
    """Pictures of the index; one can be chosen by click or keyboard.

    Attributes:
        gallery: the pictures.
        panel: what is said about the chosen one.
        after: the components beside the pictures, filled by `values_after`.
    """

    def __init__(self, explorer: Explorer, label: str, *, columns: int = 4, elem_id: str | None = None) -> None:
        self.gallery = picture_grid(label, columns=columns, elem_id=elem_id)
        self._rows = gr.State([])
        self.panel = ChosenPicture(explorer)
        self.panel.listen(self.gallery, self._rows)
        self.after = [self._rows, *self.panel.parts]

    def values_after(self, rows: Sequence[int]) -> list[Any]:
        """Return what goes into `after` when the gallery shows these rows, none of them chosen."""
        return [list(rows), *self.panel.nothing(bool(rows))]


def patch_at(side: int, event: gr.SelectData) -> tuple[int, int]:
    """Return row and column of the patch that was chosen on a picture with patches of `side` pixels."""
    x, y = event.index
    return int(y) // side, int(x) // side


def picture_grid(label: str, *, columns: int = 4, elem_id: str | None = None, words: bool = True) -> gr.Gallery:
    """Return a gallery whose pictures are chosen, not enlarged, by a click; `words` says whether theirs are shown."""
    grid = gr.Gallery(
        label=label,
        columns=columns,
        allow_preview=False,
        object_fit="contain",
        interactive=False,
        elem_id=elem_id,
        elem_classes=["picture-grid"] if words else ["picture-grid", "without-words"],
        buttons=[],
        format="jpeg",
    )
    keep_pictures(grid)
    return grid
