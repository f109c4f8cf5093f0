"""Evaluations in a model's card: the metadata that the Hub reads, and a table for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.errors import HTTPError

from synclr_hf.data.cards import table
from synclr_hf.data.shards import write_text
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.encoders import PIXELS, UNTRAINED
from synclr_hf.evaluation.results import EvaluationResult

EVALUATIONS_DIR = "evaluation"
"""Folder of a run whose results `synclr publish` puts into the card."""
_BEGIN, _END = "<!-- synclr evaluate: begin -->", "<!-- synclr evaluate: end -->"
_KINDS = {"toy": "toy pictures", "part": "part of the benchmark"}
"""What does not stand for the data set of that name."""
_TASKS = {"labels": "image-classification", "masks": "image-segmentation"}


def update_card(where: str, results: Sequence[EvaluationResult]) -> str | None:
    """Put results into the card of the model that they are of, in place of earlier ones of the same kind.

    Args:
        where: folder or Hub id of the model; raw pixels and untrained models have no card: `None` is returned.
        results: of this model.

    Returns:
        What was done, one line.

    Raises:
        UserInputError: the card may not be written, or the model on the Hub has none.
    """
    if where == PIXELS or where.startswith(UNTRAINED):
        return None
    file = Path(where).expanduser() / "README.md"
    if file.parent.is_dir():
        text = file.read_text(encoding="utf-8") if file.is_file() else f"# {file.parent.resolve().name}\n"
        write_text(file, card_with_results(text, results))
        return f"card: {file}"
    try:
        text = str(ModelCard.load(where))
        url = ModelCard(card_with_results(text, results)).push_to_hub(where, commit_message="Evaluation results")
    except (OSError, ValueError, HTTPError) as error:  # refused, not there, not valid, no connection
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserInputError(
            f"the card of '{where}' cannot be written ({reason}); log in with hf auth login as somebody who may write "
            "there, or leave --update-card out"
        ) from error
    return f"card: {url}"


def card_with_results(text: str, results: Sequence[EvaluationResult]) -> str:
    """Return a card with results in its metadata and in a table at the end of its section on evaluation.

    Args:
        text: the card; other metadata and words stay as they are.
        results: of this model; those of the same protocol and data set that stand there already are replaced.
    """
    if not results:
        return text
    card = ModelCard(text, ignore_metadata_errors=True)
    new = [eval_result(result) for result in results]
    kept = [old for old in card.data.eval_results or [] if not any(_same(old, one) for one in new)]
    card.data.model_name = card.data.model_name or (re.findall(r"^# (.+)$", card.text, re.M) or ["encoder"])[0]
    card.data.eval_results = [*kept, *new]
    ours = [one for one in kept if isinstance(one.metric_args, dict) and one.metric_args.get("made_by") == MADE_BY]
    card.text = _with_table(card.text, _table([*ours, *new]))
    return str(card)


MADE_BY = "synclr evaluate"
"""Who made a number, in the metadata."""


def eval_result(result: EvaluationResult) -> EvalResult:
    """Return a result as the Hub's metadata has it; interval and seed are among the arguments of the metric."""
    benchmark = result.dataset["benchmark"]
    name = benchmark or _public(result.dataset["name"])
    is_part = benchmark and not result.dataset["is_whole_benchmark"]
    kind = "toy" if result.dataset["is_toy"] else "part" if is_part else None
    low, high = result.intervals[result.primary]
    return EvalResult(
        task_type=_TASKS["masks" if result.dataset["metric"] == "mean_iou" else "labels"],
        dataset_type=name,
        dataset_name=f"{name} ({_KINDS[kind]})" if kind else name,
        dataset_config=kind,  # the Hub tells data sets apart by type and configuration, not by name
        dataset_split="test",
        metric_type=result.primary,
        metric_name=result.protocol,
        metric_value=round(result.value, 4),
        metric_args={
            "interval": [round(low, 4), round(high, 4)],
            "seed": result.seed,
            "num_train": result.dataset["num_pictures"]["train"],
            "num_test": result.dataset["num_pictures"]["test"],
            "features": dict(result.model["settings"]),
            "made_by": MADE_BY,
        },
    )


def _same(old: EvalResult, new: EvalResult) -> bool:
    names = ("dataset_name", "metric_type", "metric_name")
    return all(getattr(old, name) == getattr(new, name) for name in names)


def _public(name: str) -> str:
    """Return the name of a data set without the folders of this machine."""
    is_id = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) and not Path(name).exists()
    return name if is_id else Path(name).name


def _table(results: Sequence[EvalResult]) -> str:
    rows = []
    for one in results:
        told = one.metric_args or {}
        low, high = told.get("interval", (one.metric_value, one.metric_value))
        value = f"{100 * one.metric_value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        counts = [f"{told.get(name, 0):,}" for name in ("num_train", "num_test")]
        rows.append([one.dataset_name, one.metric_name, one.metric_type, value, *counts])
    heads = ("data set", "protocol", "metric", "value [95 % bootstrap]", "train pictures", "test pictures")
    return table(heads, rows, heads[3:])


def _with_table(text: str, found: str) -> str:
    """Put the table between its marks; the first time at the end of the section on evaluation, or of the card."""
    block = f"{_BEGIN}\n{found}\n{_END}"
    if _BEGIN in text and _END in text:
        return text[: text.index(_BEGIN)] + block + text[text.index(_END) + len(_END) :]
    section = re.search(r"^## Evaluation$.*?(?=^## |\Z)", text, re.M | re.S)
    end = len(text) if section is None else section.end()
    heading = "## Evaluation\n\n" if section is None else ""
    return f"{text[:end].rstrip()}\n\n{heading}{block}\n\n{text[end:]}".rstrip() + "\n"
