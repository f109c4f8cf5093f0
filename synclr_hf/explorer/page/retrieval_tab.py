"""The tab "Retrieval": the pictures of the index that are nearest to a query, to two, or to a part of one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
from PIL import Image

from synclr_hf.explorer.page.components import (
    PRIVATE,
    PictureGallery,
    choice,
    patch_at,
    patch_picture,
    picture_grid,
    picture_upload,
)
from synclr_hf.explorer.page.friendly import friendly
from synclr_hf.explorer.page.tab import Tab
from synclr_hf.explorer.retrieval import FoundPicture, search_pair, search_picture, search_row
from synclr_hf.explorer.session import Explorer
from synclr_hf.explorer.uploads import read_upload

NUM_EXAMPLES = 8
_REGIONS = 12
_TELL_EVERY = 1.0
"""Seconds between two answers to the same question."""


def retrieval_tab(explorer: Explorer) -> Tab:
    """Build the tab inside an open `gr.Tab`."""
    functions = _Functions(explorer)
    with gr.Row():
        with gr.Column(scale=1, min_width=240):
            picture = picture_upload("Query picture", elem_id="query", height=280)
            search = gr.Button("Search", variant="primary", elem_id="search")
            with gr.Accordion("Filter and number", open=False):
                concepts = choice(label="Only these concepts", multiselect=True, elem_id="concepts")
                count = gr.Slider(1, 48, value=12, step=1, label="Number of results")
            with gr.Accordion("With a second picture", open=False):
                second = picture_upload("Second picture", height=220, elem_id="second")
                how = gr.Radio(
                    [("what both have (mean)", "mean"), ("the first without the second (difference)", "difference")],
                    value="mean",
                    label="Look for",
                )
                search_both = gr.Button("Search with both")
            examples = picture_grid("Examples: choose one", columns=4, elem_id="examples")
        with gr.Column(scale=2, min_width=240):
            found = PictureGallery(explorer, "Nearest pictures", elem_id="found")
            results = gr.JSON(visible="hidden", label="Results")
    with gr.Accordion("Search by a part of the picture", open=True):
        gr.Markdown(
            "Choose a patch of the query: the patches most like it among the 200 pictures nearest to the whole query."
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=240):
                grid = patch_picture("Query with its patches: choose one", "patches")
                with gr.Row():
                    row = gr.Number(0, label="Row, from 0", precision=0, minimum=0, min_width=80)
                    column = gr.Number(0, label="Column, from 0", precision=0, minimum=0, min_width=80)
                search_part = gr.Button("Search by this patch")
            with gr.Column(scale=2, min_width=240):
                parts_told = gr.Markdown()
                parts = picture_grid("Where something like it is", elem_id="parts")
                part_results = gr.JSON(visible="hidden", label="Results by region")
    example_rows, side = gr.State([]), gr.State(1)

    def rows_told(told: list[dict[str, Any]] | None) -> list[Any]:
        return found.values_after([one["row"] for one in told or []])

    def after(event: Any) -> Any:
        """Show what belongs to new results."""
        shown = event.then(rows_told, results, found.after, **PRIVATE)
        return shown.then(friendly(functions.patches), picture, [grid, side, parts, parts_told], **PRIVATE)

    after(
        search.click(
            friendly(functions.search),
            [picture, count, concepts],
            [found.gallery, results],
            api_name="search",
            concurrency_id="encoder",
            concurrency_limit=8,
        )
    )
    after(
        search_both.click(
            friendly(functions.search_pair),
            [picture, second, how, count, concepts],
            [found.gallery, results],
            api_name="search_pair",
            concurrency_id="encoder",
        )
    )
    row_input = gr.Number(visible="hidden", precision=0, label="Row of the index")
    by_row = gr.Button(visible="hidden")
    by_row.click(
        friendly(functions.search_row), [row_input, count, concepts], [found.gallery, results], api_name="search_row"
    )

    def take(event: Any, chosen: Any) -> Any:
        """Search with a picture of the index."""
        inputs = [chosen, count, concepts]
        return after(event.then(friendly(functions.take), inputs, [picture, found.gallery, results], **PRIVATE))

    example = examples.select(friendly(_chosen), [example_rows], [row_input], **PRIVATE)
    take(example, row_input)
    regions = {
        "inputs": [picture, row, column, concepts],
        "outputs": [parts, part_results, parts_told],
        "concurrency_id": "encoder",
    }
    search_part.click(friendly(functions.search_region), api_name="search_region", **regions)
    grid.select(patch_at, side, [row, column], **PRIVATE).then(
        friendly(functions.search_region), api_visibility="private", **regions
    )

    def on_ready() -> list[Any]:
        index = explorer.index
        step = max(1, len(index) // NUM_EXAMPLES)
        rows = list(range(0, len(index), step))[:NUM_EXAMPLES]
        shown = [(index.thumbnail(one), index.picture(one).concept or f"picture {one}") for one in rows]
        return [shown, rows, gr.update(choices=index.concepts)]

    return Tab(on_ready, [examples, example_rows, concepts], [found.panel], take)


def _chosen(rows: list[int], event: gr.SelectData) -> int:
    return rows[event.index]


class _Functions:
    """What the tab does, typed and documented for the API."""

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer

    def search(
        self, picture: str | None, count: int = 12, concepts: list[str] | None = None
    ) -> tuple[list[tuple[Image.Image, str]], list[dict[str, Any]]]:
        """Find the pictures of the index that are nearest to a picture.

        Returns the pictures with words, and for each of them row, similarity (cosine), caption and concept.
        """
        return self._shown(search_picture(self._explorer, read_upload(picture), int(count), concepts or ()))

    def search_pair(
        self,
        picture: str | None,
        second_picture: str | None,
        how: str = "mean",
        count: int = 12,
        concepts: list[str] | None = None,
    ) -> tuple[list[tuple[Image.Image, str]], list[dict[str, Any]]]:
        """Find what two pictures have in common (mean), or the first without the second (difference)."""
        first, second = read_upload(picture), read_upload(second_picture)
        return self._shown(search_pair(self._explorer, first, second, how, int(count), concepts or ()))  # type: ignore[arg-type]

    def search_row(
        self, row: int, count: int = 12, concepts: list[str] | None = None
    ) -> tuple[list[tuple[Image.Image, str]], list[dict[str, Any]]]:
        """Find the pictures nearest to one of the index, by its row; it is left out itself."""
        return self._shown(search_row(self._explorer, _row(row), int(count), concepts or ()))

    def take(self, row: int, count: int, concepts: list[str] | None) -> tuple[Any, Any, Any]:
        """Search with a picture of the index, and show it as the query."""
        pictures, results = self.search_row(row, count, concepts)
        return self._explorer.index.thumbnail(_row(row)), pictures, results

    def patches(self, picture: str | None) -> tuple[Any, int, list[Any], str]:
        """Return the query with its patches, their side in its pixels, and nothing found yet."""
        from synclr_hf.errors import UserInputError
        from synclr_hf.explorer.heat_maps import with_grid
        from synclr_hf.explorer.regions import query_look

        try:
            seen = query_look(self._explorer, read_upload(picture))
        except UserInputError as error:
            return None, 1, [], str(error)
        return *with_grid(seen.image, seen.grid), [], ""

    def search_region(
        self, picture: str | None, row: int = 0, column: int = 0, concepts: list[str] | None = None
    ) -> Iterator[tuple[list[tuple[Image.Image, str]], list[dict[str, Any]], str]]:
        """Find the patches most like a patch of the query, among the 200 pictures nearest to the whole query.

        Returns heat maps with words, and for each row, similarity of its best patch, and that patch; better answers
        follow while more pictures are looked at.
        """
        from synclr_hf.explorer.regions import search_region

        index = self._explorer.index
        query = read_upload(picture)
        shown_at = time.monotonic()
        for answer in search_region(self._explorer, query, _row(row), _row(column), _REGIONS, concepts or ()):
            if answer.looked_at < answer.total and time.monotonic() - shown_at < _TELL_EVERY:
                continue  # drawing takes longer than looking, where the model is small
            shown_at = time.monotonic()
            shown, told = [], []
            for hit in answer.hits:
                known = index.picture(hit.row)
                shown.append((hit.drawn(answer.scale), f"{hit.similarity:.2f}, {known.concept or f'row {hit.row}'}"))
                place = {"patch_row": hit.place[0], "patch_column": hit.place[1]}
                similarity = round(hit.similarity, 4)
                told.append({"row": hit.row, "similarity": similarity, **place, "concept": known.concept})
            words = f"{answer.looked_at} of {answer.total} pictures looked at; {answer.scale.words}."
            yield shown, told, words

    def _shown(self, found: Sequence[FoundPicture]) -> tuple[list[tuple[Image.Image, str]], list[dict[str, Any]]]:
        index = self._explorer.index
        return [(index.thumbnail(one.row), one.words) for one in found], [one.told() for one in found]


def _row(value: Any) -> int:
    from synclr_hf.errors import UserInputError

    if value is None or value != int(value):
        raise UserInputError("a whole number is needed here; type 0 or more")
    return int(value)
