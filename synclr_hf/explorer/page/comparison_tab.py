"""The tab "Compare": two encoders side by side on the same query, with honest captions."""

from __future__ import annotations

import random
from typing import Any

import gradio as gr

from synclr_hf.explorer.comparison import Comparison, compare, random_row
from synclr_hf.explorer.page.components import PRIVATE, PictureGallery, choice, picture_upload
from synclr_hf.explorer.page.friendly import friendly
from synclr_hf.explorer.page.tab import Tab
from synclr_hf.explorer.session import Explorer
from synclr_hf.explorer.uploads import read_upload


def comparison_tab(explorer: Explorer) -> Tab:
    """Build the tab inside an open `gr.Tab`."""
    functions = _Functions(explorer)
    query_row = gr.State(None)
    with gr.Row():
        with gr.Column(scale=1, min_width=240):
            picture = picture_upload("Query picture for both", height=240, elem_id="compare-query")
            any_row = gr.Button("Any picture of the index")
        with gr.Column(scale=1, min_width=240):
            first = choice(label="First encoder", elem_id="first-encoder")
            second = choice(label="Second encoder", elem_id="second-encoder")
            count = gr.Slider(1, 48, value=12, step=1, label="Number of results for each")
            ask = gr.Button("Compare", variant="primary")
    told = gr.Markdown(elem_id="compare-words")
    sides = []
    with gr.Row():
        for name in ("first", "second"):
            with gr.Column(min_width=240):
                words = gr.Markdown()
                sides.append((words, PictureGallery(explorer, f"Nearest for the {name}", elem_id=f"compare-{name}")))
    results = gr.JSON(visible="hidden", label="Comparison")
    outputs = [told, results]
    for words, found in sides:
        outputs += [words, found.gallery, *found.after]

    def shown(event: Any) -> Any:
        inputs = [picture, query_row, first, second, count]
        return event.then(
            friendly(lambda *given: functions.show(sides, *given)),
            inputs,
            outputs,
            api_visibility="private",
            concurrency_id="encoder",
        )

    picture.input(lambda: None, None, query_row, **PRIVATE)
    shown(any_row.click(friendly(functions.any), None, [picture, query_row], **PRIVATE))
    shown(ask.click(lambda: None, None, None, **PRIVATE))
    number = gr.Number(None, visible="hidden", precision=0, label="Row of the index, instead of a picture")
    gr.Button(visible="hidden").click(
        friendly(functions.compare),
        [picture, number, first, second, count],
        results,
        api_name="compare",
        concurrency_id="encoder",
    )

    def take(event: Any, chosen: Any) -> Any:
        """Compare on a picture of the index."""
        return shown(event.then(friendly(functions.take), [chosen], [picture, query_row], **PRIVATE))

    def on_ready() -> list[Any]:
        names = list(explorer.encoder_names)
        choices = [(name, name) for name in names]
        second_name = names[1] if len(names) > 1 else None
        alone = "" if second_name else functions.alone()
        return [gr.update(choices=choices, value=names[0]), gr.update(choices=choices, value=second_name), alone]

    return Tab(on_ready, [first, second, told], [found.panel for _, found in sides], take)


class _Functions:
    """What the tab does, typed and documented for the API."""

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer

    def compare(
        self,
        picture: str | None,
        row: int | None = None,
        first_encoder: str | None = None,
        second_encoder: str | None = None,
        count: int = 12,
    ) -> dict[str, Any]:
        """Let two encoders of the index find the pictures nearest to a picture, or to a row of the index.

        Returns what each finds, how many both find, and how many are of the query's concept beside chance.
        """
        return self._compared(picture, row, first_encoder, second_encoder, count).told()

    def any(self) -> tuple[Any, int]:
        """Return any picture of the index."""
        row = random_row(self._explorer, random.getrandbits(32))
        return self._explorer.index.thumbnail(row), row

    def take(self, row: int) -> tuple[Any, int]:
        """Return a picture of the index that was chosen elsewhere."""
        return self._explorer.index.thumbnail(int(row)), int(row)

    def alone(self) -> str:
        """Return how to get an index with several encoders."""
        return (
            "This index holds one encoder. Build one with several to compare them: "
            "`synclr index --model A --model B --images IMAGES --output-dir FOLDER`."
        )

    def show(self, sides: list[tuple[Any, PictureGallery]], *given: Any) -> list[Any]:
        """Return what goes into words, results and both galleries."""
        found = self._compared(*given)
        values: list[Any] = [found.words, found.told()]
        for side, (_, gallery) in zip(found.sides, sides, strict=True):
            index = self._explorer.index
            pictures = [(index.thumbnail(one.row), one.words) for one in side.found]
            values += [side.words, pictures, *gallery.values_after([one.row for one in side.found])]
        return values

    def _compared(self, picture: str | None, row: int | None, first: Any, second: Any, count: int) -> Comparison:
        index = self._explorer.index
        names = list(self._explorer.encoder_names)
        chosen = (index.number_of(first or names[0]), index.number_of(second or names[min(1, len(names) - 1)]))
        query = read_upload(picture) if row is None else int(row)
        return compare(self._explorer, query, chosen, int(count))
