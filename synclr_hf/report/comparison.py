"""Evaluations side by side: one table of rows that may be compared, never toy numbers beside others."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from synclr_hf.data.cards import code, table
from synclr_hf.data.plots import interval_plot
from synclr_hf.evaluation.anchors import ANCHORS, FINE_GRAINED_AVERAGE, UNSEEN_AVERAGE
from synclr_hf.evaluation.intervals import seed_interval
from synclr_hf.evaluation.labelled.benchmarks import BENCHMARKS, FINE_GRAINED, UNSEEN
from synclr_hf.evaluation.results import EvaluationResult

UNTRAINED = "untrained:"
"""Before the name of a model whose weights are random; see `encoders`, which loads torch."""

TOY_WORDS = "Toy pictures: these numbers say that the street works, and are not to be compared with any others."
METRIC_WORDS = {
    "accuracy": "accuracy",
    "mean_per_class_accuracy": "mean per-class accuracy",
    "map_11point": "11-point mAP",
    "mean_iou": "mIoU",
    "map": "mAP",
}
PAPER = " (paper)"
AVERAGES = {
    FINE_GRAINED_AVERAGE: ("average of the nine fine-grained sets", FINE_GRAINED),
    UNSEEN_AVERAGE: ("average of the six unseen sets", UNSEEN),
}
"""Name among the anchors -> name of the row, and the benchmarks that it is the mean of."""
_FOUND_OUT = ("num_validation", "num_test")
"""Entries of effective settings that follow from the pictures and change with the seed."""


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        value: fraction in [0, 1].
        interval: (low, high), or `None` where it is not known.
        from_paper: printed in the paper, not measured.
        num_seeds: of how many seeds it is the mean.
    """

    value: float
    interval: tuple[float, float] | None = None
    from_paper: bool = False
    num_seeds: int = 1

    def text(self) -> str:
        """Return it in per cent."""
        between = "" if self.interval is None else " [{:.1f}, {:.1f}]".format(*(100 * end for end in self.interval))
        return f"{100 * self.value:.1f}{between}"


@dataclass
class Comparison:
    """A table whose rows are data sets with a protocol and whose columns are encoders.

    Attributes:
        is_toy: whether the pictures are toy pictures.
        rows: row -> encoder -> number.
        notes: what a reader must know, one line each.
    """

    is_toy: bool
    rows: dict[str, dict[str, Cell]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The encoders, those of the paper last."""
        names = dict.fromkeys(name for cells in self.rows.values() for name in cells)
        return sorted(names, key=lambda name: name.endswith(PAPER))

    def markdown(self) -> str:
        """Return the table with its notes."""
        rows = [
            [name, *(cells[column].text() if column in cells else "" for column in self.columns)]
            for name, cells in self.rows.items()
        ]
        heads = [code(name) if not name.endswith(PAPER) else name for name in self.columns]
        words = "Per cent [95 % interval]."
        head = f"{TOY_WORDS} {words}" if self.is_toy else words
        notes = "".join(f"\n- {note}" for note in self.notes)
        return f"{head}\n\n{table(['', *heads], rows, heads)}\n{notes}".rstrip() + "\n"

    def picture(self) -> bytes:
        """Return the table as a plot, a PNG."""
        short = {name.partition(" (")[0] for name in self.rows}
        rows = [
            (
                name.partition(" (")[0] if len(short) == len(self.rows) else name,
                [(one, 100 * cell.value, _percent(cell.interval), cell.from_paper) for one, cell in cells.items()],
            )
            for name, cells in self.rows.items()
        ]
        return interval_plot(rows, axis="per cent (toy pictures)" if self.is_toy else "per cent")


def compare(results: Sequence[EvaluationResult]) -> list[Comparison]:
    """Put evaluations side by side.

    Results stand in one row if protocol, metric, and the test pictures are the same. Several seeds become their mean,
    whose interval adds the t interval over seeds and the bootstrap interval over test pictures as squares. Where one
    encoder has results of several settings or amounts of training pictures, each of them has a row; where those of
    different encoders differ, a note says so. The paper's numbers join a row of a whole benchmark under the paper's
    protocol and metric, marked.

    Args:
        results: at least one.

    Returns:
        One table for toy pictures, one for all others, whichever there are.
    """
    names = _encoder_names(results)
    tables = []
    for is_toy in (True, False):
        found = Comparison(is_toy)
        rows: dict[tuple[str, ...], list[EvaluationResult]] = {}
        for result in results:
            if bool(result.dataset["is_toy"]) == is_toy:
                rows.setdefault(_row_key(result), []).append(result)
        rows = {key: members for row in rows.items() for key, members in _by_settings(*row, names).items()}
        labels = _row_names(list(rows))
        for key, members in rows.items():
            found.rows[labels[key]] = _cells(members, names) | _anchors(found, members[0])
            found.notes += _differences(labels[key], members, names)
        _add_averages(found, rows, names)
        if rows:
            if any(name.endswith(PAPER) for name in found.columns):
                found.notes.append("(paper): printed in the SynCLR paper (arXiv 2312.17742), not measured here.")
            found.notes = list(dict.fromkeys(found.notes))
            tables.append(found)
    return tables


def _row_key(result: EvaluationResult) -> tuple[str, ...]:
    test = result.dataset["fingerprints"]["test"]
    name = result.dataset["benchmark"] or _short_name(result.dataset["name"])
    # a part of a benchmark may share its test pictures, but never a row with the paper's numbers
    part = "part of the benchmark" if result.dataset["benchmark"] and not result.dataset["is_whole_benchmark"] else ""
    return (name, result.protocol, METRIC_WORDS.get(result.primary, result.primary), part, test)


def _by_settings(
    key: tuple[str, ...], members: Sequence[EvaluationResult], names: Mapping[str, str]
) -> dict[tuple[str, ...], list[EvaluationResult]]:
    """Divide a row where one encoder has results that are no repetitions of each other; else it stays whole.

    Repetitions differ in their seed, and by it in the pictures that were drawn to learn from, not in their number.
    """
    groups: dict[str, list[EvaluationResult]] = {}
    runs: dict[tuple[str, int], set[str]] = {}
    for member in members:
        runs.setdefault((names[member.model["fingerprint"]], member.seed), set()).add(_train_marks(member))
    has_other_train = any(len(found) > 1 for found in runs.values())  # as many pictures, but others
    for member in members:
        settings = {name: value for name, value in member.config.items() if name not in _FOUND_OUT}
        made = {"settings": settings, "pictures": member.dataset["num_pictures"]}
        made |= {"train": _train_marks(member)} if has_other_train else {}
        groups.setdefault(json.dumps(made, sort_keys=True), []).append(member)
    encoders = [{names[member.model["fingerprint"]] for member in group} for group in groups.values()]
    if sum(map(len, encoders)) == len(set().union(*encoders)):
        return {(*key, ""): list(members)}
    made = [json.loads(group) for group in groups]
    return {(*key, _told_apart(one, made)): group for one, group in zip(made, groups.values(), strict=True)}


def _train_marks(result: EvaluationResult) -> str:
    return json.dumps({side: mark for side, mark in result.dataset["fingerprints"].items() if side != "test"})


def _told_apart(one: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """Say what was made otherwise than in others: settings, numbers of pictures, pictures to learn from."""
    told = [
        f"{name} {_short(value)}"
        for part in ("settings", "pictures")
        for name, value in one[part].items()
        if any(other[part].get(name) != value for other in others)
    ]
    if any(other.get("train") != one.get("train") for other in others):
        told.append(f"train pictures {_mark(one['train'])}")
    return ", ".join(told)


def _mark(fingerprint: str) -> str:
    """Return six characters that tell fingerprints apart, also those that begin alike."""
    return blake2b(fingerprint.encode(), digest_size=3).hexdigest()


def _short_name(name: str) -> str:
    """Return the last part of a path; a Hub id stays as it is."""
    return name if name.count("/") == 1 and name[0] not in "./~" else Path(name).name


def _row_names(keys: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Name the rows; where two differ in their test pictures, by these."""
    names = {}
    for key in keys:
        name, protocol, metric, part, test, settings = key
        tests = {other[4] for other in keys if other[:4] == key[:4]}
        marks = (metric, part, f"test pictures {_mark(test)}" if len(tests) > 1 else "", settings)
        names[key] = f"{name}, {protocol} ({', '.join(filter(None, marks))})"
    return names


def _encoder_names(results: Sequence[EvaluationResult]) -> dict[str, str]:
    """Name the encoders: as typed, and by what else differs where one name stands for several."""
    typed: dict[str, dict[str, EvaluationResult]] = {}
    for result in results:
        typed.setdefault(result.model["name"], {})[result.model["fingerprint"]] = result
    names = {}
    for name, members in typed.items():
        settings = [member.model["settings"] for member in members.values()]
        for mark, member in members.items():
            differ = [f"{k}={v}" for k, v in member.model["settings"].items() if any(v != s.get(k) for s in settings)]
            others = [m for m in members.values() if m.model["settings"] == member.model["settings"]]
            if len(others) > 1 and not name.startswith(UNTRAINED):  # which has other weights with every seed
                differ.append(f"weights {(member.model['weights'] or mark)[:6]}")
            names.setdefault(mark, f"{name} ({', '.join(differ)})" if differ else name)  # one encoder, one column
    return names


def _cells(members: Sequence[EvaluationResult], names: Mapping[str, str]) -> dict[str, Cell]:
    by_encoder: dict[str, dict[int, EvaluationResult]] = {}
    for member in members:
        by_encoder.setdefault(names[member.model["fingerprint"]], {})[member.seed] = member
    return {name: _cell(list(seeds.values())) for name, seeds in by_encoder.items()}


def _cell(runs: Sequence[EvaluationResult]) -> Cell:
    if len(runs) == 1:
        low, high = runs[0].intervals[runs[0].primary]
        return Cell(runs[0].value, (low, high))
    values = [run.value for run in runs]
    mean = sum(values) / len(values)
    low, high = seed_interval(values) or (mean, mean)
    pictures = sum(end - start for start, end in (run.intervals[run.primary] for run in runs)) / len(runs) / 2
    half = math.hypot((high - low) / 2, pictures)  # other seeds and other test pictures are independent errors
    return Cell(mean, (max(mean - half, 0.0), min(mean + half, 1.0)), num_seeds=len(values))


def _is_papers(result: EvaluationResult) -> bool:
    """Tell whether a result is of a whole benchmark in its own metric."""
    known = BENCHMARKS.get(result.dataset["benchmark"] or "")
    return known is not None and result.dataset["is_whole_benchmark"] and result.primary == known.metric


def _anchors(table: Comparison, result: EvaluationResult) -> dict[str, Cell]:
    """Return the paper's numbers for a row, if the row is what the paper measured."""
    if table.is_toy or not _is_papers(result):
        return {}
    name = result.dataset["benchmark"]
    found = _paper(table, name, result.protocol)
    if found and not BENCHMARKS[name].same_test_split:
        table.notes.append(f"{name}: the paper's test pictures are others: {BENCHMARKS[name].split_note}.")
    return found


def _paper(table: Comparison, benchmark: str, protocol: str) -> dict[str, Cell]:
    found = {}
    for model, numbers in ANCHORS.items():
        anchor = numbers.get(benchmark)
        if anchor is not None and anchor.protocol == protocol:
            found[f"{model}{PAPER}"] = Cell(anchor.value, from_paper=True)
            table.notes += [f"{benchmark} in the paper: {anchor.note}."] if anchor.note else []
    return found


def _add_averages(
    table: Comparison, rows: Mapping[tuple[str, ...], Sequence[EvaluationResult]], names: Mapping[str, str]
) -> None:
    """Add the paper's averages for encoders that were evaluated on all the benchmarks of one, each of them whole."""
    whole: dict[tuple[str, str], dict[str, Cell]] = {}
    for members in rows.values():
        one = members[0]
        if _is_papers(one):
            whole.setdefault((one.dataset["benchmark"], one.protocol), {}).update(_cells(members, names))
    for name, (told, benchmarks) in AVERAGES.items():
        for protocol in dict.fromkeys(protocol for _, protocol in whole):
            columns = [whole.get((benchmark, protocol), {}) for benchmark in benchmarks]
            complete = [encoder for encoder in columns[0] if all(encoder in column for column in columns)]
            if complete:
                cells = {
                    encoder: Cell(sum(column[encoder].value for column in columns) / len(columns))
                    for encoder in complete
                }
                table.rows[f"{told}, {protocol}"] = cells | _paper(table, name, protocol)


def _differences(row: str, members: Sequence[EvaluationResult], names: Mapping[str, str]) -> list[str]:
    """Say where the members of a row were not made alike."""
    notes = []
    first = members[0]
    shown = names[first.model["fingerprint"]]
    for other in members[1:]:
        name = names[other.model["fingerprint"]]
        config = [
            f"{key} {_short(first.config.get(key))} and {_short(other.config.get(key))}"
            for key in dict.fromkeys([*first.config, *other.config])
            if first.config.get(key) != other.config.get(key)
        ]
        if config:
            notes.append(f"{row}: settings differ between {code(shown)} and {code(name)}: {'; '.join(config)}.")
        if first.dataset["fingerprints"]["train"] != other.dataset["fingerprints"]["train"]:
            notes.append(f"{row}: {code(shown)} and {code(name)} learned from other labelled pictures.")
    seeds: dict[str, set[int]] = {}
    for member in members:
        seeds.setdefault(names[member.model["fingerprint"]], set()).add(member.seed)
    if any(len(found) > 1 for found in seeds.values()):
        told = "; ".join(f"{code(name)} {', '.join(map(str, sorted(found)))}" for name, found in seeds.items())
        notes.append(f"{row}: mean over the seeds {told}; the interval is of other seeds and other test pictures.")
    return list(dict.fromkeys(notes))


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _percent(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (100 * interval[0], 100 * interval[1])
