"""The card of an index: whose features it holds, of which pictures, and how to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from synclr_hf.data.cards import CardFacts, CardSections, code, plain, table
from synclr_hf.data.tally import Tally
from synclr_hf.data.writing import command_line
from synclr_hf.explorer.index.facts import IndexedEncoder

if TYPE_CHECKING:
    from synclr_hf.explorer.index.stage import IndexConfig

_COLUMNS = {
    "caption_id": "number of the caption that the picture was drawn from; null where there is none",
    "place": "which of the caption's pictures it is, from 0",
    "caption": "the caption; null where none is known, likewise the next three",
    "concept": "what the caption is about, or the class of a labelled picture",
    "source": "list that the concept is from",
    "template": "template that the caption was written with: concept, background or relation",
    "image": "a thumbnail",
}
_USE = """```python
rows = load_dataset("PATH_OR_HUB_ID", split="train")
rows.add_faiss_index("embedding")  # with faiss installed; or look at it: synclr demo MODEL --index PATH_OR_HUB_ID
```"""


def index_card_facts(
    config: IndexConfig, name: str, encoders: Sequence[IndexedEncoder], cards: Mapping[str, str]
) -> CardFacts:
    """Return what the card says beside the numbers.

    Args:
        config: the settings.
        name: what the pictures' set is called.
        encoders: whose features are stored.
        cards: cards of the sets that the pictures are from.
    """
    said = _licence(cards.get("images", ""))
    stated = f"their card says license {code(said)}; that was not checked here" if said else "no licence is known here"
    columns = {**_COLUMNS, **{one.column: f"{one.width} float16, length one: {code(one.name)}" for one in encoders}}
    return CardFacts(
        title="Picture index",
        summary=(
            f"The pictures of {code(name)} as encoders see them: one picture a row, with a thumbnail and its "
            "features, to be searched by similarity."
        ),
        columns=columns,
        terms={
            "Pictures and captions": f"they are those of {code(name)}; {stated}",
            "Features": "the terms of the encoders apply to what they compute; they were not checked here",
        },
        license=said or "unknown",
        settings=asdict(config),
        command=command_line("index", config),
        tags=("synclr", "image-search"),
        task_categories=("image-feature-extraction",),
    )


def describe_index(encoders: Sequence[IndexedEncoder], files: Sequence[Path], tally: Tally) -> CardSections:
    """Return the sections about encoders, concepts and use."""
    import pyarrow.parquet as pq
    from pyarrow import concat_tables

    rows = concat_tables([pq.read_table(file, columns=["concept", "caption_id"]) for file in files])
    counts = sorted(
        ((one["values"], one["counts"]) for one in rows["concept"].value_counts().to_pylist() if one["values"]),
        key=lambda pair: (-pair[1], pair[0]),
    )
    captions = len(rows["caption_id"].drop_null().unique())
    settings = [
        [code(one.name), one.width, one.settings.get("image_size"), one.settings.get("pooling"), code(one.fingerprint)]
        for one in encoders
    ]
    told = f"{len(rows):,} pictures"
    told += f" of {captions:,} captions" if captions else ""
    told += f", {len(counts):,} concepts" if counts else ", no concepts"
    frequent = ", ".join(f"{plain(name)} ({count:,})" for name, count in counts[:12])
    left = tally.dropped
    return CardSections(
        {
            "Encoders": table(["encoder", "numbers", "pixels", "pooling", "checksum"], settings)
            + "\n\nThe first is what is shown. Features are float16 of length one: their product is the cosine.",
            "Pictures": f"{told}." + (f" Most frequent: {frequent}." if frequent else ""),
            "Use it": _USE,
        },
        notices=(f"{left} pictures cannot be read and are left out",) if left else (),
    )


def _licence(card: str) -> str:
    """Return the licence that the front matter of a card names; empty where it names none that is known."""
    if not card.startswith("---\n"):
        return ""
    try:
        said = yaml.safe_load(card.split("---\n")[1])
    except (yaml.YAMLError, IndexError):
        return ""
    licence = said.get("license") if isinstance(said, dict) else None
    return licence if isinstance(licence, str) and licence != "unknown" else ""
