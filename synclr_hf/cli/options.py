"""Command-line options of the stages that make data sets, from the dataclass of each."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from transformers import HfArgumentParser

from synclr_hf.data.checks import COUNT, read_count
from synclr_hf.data.executors import ExecutorConfig, execute
from synclr_hf.data.runs import FINISHING, RUN_FILE, Part, read_record
from synclr_hf.errors import UserInputError, unknown_name

if TYPE_CHECKING:
    from synclr_hf.hub.shipping import DatasetTarget

Config = TypeVar("Config")


@dataclass(frozen=True)
class StageOptions(Generic[Config]):
    """What the user typed.

    Attributes:
        config: the settings of the stage.
        workers: number of processes; `None`: as many as suit the back end.
        executor: where it runs.
        target: where the data set goes on the Hub, if it shall.
    """

    config: Config
    workers: int | None
    executor: ExecutorConfig
    target: DatasetTarget | None


def stage_options(
    cls: type[Config],
    stage: str,
    arguments: Sequence[str],
    *,
    epilog: str = "",
    executors: bool = False,
    default_name: str | None = None,
) -> StageOptions[Config]:
    """Parse the settings of a generating stage, each an option, and how it is run.

    Args:
        cls: dataclass of the settings; fields with the metadata `COUNT` also take `10k` and `1M`.
        stage: the subcommand.
        arguments: what the user typed.
        epilog: stands below the options in the help.
        executors: whether the stage can run on a cluster.
        default_name: name of the folder where no other one follows from the arguments; default: the stage.

    Raises:
        UserInputError: an option that the stage does not have, or one without what it needs.
    """
    classes = [cls, ExecutorConfig] if executors else [cls]
    parser = settings_parser(cls, *classes[1:], stage=stage, epilog=epilog)
    for action in parser._actions:
        if action.dest == "output_dir":
            action.required, action.default = False, _default_folder(default_name or stage, arguments)
            action.option_strings = [*action.option_strings, "--output"]
            parser._option_string_actions["--output"] = action
            action.help += f" (default: {action.default})".replace("%", "%%")
    parser.add_argument("--workers", type=int, help="processes (default: one a core for toy, one a GPU for a model)")
    parser.add_argument("--push-to-hub", metavar="ORG/NAME", help="publish the data set there, shard by shard")
    parser.add_argument("--private", action="store_true", help="with --push-to-hub: make a new repository private")
    parser.add_argument("--replace", action="store_true", help="with --push-to-hub: write over other things there")
    config, *executor, options, unknown = parser.parse_args_into_dataclasses(
        arguments, return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        raise unknown_name("option", unknown[0], parser._option_string_actions, f"synclr {stage} --help")
    if getattr(config, "extend", False):
        config = _as_before(config, arguments)
    return StageOptions(config, options.workers, executor[0] if executor else ExecutorConfig(), _target(options))


def _as_before(config: Config, arguments: Sequence[str]) -> Config:
    """Take settings that were not typed from the run that is extended: a forgotten one would be paid for."""
    folder = Path(config.output_dir).expanduser()  # type: ignore[attr-defined]
    if not (folder / RUN_FILE).is_file():
        return config
    record = read_record(folder)
    before = {**record["configuration"], "rows_per_shard": record.get("rows_per_shard")}
    dashed = [argument.partition("=")[0].replace("_", "-") for argument in arguments if argument.startswith("--")]
    typed = [name.replace("--no-", "--", 1) for name in dashed]
    left_out = {
        field.name: before[field.name]
        for field in fields(config)  # type: ignore[arg-type]
        if field.name in before and not any(f"--{field.name.replace('_', '-')}".startswith(name) for name in typed)
    }
    return replace(config, **left_out)  # type: ignore[type-var]


def settings_parser(cls: type, *others: type, stage: str, epilog: str = "") -> HfArgumentParser:
    """Return a parser with an option for every field of some dataclasses; the help is what the first one documents.

    Args:
        cls: dataclass of the settings; fields with the metadata `COUNT` also take `10k` and `1M`.
        others: more dataclasses.
        stage: the subcommand.
        epilog: stands below the options in the help.
    """
    told, helps = documented(cls)
    parser = HfArgumentParser([cls, *others], prog=f"synclr {stage}", description=told, epilog=epilog)
    parser.formatter_class = argparse.HelpFormatter
    counts = {field.name for field in fields(cls) if field.metadata == COUNT}
    for action in parser._actions:
        if action.dest in counts:
            action.type = count_option
        if action.dest in helps:
            has_none = action.default is None or action.default is False or action.default == [] or action.required
            default = "" if has_none else f" (default: {action.default})"
            negated = "do not " if isinstance(action, argparse._StoreFalseAction) else ""
            action.help = f"{negated}{helps[action.dest]}{default}".replace("%", "%%")
    return parser


def run_stage(options: StageOptions[Config], stage: str, make: Callable[..., Path]) -> None:
    """Run a stage, tell where its data set lies, and publish it if that was asked for."""
    if options.target is not None:
        options.target.check()
    folder = options.config.output_dir  # type: ignore[attr-defined]
    whole = partial(_make_and_publish, make, options, stage)
    print(f"{stage}: {execute(whole, options.executor, folder)}")


def _make_and_publish(
    make: Callable[..., Path], options: StageOptions[Config], stage: str, *, part: Part | None = None
) -> Path:
    """Make the run or a part of it, and publish its shards meanwhile; the call that finishes it publishes the rest."""
    told = {} if part is None else {"part": part}
    with nullcontext() if options.target is None else options.target.shipping(part) as sink:
        folder = make(options.config, workers=options.workers, sink=sink, **told)
    if options.target is not None and part in (None, FINISHING):
        print(f"published: {options.target.push(folder, stage)}")
    return folder


def documented(cls: type) -> tuple[str, dict[str, str]]:
    """Return the first line of the docstring of a dataclass, and what it and its bases say of each attribute."""
    helps: dict[str, str] = {}
    first = ""
    for one in reversed(cls.__mro__[:-1]):
        first, _, rest = inspect.cleandoc(one.__doc__ or "").partition("\n\nAttributes:\n")
        entries = (entry.partition(": ") for entry in re.split(r"\n    (?=\w+: )", f"\n{rest}")[1:])
        helps |= {name: " ".join(text.split()) for name, _, text in entries}
    return first, helps


def _target(options: argparse.Namespace) -> DatasetTarget | None:
    if options.push_to_hub is not None:
        from synclr_hf.hub.shipping import DatasetTarget  # it takes seconds

        return DatasetTarget(options.push_to_hub, options.private, options.replace)
    for name in ("private", "replace"):
        if getattr(options, name):
            raise UserInputError(f"--{name} is for a data set that is published; type --push-to-hub ORG/NAME as well")
    return None


def _default_folder(default: str, arguments: Sequence[str]) -> str:
    """Return `outputs/` with the name that the data set has on the Hub, or with the default."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--push-to-hub")
    try:
        name = parser.parse_known_args(arguments)[0].push_to_hub or default
    except argparse.ArgumentError:  # the whole parser says it better
        name = default
    return f"outputs/{name.rpartition('/')[2]}"


def count_option(text: str) -> int:
    """Read a count as a type of argparse; see `read_count`."""
    try:
        return read_count(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
