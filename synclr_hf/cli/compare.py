"""Put evaluations side by side, beside the paper's numbers where they are of the same kind."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from synclr_hf.data.shards import write_text
from synclr_hf.evaluation.results import EvaluationResult, find_results

TABLE_FILE = "comparison.md"


def main(arguments: Sequence[str]) -> None:
    """Parse the options, print the tables, write them and their plots."""
    parser = argparse.ArgumentParser(prog="synclr compare", description=__doc__)
    parser.add_argument("results", nargs="+", help="files or folders that synclr evaluate --output wrote")
    parser.add_argument("--output", help=f"folder for {TABLE_FILE} and its plots")
    options = parser.parse_args(arguments)
    show(find_results(options.results), Path(options.output).expanduser() if options.output else None)


def show(results: Sequence[EvaluationResult], folder: Path | None) -> None:
    """Print the tables of a comparison, and write them to a folder with their plots."""
    from synclr_hf.report.comparison import compare

    tables = compare(results)
    text = "\n".join(table.markdown() for table in tables)
    print(text, end="")
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / TABLE_FILE, text)
    print(f"table: {folder / TABLE_FILE}")
    for table in tables:
        file = folder / ("comparison_toy.png" if table.is_toy else "comparison.png")
        file.write_bytes(table.picture())
        print(f"plot: {file}")
