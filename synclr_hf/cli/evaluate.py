"""`synclr evaluate`: encoders, their untrained twin and raw pixels on one labelled set of pictures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, PreTrainedModel

from synclr_hf.data.seeds import seed_for
from synclr_hf.data.shards import write_text
from synclr_hf.evaluation.data import labelled_splits
from synclr_hf.evaluation.encoders import load_pretrained
from synclr_hf.evaluation.stage import evaluate_encoders


def load_encoder(name: str) -> PreTrainedModel:
    """Load an encoder from a folder or the Hub.

    Raises:
        UserInputError: nothing there that `AutoModel` loads.
    """
    hint = "type the folder of an encoder, e.g. outputs/quickstart/encoder"
    return load_pretrained(AutoModel, name, "--model", hint)


def untrained_encoder(name: str, seed: int) -> PreTrainedModel:
    """Build the same encoder with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "untrained") % 2**32)
        return AutoModel.from_config(AutoConfig.from_pretrained(name))


def main(arguments: Sequence[str]) -> None:
    """Parse the options, evaluate, print a table and write the numbers."""
    parser = argparse.ArgumentParser(prog="synclr evaluate", description=__doc__)
    parser.add_argument("--model", required=True, help="folder or Hub id of an encoder")
    parser.add_argument("--eval-dataset", required=True, help="folder or Hub id of a labelled image data set")
    parser.add_argument("--output", help="JSON file for the numbers")
    parser.add_argument("--seed", type=int, default=0, help="seed of the probe and of the untrained encoder")
    options = parser.parse_args(arguments)
    encoders = {"trained": load_encoder(options.model), "untrained": untrained_encoder(options.model, options.seed)}
    sides = labelled_splits(options.eval_dataset, seed=options.seed)
    if options.output:
        Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    results = evaluate_encoders(encoders, *sides, seed=options.seed)
    print(f"{'':<12}{'kNN top-1':>10}{'linear top-1':>14}")
    for name, accuracy in results["knn_top1"].items():
        print(f"{name:<12}{accuracy:>10.1%}{results['linear_top1'][name]:>14.1%}")
    if options.output:
        write_text(Path(options.output), json.dumps(results, indent=1) + "\n")
        print(f"numbers: {options.output}")
