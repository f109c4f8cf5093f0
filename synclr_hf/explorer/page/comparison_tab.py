"""The tab "Compare": two encoders side by side on the same query."""

from __future__ import annotations

from typing import Any

import gradio as gr

from synclr_hf.explorer.page.components import PictureGallery, Shown, Upload
from synclr_hf.explorer.page.friendly import friendly
from synclr_hf.explorer.page.tab import Tab
from synclr_hf.explorer.session import Explorer


def comparison_tab(explorer: Explorer) -> Tab:
    """Build the tab inside an open `gr.Tab`."""
    about = gr.Markdown("Two encoders, the same query. Similarities of two encoders cannot be compared.")
    with gr.Row():
        with gr.Column():
            upload = Upload("Query picture to compare on", height=240)
            random = gr.Button("A random query from the index")
        with gr.Column():
            first = gr.Dropdown([], label="First encoder")
            second = gr.Dropdown([], label="Second encoder")
            count = gr.Slider(1, 48, value=8, step=1, label="Pictures of each encoder")
        with gr.Column():
            query = gr.Gallery(
                label="The query", columns=1, allow_preview=False, object_fit="contain", interactive=False, height=240
            )
    told = gr.Markdown()
    with gr.Row():
        sides, words = [], []
        for side in ("first", "second"):
            with gr.Column():
                words.append(gr.Markdown())
                sides.append(PictureGallery(explorer, f"Nearest for the {side} encoder", columns=4))
    sent, asked, presses = gr.State(None), gr.State(None), gr.State(0)
    shown = [asked, query, told, *words, *sides[0].outputs, *sides[1].outputs]

    def show(asked: int | str | None, first: str, second: str, count: float) -> list[Any]:
        if asked is None:
            return [gr.skip()] * len(shown)
        from synclr_hf.explorer.comparison_words import answer_words, comparison_words, hit_words

        comparison = _compared(explorer, asked, first, second, count)
        picture = explorer.index.thumbnail(asked) if isinstance(asked, int) else asked
        name = f"Picture {asked} of the index" if isinstance(asked, int) else "Uploaded picture"
        values = [asked, [(picture, name)], comparison_words(comparison), *map(answer_words, comparison.answers)]
        for side, answer in zip(sides, comparison.answers, strict=True):
            values += side.values([Shown(hit.row, hit_words(hit)) for hit in answer.hits])
        return values

    def show_random(presses: int, first: str, second: str, count: float, request: gr.Request) -> list[Any]:
        from synclr_hf.explorer.comparison import random_row

        row = random_row(explorer.index, str(request.session_hash), presses)
        return [presses + 1, *show(row, first, second, count)]

    def compare(
        picture: str | None, row: float | None, first: str, second: str, count: float = 8
    ) -> dict[str, Any] | None:
        """Compare what two encoders of the index find nearest to one query.

        Args:
            picture: the query: a picture file; empty: `row` is taken.
            row: the query: a row of the index, counted from 0; it is itself left out.
            first: name of an encoder of the index.
            second: name of another one.
            count: pictures of each encoder, 1 to 48.

        Returns:
            `answers` of both (encoder, median similarity, concept share, hits with row, rank, similarity, percentile,
            rank_of_other, is_shared, is_sibling, caption, concept), `shared`, `searched` and `row`.
        """
        asked = picture if picture is not None else None if row is None else int(row)
        return _compared(explorer, asked, first, second, count).plain()

    def ready() -> list[Any]:
        from synclr_hf.errors import UserInputError
        from synclr_hf.explorer.comparison import one_encoder_words
        from synclr_hf.explorer.comparison_words import ABOUT, pictures_words

        try:
            facts = explorer.index.facts
        except UserInputError as error:
            return [str(error), *[gr.update(interactive=False)] * 4]
        names = [one.name for one in facts.encoders]
        if len(names) < 2:
            return [_as_code(one_encoder_words(explorer.index)), *[gr.update(interactive=False)] * 4]
        on, chosen = gr.update(interactive=True), [gr.update(choices=names, value=names[n]) for n in (0, 1)]
        return [f"{ABOUT}\n\n{pictures_words(facts)}", *chosen, on, on]

    settings, hidden = [first, second, count], {"api_visibility": "private", "concurrency_id": "comparison"}
    upload.change(friendly(show), [upload, *settings], shown, **hidden)
    sent.change(friendly(show), [sent, *settings], shown, **hidden)
    random.click(friendly(show_random), [presses, *settings], [presses, *shown], **hidden)
    for setting in (first.input, second.input, count.release):
        setting(friendly(show), [asked, *settings], shown, **hidden)
    row, answer = gr.Number(visible=False, precision=0, label="Row"), gr.JSON(visible=False, label="Comparison")
    gr.Button(visible=False).click(
        friendly(compare), [upload, row, *settings], answer, api_name="compare", concurrency_id="comparison"
    )
    return Tab(on_ready=ready, filled=[about, first, second, upload, random], galleries=sides, take_row=sent)


def _compared(explorer: Explorer, asked: int | str | None, first: str, second: str, count: float) -> Any:
    """Compare on a row of the index, or on the file of a picture."""
    from synclr_hf.errors import UserInputError
    from synclr_hf.explorer.comparison import compare_picture, compare_row, two_encoders
    from synclr_hf.explorer.uploads import read_upload

    encoders = two_encoders(explorer.index, first, second)
    if asked is None:
        raise UserInputError("there is no query; give a picture, or a row of the index")
    if isinstance(asked, int):
        return compare_row(explorer.index, asked, encoders, int(count))
    return compare_picture(explorer, read_upload(asked), encoders, int(count))


def _as_code(line: str) -> str:
    """Return a line whose command is shown as code."""
    before, typed, command = line.partition("type ")
    return f"{before}{typed}`{command}`" if command else line
