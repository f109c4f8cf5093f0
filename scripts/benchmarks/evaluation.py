"""Measure the evaluation room: `python scripts/benchmarks/evaluation.py extract | logistic | knn | table`.

Each prints what it measured with machine and versions; `--json FILE` writes it, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(arguments)


# --- extract: features beside the bare forward pass ----------------------------------------------------------------


# --- logistic: 45 regularisation values together beside scikit-learn -----------------------------------------------


# --- knn: 5,000 queries against a million float16 rows -------------------------------------------------------------


# --- table: encoders side by side on real labelled pictures --------------------------------------------------------


MEASUREMENTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {}

if __name__ == "__main__":
    main()
