"""The tab "Compare": two encoders side by side on the same query, with honest captions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from synclr_hf.errors import UserInputError
from synclr_hf.explorer.comparison_words import ABOUT, answer_words, comparison_words, hit_words, pictures_words
from synclr_hf.explorer.page.components import PRIVATE, PictureGallery, choice, picture_upload
from synclr_hf.explorer.page.friendly import friendly
from synclr_hf.explorer.page.tab import Tab
from synclr_hf.explorer.session import Explorer
from synclr_hf.explorer.uploads import read_upload

if TYPE_CHECKING:  # brings torch, which the page is served without
    from synclr_hf.explorer.comparison import Comparison


def comparison_tab(explorer: Explorer) -> Tab:
    """Build the tab inside an open `gr.Tab`."""
    functions = _Functions(explorer)
    query_row, presses = gr.State(None), gr.State(0)
    about = gr.Markdown(ABOUT)
    with gr.Row():
        with gr.Column(scale=1, min_width=240):
            picture = picture_upload("Query picture for both", height=240, elem_id="compare-query")
            any_row = gr.Button("A random query from the index")
        with gr.Column(scale=1, min_width=240):
            first = choice("First encoder", elem_id="first-encoder")
            second = choice("Second encoder", elem_id="second-encoder")
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
    shown(any_row.click(friendly(functions.any), presses, [picture, query_row, presses], **PRIVATE))
    shown(ask.click(lambda: None, None, None, **PRIVATE))
    number = gr.Number(None, visible="hidden", precision=0, label="Row of the index, instead of a picture")
    # A client of the API has never seen the choices of the lists, and gradio would refuse every name of it.
    names = [gr.Textbox(None, visible="hidden", label=f"Name of the {which} encoder") for which in ("first", "second")]
    gr.Button(visible="hidden").click(
        friendly(functions.compare),
        [picture, number, *names, count],
        results,
        api_name="compare",
        concurrency_id="encoder",
    )

    def take(event: Any, chosen: Any) -> Any:
        """Compare on a picture of the index."""
        return shown(event.then(friendly(functions.take), [chosen], [picture, query_row], **PRIVATE))

    def on_ready() -> list[Any]:
        from synclr_hf.explorer.comparison import one_encoder_words, told_name

        names = list(explorer.encoder_names)
        choices = [(told_name(name), name) for name in names]
        second_name = names[1] if len(names) > 1 else None
        alone = "" if second_name else _as_code(one_encoder_words(explorer.index))
        shown_first = gr.update(choices=choices, value=names[0])
        shown_second = gr.update(choices=choices, value=second_name)
        return [f"{ABOUT} {pictures_words(explorer.index.facts)}", shown_first, shown_second, alone]

    return Tab(on_ready, [about, first, second, told], [found.panel for _, found in sides], take)


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

        Returns `answers` of both (encoder, median similarity, concept share beside chance, hits with row, rank,
        similarity, percentile, rank_of_other), how many hits are `shared`, and how many pictures were `searched`.
        """
        return self._compared(picture, row, first_encoder, second_encoder, count).plain()

    def any(self, presses: int, request: gr.Request) -> tuple[Any, int, int]:
        """Return a picture of the index by chance: the same visitor sees the same ones in the same order."""
        from synclr_hf.explorer.comparison import random_row

        row = random_row(self._explorer.index, str(request.session_hash), presses)
        return self._explorer.index.thumbnail(row), row, presses + 1

    def take(self, row: int) -> tuple[Any, int]:
        """Return a picture of the index that was chosen elsewhere."""
        return self._explorer.index.thumbnail(int(row)), int(row)

    def show(self, sides: list[tuple[Any, PictureGallery]], *given: Any) -> list[Any]:
        """Return what goes into words, results and both galleries."""
        found = self._compared(*given)
        index = self._explorer.index
        values: list[Any] = [comparison_words(found), found.plain()]
        for answer, (_, gallery) in zip(found.answers, sides, strict=True):
            pictures = [(index.thumbnail(hit.row), hit_words(hit)) for hit in answer.hits]
            values += [answer_words(answer), pictures, *gallery.values_after([hit.row for hit in answer.hits])]
        return values

    def _compared(self, picture: str | None, row: int | None, first: Any, second: Any, count: int) -> Comparison:
        from synclr_hf.explorer.comparison import compare_picture, compare_row, two_encoders

        index, names = self._explorer.index, list(self._explorer.encoder_names)
        encoders = two_encoders(index, first or names[0], second or names[min(1, len(names) - 1)])
        if row is None:
            return compare_picture(self._explorer, read_upload(picture), encoders, int(count))
        if row != int(row):
            raise UserInputError(f"row {row} is no whole number; type 0 or more")
        return compare_row(index, int(row), encoders, int(count))


def _as_code(line: str) -> str:
    """Return a line whose command is shown as code."""
    before, _, command = line.partition("type ")
    return f"{before}type `{command}`"
