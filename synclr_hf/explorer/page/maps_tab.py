"""The tab "PCA maps": what the encoder sees in each patch, as colours that mean the same in several pictures."""

from __future__ import annotations

import random
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from PIL import Image

from synclr_hf.errors import UserInputError
from synclr_hf.explorer.page.components import PRIVATE, patch_at, patch_picture, picture_grid, picture_upload
from synclr_hf.explorer.page.friendly import friendly, warn
from synclr_hf.explorer.page.tab import Tab
from synclr_hf.explorer.session import Explorer
from synclr_hf.explorer.uploads import read_upload

MOST_PICTURES = 8
RESOLUTIONS = [("112 pixels (fast)", 112), ("224 pixels", 224), ("448 pixels", 448), ("672 pixels (slow)", 672)]
_LONGEST = 672
_NO_FILE = gr.update(value=None, visible=False)


def maps_tab(explorer: Explorer) -> Tab:
    """Build the tab inside an open `gr.Tab`."""
    functions = _Functions(explorer)
    pictures = gr.State([])
    number, side = gr.State(0), gr.State(1)
    with gr.Row():
        with gr.Column(scale=1, min_width=240):
            files = gr.File(label="One to eight pictures", file_count="multiple", elem_id="map-files", height=140)
            one = picture_upload("One from the camera or the clipboard", height=160, elem_id="map-picture")
            examples = gr.Button("Four pictures of one concept")
            clear = gr.Button("Remove all")
            resolution = gr.Dropdown(RESOLUTIONS, value=224, label="Resolution (longer side)")
            overlay = gr.Slider(0, 100, value=80, step=5, label="Colours over the picture, in %", elem_id="overlay")
            foreground = gr.Checkbox(False, label="Foreground only", elem_id="foreground")
            threshold = gr.Slider(-2, 2, value=0, step=0.1, label="Foreground threshold, in standard deviations")
            smooth = gr.Checkbox(False, label="Smooth between patches")
        with gr.Column(scale=2, min_width=240):
            maps = picture_grid("PCA maps: choose one to look at its patches", elem_id="maps")
            told = gr.Markdown("Add pictures to see them through the encoder.")
            download = gr.Button("Make a ZIP of maps, sheet and basis")
            packed = gr.File(label="Maps, sheet, basis (for synclr visualize)", interactive=False, visible=False)
            functions.cache = packed.GRADIO_CACHE
    with gr.Accordion("What is like this patch?", open=True):
        with gr.Row():
            with gr.Column(scale=1, min_width=240):
                grid = patch_picture("Choose a patch", "map-patches")
                with gr.Row():
                    which = gr.Number(
                        1, label="Picture, from 1", precision=0, minimum=1, maximum=MOST_PICTURES, min_width=70
                    )
                    row = gr.Number(0, label="Row, from 0", precision=0, minimum=0, min_width=70)
                    column = gr.Number(0, label="Column, from 0", precision=0, minimum=0, min_width=70)
                ask = gr.Button("Show what is like it")
            with gr.Column(scale=2, min_width=240):
                similar = picture_grid("Similarity with the patch", elem_id="similar")
                similar_told = gr.Markdown()

    patch_parts = [grid, side, similar, similar_told, which]
    settings = [resolution, foreground, threshold, overlay, smooth]
    encoding = {"concurrency_id": "encoder", "trigger_mode": "always_last"}

    def drawn(event: Any) -> Any:
        """Draw the maps of the pictures that are there now."""
        shown = event.then(friendly(functions.draw), [pictures, *settings], [maps, told], **_quiet(encoding))
        return shown.then(
            friendly(functions.patches),
            [pictures, number, resolution],
            patch_parts,
            **PRIVATE,
        )

    drawn(files.upload(friendly(functions.add_files), [pictures, files], [pictures, files], **PRIVATE))
    drawn(one.input(friendly(functions.add_one), [pictures, one], [pictures, one], **PRIVATE))
    drawn(examples.click(friendly(functions.some), None, pictures, **PRIVATE))
    drawn(clear.click(lambda: ([], 0, _NO_FILE), None, [pictures, number, packed], **PRIVATE))
    for control in settings:
        changed = control.input(friendly(functions.draw), [pictures, *settings], [maps, told], **_quiet(encoding))
        if control is resolution:
            changed.then(friendly(functions.patches), [pictures, number, resolution], patch_parts, **PRIVATE)
    download.click(friendly(functions.zipped), [pictures, *settings], packed, **_quiet(encoding))
    maps.select(_index, None, number, **PRIVATE).then(
        friendly(functions.patches), [pictures, number, resolution], patch_parts, **PRIVATE
    )
    asked = [pictures, resolution, which, row, column, smooth]
    ask.click(friendly(functions.similar), asked, [similar, similar_told], **_quiet(encoding))
    grid.select(patch_at, side, [row, column], **PRIVATE).then(
        friendly(functions.similar), asked, [similar, similar_told], **_quiet(encoding)
    )
    gr.Button(visible="hidden").click(
        friendly(functions.pca_maps), [files, *settings], [maps, told], api_name="pca_maps", concurrency_id="encoder"
    )
    gr.Button(visible="hidden").click(
        friendly(functions.patch_similarity),
        [files, resolution, which, row, column],
        [similar, similar_told],
        api_name="patch_similarity",
        concurrency_id="encoder",
    )

    def take(event: Any, chosen: Any) -> Any:
        """Add a picture of the index."""
        return drawn(event.then(friendly(functions.add_row), [pictures, chosen], pictures, **PRIVATE))

    return Tab(take=take)


def _quiet(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "api_visibility": "private", "show_progress": "minimal"}


def _index(event: gr.SelectData) -> int:
    return int(event.index)


class _Functions:
    """What the tab does; `pictures` are a visitor's own, at most `_LONGEST` pixels on the longer side."""

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer
        self.cache = ""  # where gradio serves files from, and cleans up

    def pca_maps(
        self,
        pictures: list[str] | None,
        resolution: int = 224,
        foreground: bool = False,
        threshold: float = 0.0,
        overlay: float = 80.0,
        smooth: bool = False,
    ) -> tuple[list[tuple[Image.Image, str]], str]:
        """Colour the patches of one to eight pictures by their first three principal components, in one basis.

        Returns the maps and what they show. With foreground, patches whose first component is at most threshold (in
        standard deviations) are left dark; overlay is the share of the colours in %.
        """
        shown = _read_all(pictures)
        return self.draw(shown, resolution, foreground, threshold, overlay, smooth)

    def patch_similarity(
        self, pictures: list[str] | None, resolution: int = 224, picture: int = 1, row: int = 0, column: int = 0
    ) -> tuple[list[tuple[Image.Image, str]], str]:
        """Show how alike every patch of one to eight pictures is to a patch of one of them (counted from 1)."""
        return self.similar(_read_all(pictures), resolution, picture, row, column)

    def add_files(self, pictures: list[Image.Image], files: list[str] | None) -> tuple[list[Image.Image], None]:
        """Add uploaded files, all or none; the field is empty afterwards, whatever they were."""
        try:
            return self._added(pictures, _read_all(files)), None
        except UserInputError as error:
            warn(error)
            return pictures, None

    def add_one(self, pictures: list[Image.Image], file: str | None) -> tuple[list[Image.Image], None]:
        """Add one picture; nothing was given where it was only removed."""
        return self.add_files(pictures, [] if file is None else [file])

    def add_row(self, pictures: list[Image.Image], row: int) -> list[Image.Image]:
        """Add a picture of the index; where there are eight, the first goes."""
        return [*pictures, self._explorer.index.thumbnail(int(row))][-MOST_PICTURES:]

    def some(self) -> list[Image.Image]:
        """Return four pictures of one concept: their parts have colours in common."""
        index = self._explorer.index
        rows = index.rows_of_concepts([random.choice(index.concepts)]) if index.concepts else range(len(index))
        return [index.thumbnail(int(rows[len(rows) * place // 4])) for place in range(min(4, len(rows)))]

    def draw(
        self,
        pictures: list[Image.Image],
        resolution: int,
        foreground: bool,
        threshold: float,
        overlay: float,
        smooth: bool,
    ) -> tuple[list[tuple[Image.Image, str]], str]:
        """Draw the maps of some pictures."""
        from synclr_hf.explorer.maps import pca_maps

        if not pictures:
            return [], "Add pictures to see them through the encoder."
        found = pca_maps(self._explorer, pictures, int(resolution), _threshold(foreground, threshold))
        drawn = found.drawn(_share(overlay), smooth=bool(smooth))
        return [(one, f"PCA map of picture {place}") for place, one in enumerate(drawn, start=1)], found.words

    def zipped(
        self,
        pictures: list[Image.Image],
        resolution: int,
        foreground: bool,
        threshold: float,
        overlay: float,
        smooth: bool,
    ) -> Any:
        """Show a ZIP file of the maps, in gradio's cache, which is cleaned after an hour."""
        from synclr_hf.explorer.maps import pca_maps

        found = pca_maps(self._explorer, pictures, int(resolution), _threshold(foreground, threshold))
        content = found.zipped(_share(overlay), smooth=bool(smooth))
        file = save_bytes_to_cache(content, "pca_maps.zip", self.cache)
        return gr.update(value=file, visible=True)

    def patches(self, pictures: list[Image.Image], number: int, resolution: int) -> tuple[Any, ...]:
        """Return one picture with its patches, their side in its pixels, no similarities yet, and its number."""
        from synclr_hf.explorer.heat_maps import with_grid
        from synclr_hf.explorer.maps import looks_at

        if not pictures:
            return None, 1, [], "", 1
        number = min(max(int(number), 0), len(pictures) - 1)
        try:
            seen = looks_at(self._explorer, [pictures[number]], int(resolution))[0]
        except UserInputError:  # told where the maps are
            return None, 1, [], "", 1
        return *with_grid(seen.image, seen.grid), [], "", number + 1

    def similar(
        self, pictures: list[Image.Image], resolution: int, which: int, row: int, column: int, smooth: bool = False
    ) -> tuple[list[tuple[Image.Image, str]], str]:
        """Draw how alike all patches are to one of them."""
        from synclr_hf.explorer.maps import looks_at, similar_patches

        looks = looks_at(self._explorer, pictures, int(resolution))
        which, row, column = int(which or 0), int(row or 0), int(column or 0)
        drawn, scale = similar_patches(looks, which - 1, row, column, smooth=bool(smooth))
        words = f"Patch in row {row}, column {column} of picture {which}; {scale.words}."
        return [(one, f"similarity in picture {place}") for place, one in enumerate(drawn, start=1)], words

    def _added(self, pictures: list[Image.Image], more: list[Image.Image]) -> list[Image.Image]:
        if len(pictures) + len(more) > MOST_PICTURES:
            raise UserInputError(
                f"{len(pictures) + len(more)} pictures are too many; at most {MOST_PICTURES} go together: remove some"
            )
        return [*pictures, *more]


def _read_all(files: list[str] | None) -> list[Image.Image]:
    """Read uploads; too many are refused before the first is decoded."""
    if len(files or []) > MOST_PICTURES:
        raise UserInputError(f"{len(files or [])} pictures are too many; give up to {MOST_PICTURES}")
    return [_read(file) for file in files or []]


def _read(file: str) -> Image.Image:
    """Read an upload no larger than it is looked at: a visitor's pictures are kept for as long as the page is open."""
    picture = read_upload(file)
    picture.thumbnail((_LONGEST, _LONGEST), Image.Resampling.BICUBIC)
    return picture


def _threshold(foreground: bool, threshold: float) -> float | None:
    return float(threshold) if foreground else None


def _share(overlay: float) -> float:
    return min(max(float(overlay), 0.0), 100.0) / 100
