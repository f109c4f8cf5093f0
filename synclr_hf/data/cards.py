"""Dataset cards, made from the facts of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGER_SIZES = ((10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"))

UNFINISHED = "**UNFINISHED**"
"""Stands in the card of a run that has shards left to make."""


@dataclass(frozen=True)
class CardFacts:
    """What a card says beside the numbers.

    Attributes:
        title: heading of the card.
        summary: one paragraph on what a row is.
        columns: column name -> what it holds.
        terms: model or material that made the data -> its terms, and what was not checked.
        license: identifier of the Hub, or `"unknown"`.
        settings: the settings to show.
        command: the command that makes the same data again.
        tags: tags of the Hub.
        task_categories: task categories of the Hub.
    """

    title: str
    summary: str
    columns: Mapping[str, str]
    terms: Mapping[str, str]
    license: str
    settings: Mapping[str, object]
    command: str
    tags: tuple[str, ...] = ("synthetic", "synclr")
    task_categories: tuple[str, ...] = field(default=())


def dataset_card(facts: CardFacts, *, rows: int, num_bytes: int, counts: Mapping[str, int], complete: bool) -> str:
    """Return the text of `README.md`, with the metadata that the Hub reads.

    The metadata names no `configs`: file names tell `load_dataset` the split just as well, and with `configs` its
    cache knows a local folder by its last name only: `a/captions` is answered with the rows of `b/captions`, or with
    those that lay there before (datasets 5.2).

    Args:
        facts: what the stage knows.
        rows: rows of the whole run.
        num_bytes: size of the finished shards.
        counts: rejected draws by reason.
        complete: whether all shards are finished.
    """
    from huggingface_hub import DatasetCardData

    metadata = DatasetCardData(
        license=facts.license,
        pretty_name=facts.title,
        size_categories=_size_category(rows),
        task_categories=list(facts.task_categories) or None,
        tags=list(facts.tags),
    )
    state = f"{rows:,} rows, {_megabytes(num_bytes)}." if complete else f"{UNFINISHED}: {rows:,} rows are planned."
    rejected = _table("reason", "draws", {name: f"{count:,}" for name, count in sorted(counts.items())})
    parts = [
        f"---\n{metadata.to_yaml()}\n---\n\n# {facts.title}",
        facts.summary,
        state,
        "## Columns",
        _table("column", "holds", facts.columns),
        "## Load it",
        '```python\nfrom datasets import load_dataset\n\nrows = load_dataset("PATH_OR_HUB_ID", split="train")\n```',
        "## Make it again",
        f"```bash\n{facts.command}\n```",
        _table("setting", "value", {name: f"`{value}`" for name, value in facts.settings.items()}),
        "## Draws rejected or changed",
        rejected if counts else "None." if complete else "Not counted yet.",
        "## Terms",
        "\n".join(f"- **{name}**: {text}" for name, text in facts.terms.items()),
        "Nobody has looked at every row: what the models got wrong, or learned from the data they were trained on, is "
        "in here as well.",
    ]
    return "\n\n".join(parts) + "\n"


def model_terms(spec: str, part: str) -> tuple[str, str]:
    """Return (licence identifier, sentence) for data that a back end made.

    Args:
        spec: the back end as the user typed it.
        part: what made the data, e.g. `"language model"`.
    """
    if spec == "toy":
        return "apache-2.0", f"the {part} is a part of synclr_hf (Apache-2.0); no other material is used"
    return "unknown", (
        f"made with the {part} `{spec}`; its licence and terms of use apply to what it makes; "
        "they were not checked here"
    )


def _table(left: str, right: str, rows: Mapping[str, object]) -> str:
    lines = [f"| {left} | {right} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items())])


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _size_category(rows: int) -> str:
    return next((name for limit, name in (*_SIZES, *_LARGER_SIZES) if rows < limit), "n>1T")


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:,.1f} kB"
