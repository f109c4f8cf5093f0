"""Sets of evaluations that are run together."""

from __future__ import annotations

from typing import NamedTuple

from synclr_hf.errors import unknown_name
from synclr_hf.evaluation.labelled.benchmarks import BENCHMARKS, FINE_GRAINED, UNSEEN


class SuiteEntry(NamedTuple):
    """One evaluation of a suite: a benchmark by its name, a protocol by its name, the table of the paper."""

    benchmark: str
    protocol: str
    table: str


def _entries(names: tuple[str, ...], protocol: str) -> tuple[SuiteEntry, ...]:
    return tuple(SuiteEntry(name, protocol, BENCHMARKS[name].table) for name in names)


SUITES: dict[str, tuple[SuiteEntry, ...]] = {
    "paper": (
        *_entries(("imagenet",), "linear"),
        *_entries(FINE_GRAINED, "logistic"),
        *_entries(("ade20k",), "upernet"),
        *_entries(UNSEEN, "logistic"),
    )
}
"""`paper`: Table 6 (ImageNet by linear probe, nine fine-grained sets by logistic regression), Table 7 (ADE20k by
UperNet) and Table 9 (unseen concepts by logistic regression)."""


def suite(name: str) -> tuple[SuiteEntry, ...]:
    """Return the evaluations of a suite.

    Raises:
        UserInputError: there is none of that name.
    """
    if name not in SUITES:
        raise unknown_name("suite", name, SUITES, "--suite paper")
    return SUITES[name]
