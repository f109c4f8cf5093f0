"""Evaluations side by side: one table of rows that may be compared, never toy numbers beside others."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from synclr_hf.data.cards import code
from synclr_hf.evaluation.intervals import seed_interval
from synclr_hf.evaluation.results import EvaluationResult
from synclr_hf.report import paper_numbers
from synclr_hf.report.comparison_table import PAPER, Cell, Comparison, short_text
from synclr_hf.report.paper_numbers import FOUND_OUT

METRIC_WORDS = {
    "accuracy": "accuracy",
    "mean_per_class_accuracy": "mean per-class accuracy",
    "map_11point": "11-point mAP",
    "mean_iou": "mIoU",
    "map": "mAP",
}
UNTRAINED = "untrained:"
"""Before the name of a model whose weights are random; see `encoders`, which loads torch."""


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
            anchors = paper_numbers.anchors(found, members[0])
            found.rows[labels[key]] = _cells(members, names) | anchors
            for member in members if anchors else ():
                if other := paper_numbers.unlike_the_paper(member):
                    encoder = code(names[member.model["fingerprint"]])
                    found.notes.append(f"{labels[key]}: settings of {encoder} that are not the paper's: {other}.")
            found.notes += _differences(labels[key], members, names)
        whole: dict[tuple[str, str], dict[str, Cell]] = {}
        for members in rows.values():
            if paper_numbers.is_papers(members[0]):
                key = (members[0].dataset["benchmark"], members[0].protocol)
                whole.setdefault(key, {}).update(_cells(members, names))
        paper_numbers.add_averages(found, whole)
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
        settings = {name: value for name, value in member.config.items() if name not in FOUND_OUT}
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
        f"{name} {short_text(value)}"
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


def _differences(row: str, members: Sequence[EvaluationResult], names: Mapping[str, str]) -> list[str]:
    """Say where the members of a row were not made alike."""
    notes = []
    first = members[0]
    shown = names[first.model["fingerprint"]]
    for other in members[1:]:
        name = names[other.model["fingerprint"]]
        config = [
            f"{key} {short_text(first.config.get(key))} and {short_text(other.config.get(key))}"
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
