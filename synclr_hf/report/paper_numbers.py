"""The paper's numbers beside measured ones: where they may stand, and what must be said of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from synclr_hf.evaluation.anchors import ANCHORS, FINE_GRAINED_AVERAGE, UNSEEN_AVERAGE
from synclr_hf.evaluation.labelled.benchmarks import BENCHMARKS, FINE_GRAINED, UNSEEN
from synclr_hf.evaluation.protocols import protocol
from synclr_hf.evaluation.results import EvaluationResult
from synclr_hf.report.comparison_table import PAPER, Cell, Comparison, short_text

AVERAGES = {
    FINE_GRAINED_AVERAGE: ("average of the nine fine-grained sets", FINE_GRAINED),
    UNSEEN_AVERAGE: ("average of the six unseen sets", UNSEEN),
}
"""Name among the anchors -> name of the row, and the benchmarks that it is the mean of."""
FOUND_OUT = ("num_validation", "num_test")
"""Entries of effective settings that follow from the pictures and change with the seed."""


def is_papers(result: EvaluationResult) -> bool:
    """Tell whether a result is of a whole benchmark in its own metric."""
    known = BENCHMARKS.get(result.dataset["benchmark"] or "")
    return known is not None and result.dataset["is_whole_benchmark"] and result.primary == known.metric


def anchors(table: Comparison, result: EvaluationResult) -> dict[str, Cell]:
    """Return the paper's numbers for a row, if the row is what the paper measured."""
    if table.is_toy or not is_papers(result):
        return {}
    name = result.dataset["benchmark"]
    found = _paper(table, name, result.protocol)
    if found and not BENCHMARKS[name].same_test_split:
        table.notes.append(f"{name}: the paper's test pictures are others: {BENCHMARKS[name].split_note}.")
    return found


def unlike_the_paper(result: EvaluationResult) -> str:
    """Say which settings are not those that the paper's number was measured with: the defaults of the protocol."""
    defaults = json.loads(json.dumps(asdict(protocol(result.protocol).config_class()())))
    defaults |= {"augmented": True} if result.protocol == "linear" else {}  # the default is cheaper than the paper
    features = {"pooling": "cls", "num_layers": 1}
    told = [
        f"{name} {short_text(made[name])}"
        for made, papers in ((result.config, defaults), (result.model["settings"], features))
        for name, value in papers.items()
        if made.get(name) not in (None, value) and name not in FOUND_OUT
    ]
    return ", ".join(told)


def _paper(table: Comparison, benchmark: str, protocol: str) -> dict[str, Cell]:
    found = {}
    for model, numbers in ANCHORS.items():
        anchor = numbers.get(benchmark)
        if anchor is not None and anchor.protocol == protocol:
            found[f"{model}{PAPER}"] = Cell(anchor.value, from_paper=True)
            table.notes += [f"{benchmark} in the paper: {anchor.note}."] if anchor.note else []
    return found


def add_averages(table: Comparison, whole: Mapping[tuple[str, str], Mapping[str, Cell]]) -> None:
    """Add the paper's averages for encoders that were evaluated on all the benchmarks of one.

    Args:
        table: gets a row an average.
        whole: (benchmark, protocol) -> encoder -> number, of whole benchmarks.
    """
    for name, (told, benchmarks) in AVERAGES.items():
        for way in dict.fromkeys(way for _, way in whole):
            columns = [whole.get((benchmark, way), {}) for benchmark in benchmarks]
            complete = [encoder for encoder in columns[0] if all(encoder in column for column in columns)]
            if complete:
                cells = {
                    encoder: Cell(sum(column[encoder].value for column in columns) / len(columns))
                    for encoder in complete
                }
                table.rows[f"{told}, {way}"] = cells | _paper(table, name, way)
