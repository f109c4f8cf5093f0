"""The command `synclr`: one subcommand a stage, and `run` for the whole street."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from keyword import iskeyword

from synclr_hf.data.shards import DISK_FULL
from synclr_hf.errors import UserInputError, unknown_name

COMMANDS = {
    "run": "run a whole recipe: captions, images, pre-training, evaluation, report",
    "plan": "reckon GPU-hours, days and bytes of a run, from rates measured on this machine or given",
    "concepts": "show what a bank or a mixture of concepts will ask for, before it costs anything",
    "backgrounds": "ask a language model for the places where each concept is plausibly seen",
    "captions": "write captions for a list of concepts",
    "images": "draw several pictures of every caption",
    "import": "turn pictures and captions that were made elsewhere into an images set",
    "images-report": "look at the pictures of a set: grids, plots, recognisability and diversity, as a page",
    "pretrain": "train an encoder on the pictures",
    "continue": "go on training from saved weights: heads, teacher and all, with a schedule of its own",
    "export": "write the trained encoder as a model that AutoModel loads",
    "convert": "turn a checkpoint of the authors' code into a model that AutoModel loads",
    "publish": "put a run on the Hub: encoder, pre-training model, data sets, cards",
    "ablate": "train the rows of the paper's tables 4 and 5 and compare them",
    "evaluate": "evaluate encoders on benchmarks or your own labelled pictures, by the paper's protocols and others",
    "compare": "put evaluations side by side, beside the paper's numbers where they are of the same kind",
    "index": "put pictures with what encoders see in them into an index that can be searched and looked at",
    "demo": "look at what an encoder sees, in the browser: retrieval, PCA maps, the data, two encoders side by side",
    "visualize": "see what an encoder sees: PCA maps, attention, nearest neighbours, a map of the pictures",
}

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def usage() -> str:
    """Return the help text of the bare command."""
    lines = "\n".join(f"  {name:<15}{what}" for name, what in COMMANDS.items())
    return f"usage: synclr COMMAND [options]\n\n{lines}\n\nsynclr COMMAND --help tells the options of one."


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a subcommand; a user's mistake is one line on standard error and exit status 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if arguments[0] == "--version":
        print(f"synclr_hf {version('synclr-hf')}")
        return
    sys.exit(guarded(lambda: _run_command(arguments[0], arguments[1:])))


def _run_command(name: str, arguments: list[str]) -> None:
    if name not in COMMANDS:
        raise unknown_name("command", name, COMMANDS, "synclr --help")
    module = f"{name}_" if iskeyword(name) else name.replace("-", "_")  # Python has words of its own: `import`
    import_module(f"synclr_hf.cli.{module}").main(arguments)


def guarded(action: Callable[[], None]) -> int:
    """Do something and return the exit status; errors that a user can mend are told in one line."""
    try:
        action()
    except UserInputError as error:
        print(f"synclr: error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt as error:
        told = str(error) or "interrupted; the same command goes on from the last finished shard or checkpoint"
        print(f"\nsynclr: {told}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.filename is None and error.errno not in DISK_FULL:
            raise
        print(
            f"synclr: error: {error.filename or 'the disk'} cannot be used: {error.strerror}; "
            "type another --output-dir, "
            "or make room and run the same command again: what is finished is kept",
            file=sys.stderr,
        )
        return EXIT_USER_ERROR
    return 0
