"""Dataset cards, made from the facts of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGER_SIZES = ((10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"))
_LARGEST_SIZES = ((10**10, "1B<n<10B"), (10**11, "10B<n<100B"), (10**12, "100B<n<1T"))

UNFINISHED = "**UNFINISHED**"
"""Stands in the card of a run that has shards left to make."""

REJECTED = "Draws rejected or changed"
"""Heading of the section on rejects."""

_LONGEST_TEXT = 300
_MARKDOWN = re.compile(r"[\\`*{}\[\]<>#|~$@]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.")
_JOINERS = "\u200c\u200d"
_LICENCE_FIELDS = ("license", "license_name", "license_link")
_LOCAL_BACK_ENDS = ("transformers", "diffusers")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


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


@dataclass(frozen=True)
class CardSections:
    """What a stage tells about the rows of a finished run, made from those rows.

    Attributes:
        sections: heading -> markdown; texts of users and models in it went through `plain` or `code`. A heading that
            the card has anyway, e.g. `REJECTED`, takes its place.
        pictures: path in the run folder, below `CARD_FOLDER` -> contents of the PNG file; `load_dataset` reads none.
        notices: what whoever made the run should be told when it ends, a line each.
    """

    sections: Mapping[str, str]
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def write_pictures(self, folder: Path) -> None:
        """Write the pictures into a run folder (`OSError`); the card that shows them is written after them."""
        for name, contents in self.pictures.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(contents)


def dataset_card(
    facts: CardFacts,
    *,
    rows: int,
    num_bytes: int,
    counts: Mapping[str, int],
    complete: bool,
    contents: CardSections | None = None,
) -> str:
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
        contents: sections about the rows, if the stage has looked at them.
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
    told = dict(contents.sections) if contents else {}
    before = {
        "Columns": _table("column", "holds", facts.columns),
        "Load it": _block(
            "python",
            'from datasets import load_dataset\n\nrows = load_dataset("PATH_OR_HUB_ID", split="train")',
        ),
    }
    rejected = _table("reason", "draws", {plain(name): f"{count:,}" for name, count in sorted(counts.items())})
    after = {
        REJECTED: rejected if counts else "None." if complete else "Not counted yet.",
        "Make it again": "\n\n".join(
            (
                _block("bash", facts.command),
                _table("setting", "value", {name: code(value) for name, value in facts.settings.items()}),
            )
        ),
        "Terms": "\n".join(f"- **{name}**: {text}" for name, text in facts.terms.items()),
    }
    sections = {**before, **told, **{name: text for name, text in after.items() if name not in told}}
    parts = [
        f"---\n{metadata.to_yaml()}\n---\n\n# {facts.title}",
        facts.summary,
        state,
        *(f"## {name}\n\n{text}" for name, text in sections.items()),
        "Nobody has looked at every row: what the models got wrong, or learned from the data they were trained on, is "
        "in here as well.",
    ]
    return "\n\n".join(parts) + "\n"


def model_terms(spec: str, part: str) -> tuple[str, str]:
    """Return (licence identifier, sentence) for data that a back end made.

    The identifier is that of the data, and known for our own back ends only: what the licence of a model says about
    the data that it makes is for a person to read.

    Args:
        spec: the back end as the user typed it.
        part: what made the data, e.g. `"language model"`.
    """
    if spec == "toy":
        return "apache-2.0", f"the {part} is a part of synclr_hf (Apache-2.0); no other material is used"
    fields = licence_fields(spec)
    says = ", ".join(f"{name} {code(value)}" for name, value in fields.items())
    known = f" its own files say {says};" if fields else ""
    return "unknown", (
        f"made with the {part} {code(spec)};{known} its licence and terms of use apply to what it makes; "
        "they were not checked here"
    )


def licence_fields(spec: str, repo_type: str = "model") -> dict[str, str]:
    """Return `license`, `license_name` and `license_link` as a model's own files on this machine state them.

    Looked at are the card (`README.md`) and then `config.json`, in the folder of the model or in the cache of the
    Hub (a back end that loads a model fetches its card); nothing is guessed from the model's name. Empty where they
    say nothing.

    Args:
        spec: a back end as the user typed it; files are there for `ORG/NAME` and folders, not for what a server runs.
        repo_type: what `ORG/NAME` is on the Hub: `model` or `dataset`.
    """
    back_end, _, name = spec.partition(":")
    model = name if back_end in _LOCAL_BACK_ENDS else spec
    for file, read in (("README.md", _front_matter), ("config.json", _json)):
        path = _model_file(model, file, repo_type)
        try:
            said = read(path) if path else None
        except Exception:  # anybody may have written these files: not text, not YAML, anything in it
            continue
        found = {key: str(said[key]) for key in _LICENCE_FIELDS if said.get(key)} if isinstance(said, dict) else {}
        if "license" in found:
            return found
    return {}


def plain(text: object, limit: int = _LONGEST_TEXT) -> str:
    """Return a text of a user or a model as markdown that shows just this text, in a table too, on one line.

    Control characters are left out; what is longer than `limit` characters is cut.
    """
    text = _MARKDOWN.sub(r"\\\g<0>", _one_line(text, limit).replace("&", "&amp;"))
    return text.replace("\\<", "&lt;").replace("\\>", "&gt;")


def code(value: object) -> str:
    """Return a value as a code span of markdown, on one line, whatever it holds."""
    text = _one_line(value, 10 * _LONGEST_TEXT)
    if not text:
        return "(empty)"
    fence = "`" * (_longest_run(text) + 1)
    return f"{fence} {text} {fence}" if len(fence) > 1 else f"`{text}`"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: Collection[str] = ()) -> str:
    """Return a table of markdown.

    Args:
        columns: their headings.
        rows: markdown of the cells; bars are taken care of here.
        numbers: the columns that are set to the right.
    """
    rule = "|".join("---:" if name in numbers else "---" for name in columns)
    return "\n".join([_line(columns), f"|{rule}|", *map(_line, rows)])


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _table(left: str, right: str, rows: Mapping[str, object]) -> str:
    return table((left, right), rows.items())


def _cell(value: object) -> str:
    """Escape the bars that are not escaped: they would end a cell, in a code span too."""
    return re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\\|", str(value)).replace("\n", " ")


def _block(language: str, text: str) -> str:
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _one_line(text: object, limit: int) -> str:
    words = " ".join(str(text).split())
    shown = "".join(character for character in words if character.isprintable() or character in _JOINERS)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def _model_file(model: str, name: str, repo_type: str) -> Path | None:
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder / name
    if not _HUB_ID.fullmatch(model):
        return None
    from huggingface_hub import try_to_load_from_cache

    try:
        path = try_to_load_from_cache(model, name, repo_type=repo_type)
    except ValueError:  # no name that the Hub allows
        return None
    return Path(path) if isinstance(path, str) else None


def _front_matter(path: Path) -> Any:
    from huggingface_hub.repocard import metadata_load

    return metadata_load(path)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _size_category(rows: int) -> str:
    return next((name for limit, name in (*_SIZES, *_LARGER_SIZES, *_LARGEST_SIZES) if rows < limit), "n>1T")


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:,.1f} kB"
