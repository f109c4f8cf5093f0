"""The tab "Data": captions with their pictures, found by words, concept, template and source; counts and cards."""

from __future__ import annotations

import random
import threading
from typing import Any

import gradio as gr

from synclr_hf.data.cards import plain, table
from synclr_hf.explorer.browse import A_PAGE, Browser, CaptionEntry, CaptionPage
from synclr_hf.explorer.card_text import shown_card
from synclr_hf.explorer.page.components import PRIVATE, ChosenPicture, choice, picture_grid
from synclr_hf.explorer.page.friendly import friendly
from synclr_hf.explorer.page.tab import Tab
from synclr_hf.explorer.session import Explorer

_MOST_FREQUENT = 12


def browser_tab(explorer: Explorer) -> Tab:
    """Build the tab inside an open `gr.Tab`."""
    functions = _Functions(explorer)
    with gr.Row():
        text = gr.Textbox(
            label="Words in the caption",
            placeholder='red mug, "on a table", -dog',
            max_length=500,
            elem_id="words",
            scale=2,
            min_width=220,
        )
        concepts = choice(label="Concepts", multiselect=True, min_width=160)
        templates = choice(label="Templates", multiselect=True, min_width=160)
        sources = choice(label="Sources", multiselect=True, min_width=160)
    with gr.Row(elem_classes="pager"):
        search = gr.Button("Search the captions", variant="primary", min_width=120)
        before = gr.Button("Previous page", min_width=100)
        after = gr.Button("Next page", min_width=100)
        chance = gr.Button("Any page", min_width=100)
    told = gr.Markdown(elem_id="page-words")
    page = gr.State(1)
    with gr.Column(elem_id="browser-panel"):
        panel = ChosenPicture(explorer)
    slots = []
    for place in range(0, A_PAGE, 2):
        with gr.Row():
            slots += [_Slot(panel, place), _Slot(panel, place + 1)]
    with gr.Accordion("Statistics", open=False):
        statistics = gr.Markdown(elem_id="statistics")
    with gr.Accordion("Cards of the data sets", open=False):
        cards = gr.Markdown(sanitize_html=True)
    results = gr.JSON(visible="hidden", label="Captions")

    filters = [text, concepts, templates, sources]
    outputs = [page, told, *panel.parts, *(part for slot in slots for part in slot.parts)]
    show = friendly(functions.show)
    gr.on(
        [search.click, text.submit, concepts.input, templates.input, sources.input],
        lambda *given: show(*given, 1),
        filters,
        outputs,
        **PRIVATE,
    )
    before.click(lambda *given: show(*given[:-1], given[-1] - 1), [*filters, page], outputs, **PRIVATE)
    after.click(lambda *given: show(*given[:-1], given[-1] + 1), [*filters, page], outputs, **PRIVATE)
    chance.click(lambda *given: show(*given, None), filters, outputs, **PRIVATE)
    number = gr.Number(1, visible="hidden", precision=0, label="Page")
    gr.Button(visible="hidden").click(friendly(functions.browse), [*filters, number], results, api_name="browse")
    gr.Button(visible="hidden").click(friendly(functions.statistics), None, results, api_name="statistics")

    def on_ready() -> list[Any]:
        index = explorer.index
        choices = [gr.update(choices=index.distinct(name)) for name in ("concept", "template", "source")]
        return [*choices, functions.statistics_words(), functions.cards(), *show("", [], [], [], 1)]

    return Tab(on_ready, [concepts, templates, sources, statistics, cards, *outputs], [panel])


class _Slot:
    """One caption of a page with its pictures."""

    def __init__(self, panel: ChosenPicture, place: int) -> None:
        with gr.Column(min_width=240):
            self.words = gr.Markdown(visible=False, elem_classes="caption-words")
            self.grid = picture_grid(f"Pictures of caption {place + 1}", elem_id=f"caption-{place}", words=False)
            self.grid.visible = False
        self.rows = gr.State([])
        panel.listen(self.grid, self.rows)
        self.parts = [self.words, self.grid, self.rows]


class _Functions:
    """What the tab does, typed and documented for the API."""

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer
        self._browser: Browser | None = None
        self._lock = threading.Lock()

    @property
    def browser(self) -> Browser:
        """Made once, of the index that is there now."""
        index = self._explorer.index
        with self._lock:
            if self._browser is None:
                self._browser = Browser(index)
            return self._browser

    def browse(
        self,
        text: str = "",
        concepts: list[str] | None = None,
        templates: list[str] | None = None,
        sources: list[str] | None = None,
        page: int = 1,
    ) -> dict[str, Any]:
        """Find captions: words that all occur, "a phrase", -word; of some concepts, templates, sources.

        Returns a page of captions, each with the rows of its pictures in the index, and how many there are.
        """
        found = self.browser.find(text or "", concepts or (), templates or (), sources or (), int(page or 1))
        entries = [entry.told() for entry in found.entries]
        return {"captions": entries, "page": found.page, "pages": found.pages, "total": found.total}

    def statistics(self) -> dict[str, Any]:
        """Count what the index holds: pictures, captions, concepts, templates, sources, words a caption."""
        return self.browser.statistics()

    def show(
        self, text: str, concepts: list[str], templates: list[str], sources: list[str], page: int | None
    ) -> list[Any]:
        """Return a page of captions for the slots; `None`: any page."""
        filters = (text or "", concepts or (), templates or (), sources or ())
        if page is None:
            page = random.randint(1, self.browser.find(*filters).pages)
        found = self.browser.find(*filters, page)
        values: list[Any] = [found.page, _told(found), *ChosenPicture.nothing(bool(found.entries))]
        for place in range(A_PAGE):
            values += self._slot(found.entries[place] if place < len(found.entries) else None, place)
        return values

    def statistics_words(self) -> str:
        """Return the counts as Markdown."""
        told = self.statistics()
        lines = [["pictures", f"{told['pictures']:,}"]]
        if told["captions"]:
            words = told["words_a_caption"]
            lines.append(["captions", f"{told['captions']:,}"])
            lines.append(["words a caption", f"{words['least']} to {words['most']}, mean {words['mean']}"])
        for name in ("templates", "sources"):
            if told[name]:
                counted = ", ".join(f"{plain(key)} {count:,}" for key, count in told[name].items())
                lines.append([f"captions by {name[:-1]}", counted])
        counts = list(told["captions_a_concept"].items())
        if counts:
            lines.append(["concepts", f"{len(counts):,}"])
            lines.append(["most frequent", _counted(counts[:_MOST_FREQUENT])])
            lines.append(["least frequent", _counted(counts[-_MOST_FREQUENT:])])
        return table(["", "in this index"], lines)

    def cards(self) -> str:
        """Return the cards of the sets as Markdown."""
        cards = self._explorer.index.cards
        parts = [shown_card(cards[name]) for name in ("captions", "images") if name in cards]
        return "\n\n---\n\n".join(parts) or "The index brings no cards of its data sets."

    def _slot(self, entry: CaptionEntry | None, place: int) -> list[Any]:
        if entry is None:
            return [gr.update(visible=False, value=""), gr.update(visible=False, value=[]), []]
        said = plain(entry.caption) or plain(entry.concept) or "no caption"
        facts = [entry.concept if entry.caption else "", entry.template, entry.source]
        words = f"**{said}** <small>{', '.join(plain(fact) for fact in facts if fact)}</small>"
        index = self._explorer.index
        rows = entry.rows[:16]
        alt = entry.caption or entry.concept or "picture"
        pictures = [(index.thumbnail(row), f"{alt} ({number})") for number, row in enumerate(rows, start=1)]
        return [gr.update(visible=True, value=words), gr.update(visible=True, value=pictures), list(rows)]


def _told(found: CaptionPage) -> str:
    if not found.total:
        return "Nothing fits. Type fewer words, or take a filter away."
    many = "caption" if found.total == 1 else "captions"
    return f"{found.total:,} {many}, page {found.page:,} of {found.pages:,}."


def _counted(counts: list[tuple[str, int]]) -> str:
    return ", ".join(f"{plain(name)} {count:,}" for name, count in counts)
