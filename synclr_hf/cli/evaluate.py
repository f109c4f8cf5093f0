"""Evaluate encoders on labelled pictures by the paper's protocols and others; one JSON file each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from synclr_hf.cli.compare import show
from synclr_hf.cli.machine import machine
from synclr_hf.cli.options import documented
from synclr_hf.cli.recipe import entries_of
from synclr_hf.data.progress import Progress
from synclr_hf.data.settings import settings_from
from synclr_hf.errors import UserInputError, unknown_name

PACKAGES = ("synclr-hf", "torch", "transformers", "datasets", "numpy", "pillow")
DEFAULT_PROTOCOLS = "knn,linear"
POOLINGS = ("cls", "mean_patch", "cls_mean_patch")
MODELS = (
    "folder or Hub id of any vision model that AutoModel loads; untrained:MODEL is the same with random weights, "
    "pixels are raw pixels; repeatable"
)
DATASETS = "a benchmark by name, a folder, a Hub id, or BENCHMARK=FOLDER_OR_ID for a copy of a benchmark; repeatable"


def main(arguments: Sequence[str]) -> None:
    """Parse the options, evaluate, print a table, write the numbers."""
    options = _parsed(arguments)
    if options.explain:
        print(explained(options.explain))
        return
    if not options.model:
        raise UserInputError("no model to evaluate; type --model FOLDER_OR_ID")
    output, jobs = Path(options.output).expanduser(), _jobs(options)
    with Progress("loading torch and transformers"):
        from synclr_hf.evaluation.encoding.encoder_loading import load_encoder
        from synclr_hf.evaluation.labelled.data import load_evaluation_data
        from synclr_hf.evaluation.results import find_results
        from synclr_hf.evaluation.stage import EvaluationPlan, Job, run_evaluations
    settings = _settings(options.settings)
    if unused := sorted(set(settings) - {name for _, protocols in jobs for name in protocols}):
        raise UserInputError(f"{unused[0]} has settings but is not evaluated; add it to --protocols")
    plan = EvaluationPlan(
        models=options.model,
        jobs=[Job(name, protocols) for name, protocols in jobs],
        output_dir=output,
        load_encoder=partial(
            load_encoder,
            seed=options.seed,
            device=options.device,
            dtype=options.dtype,
            image_size=options.image_size,
            normalisation=options.normalisation,
            pooling=options.pooling,
            num_layers=options.num_layers,
            batch_size=options.batch_size,
        ),
        load_data=partial(
            load_evaluation_data,
            seed=options.seed,
            image_column=options.image_column,
            label_column=options.label_column,
            mask_column=options.mask_column,
            train_split=options.train_split,
            test_split=options.test_split,
            metric=options.metric,
            max_train=options.max_train,
            max_test=options.max_test,
        ),
        settings=settings,
        seed=options.seed,
        replace=options.replace,
        machine=machine(),
        versions={name: version(name) for name in PACKAGES},
    )
    results, failures = [], []
    for answer in run_evaluations(plan):
        if answer.result is None:
            failures.append(answer)
            print(f"synclr: {answer.what}: {answer.failure}", file=sys.stderr)
            continue
        results.append(answer.result)
        low, high = (100 * end for end in answer.result.intervals[answer.result.primary])
        value = f"{100 * answer.result.value:.1f} % [{low:.1f}, {high:.1f}]"
        print(f"{answer.what}: {answer.result.primary} {value}: {answer.file}", flush=True)
    if results:
        print()
        show(find_results([output]), output)
        if options.update_card:
            _update_cards(results)
    if failures:
        raise UserInputError(
            f"{len(failures)} of {len(failures) + len(results)} evaluations could not be made, the reasons are above; "
            "what was made is kept"
        )


def explained(name: str) -> str:
    """Return what a protocol does and its settings."""
    from synclr_hf.evaluation.protocols import protocol

    entry = protocol(name)
    config = entry.config_class()
    told, helps = documented(config)
    lines = [f"{name}: {entry.told}", "", told, ""]
    lines += [f"  {name}.{key}={_shown(getattr(config(), key))}".ljust(44) + f" {what}" for key, what in helps.items()]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    """Return a default as it is typed; many numbers as their range."""
    if isinstance(value, tuple) and len(value) > 9:
        return f"[{value[0]}, ..., {value[-1]}] ({len(value)} values)"
    return json.dumps(value)


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    from synclr_hf.evaluation.protocols import PROTOCOLS
    from synclr_hf.evaluation.suites import SUITES

    listed = "\n".join(f"  {name:<16}{entry.told}" for name, entry in PROTOCOLS.items())
    parser = argparse.ArgumentParser(
        prog="synclr evaluate",
        description=__doc__,
        epilog=f"protocols:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", action="append", default=[], help=MODELS)
    parser.add_argument("--dataset", action="append", default=[], help=DATASETS)
    parser.add_argument("--protocols", help=f"names with commas between them (default: {DEFAULT_PROTOCOLS})")
    parser.add_argument("--suite", choices=list(SUITES), help="benchmarks and protocols that belong together")
    parser.add_argument("--output", default="outputs/evaluation", help="folder of the results (default: %(default)s)")
    parser.add_argument("--explain", metavar="PROTOCOL", help="print the settings of a protocol and end")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything that is random (default: 0)")
    parser.add_argument("--replace", action="store_true", help="write over results of other settings in the folder")
    parser.add_argument(
        "--update-card", action="store_true", help="put the numbers into the model's card, in its folder or on the Hub"
    )
    how = parser.add_argument_group("how pictures become features")
    how.add_argument("--pooling", default="cls", choices=POOLINGS, help="(default: cls)")
    how.add_argument("--num-layers", type=int, default=1, help="the last so many layers (default: 1)")
    how.add_argument("--image-size", type=int, help="side of the pictures in pixels (default: the model's own)")
    how.add_argument("--normalisation", choices=["imagenet", "clip"], help="mean and deviation (default: the model's)")
    how.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="(bfloat16 on CUDA, else float32)")
    how.add_argument("--device", help="e.g. cuda (default: a GPU if there is one)")
    how.add_argument("--batch-size", type=int, default=64, help="pictures a forward pass (default: 64)")
    which = parser.add_argument_group("which pictures")
    which.add_argument("--image-column", help="column of the pictures")
    which.add_argument("--label-column", help="column of the classes")
    which.add_argument("--mask-column", help="column of the masks")
    which.add_argument("--train-split", help="split that is learned from")
    which.add_argument("--test-split", help="split that the numbers are about")
    which.add_argument("--metric", help="accuracy, mean_per_class_accuracy, map_11point or mean_iou")
    which.add_argument("--max-train", type=int, help="at most so many pictures to learn from, classes even")
    which.add_argument("--max-test", type=int, help="at most so many test pictures")
    parser.add_argument("settings", nargs="*", metavar="protocol.setting=value", help="see --explain PROTOCOL")
    return parser.parse_intermixed_args(arguments)


def _jobs(options: argparse.Namespace) -> list[tuple[str, tuple[str, ...]]]:
    """Return what is evaluated on which data set."""
    from synclr_hf.evaluation.suites import SUITES

    if not options.suite:
        if not options.dataset:
            raise UserInputError("no data set to evaluate on; type --dataset FOLDER_OR_ID, or --suite paper")
        typed = DEFAULT_PROTOCOLS if options.protocols is None else options.protocols
        protocols = tuple(dict.fromkeys(filter(None, typed.replace(" ", "").split(","))))
        if not protocols:
            raise UserInputError(f"--protocols '{typed}' names none; type --protocols {DEFAULT_PROTOCOLS}")
        return [(name, protocols) for name in options.dataset]
    if options.protocols:
        raise UserInputError("--suite names its protocols itself; leave --protocols out")
    jobs: dict[str, list[str]] = {}
    for entry in SUITES[options.suite]:
        jobs.setdefault(entry.benchmark, []).append(entry.protocol)
    copies = {name.partition("=")[0]: name for name in options.dataset}
    for name in copies:
        if name not in jobs:
            raise unknown_name("benchmark of the suite", name, jobs, "--dataset aircraft=FOLDER_OR_ID")
    return [(copies.get(name, name), tuple(protocols)) for name, protocols in jobs.items()]


def _settings(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the settings of the protocols that are typed."""
    from synclr_hf.evaluation.protocols import protocol

    settings = {}
    for name, found in entries_of(overrides).items():
        try:
            settings[name] = settings_from(protocol(name).config_class(), found, name)
        except UserInputError as error:  # in the words of a recipe, where a section has lines of its own
            raise UserInputError(
                str(error).replace(f"one of these under `{name}:`", f"{name}.SETTING=VALUE")
            ) from None
    return settings


def _update_cards(results: Sequence[Any]) -> None:
    from synclr_hf.hub.evaluations import update_card

    for name in dict.fromkeys(result.model["name"] for result in results):
        if told := update_card(name, [result for result in results if result.model["name"] == name]):
            print(told)
