"""Speed and memory of the captions stage, duplicates of the toy grammar, and a local model beside a plain loop.

python scripts/benchmarks/captions.py overhead --num-captions 100000    # a model that costs nothing, one core
python scripts/benchmarks/captions.py memory --sizes 10000 100000 1000000    # the same, peak memory of each size
python scripts/benchmarks/captions.py duplicates --num-captions 1000000    # toy captions
python scripts/benchmarks/captions.py generate --model llama-7b --prompts 2048    # on a GPU; llama-tiny on a CPU

Every command prints one JSON object; `--json FILE` also writes it.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from synclr_hf.captions.language_models import LANGUAGE_MODELS, LanguageModelOptions
from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.captions.templates import build_prompt
from synclr_hf.captions.words import normalized
from synclr_hf.concepts.banks import load_concepts
from synclr_hf.concepts.mixture import ConceptMixture

SIZES = {
    "llama-tiny": {"hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 2, "num_attention_heads": 4},
    "llama-1b": {"hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 22, "num_attention_heads": 16},
    "llama-7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
}
MEAN_TOKENS = 30
"""Mean length of a caption: the random model ends its line with probability 1/30 at every token."""


class FreeModel:
    """A language model that costs next to nothing: the query inside one sentence with a number of its own."""

    name = "free"

    def complete(self, prompts: Sequence[str], *, seeds: Sequence[int], report: Any, **_: Any) -> list[str]:
        """Return one sentence a prompt."""
        report(len(prompts))
        return [
            f" A {prompt[prompt.rfind(chr(10)) + 1 : -3].replace(',', ' with a')} stands in a wide green field under "
            f"a cloudy sky, with house number {seed % 10**12} in the back."
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]


LANGUAGE_MODELS["free"] = "__main__:FreeModel"


def overhead(num_captions: int, concepts: str, rounds: int) -> dict[str, Any]:
    """Time the stage with the free model in this process, prompts, filters, duplicates and shards included."""
    rates = []
    for turn in range(rounds):
        with TemporaryDirectory() as folder:
            start = time.perf_counter()
            _write(folder, num_captions, concepts, "free", seed=turn)
            rates.append(num_captions / (time.perf_counter() - start))
    return {
        "captions": num_captions,
        "concepts": concepts,
        "captions_per_second": round(statistics.mean(rates)),
        "lowest": round(min(rates)),
        "highest": round(max(rates)),
        "rounds": rounds,
    }


def memory(sizes: Sequence[int], concepts: str) -> dict[str, Any]:
    """Peak memory of a fresh process for each number of captions, in MiB."""
    peaks = {}
    for size in sizes:
        command = [sys.executable, __file__, "overhead", "--num-captions", str(size), "--concepts", concepts]
        told = subprocess.run([*command, "--rounds", "1"], capture_output=True, text=True, check=True).stdout
        peaks[size] = json.loads(told)["peak_mib"]
    return {"concepts": concepts, "mib_by_captions": peaks}


def duplicates(num_captions: int, workers: int) -> dict[str, Any]:
    """Write toy captions and count those whose words occurred before, over all shards."""
    import pyarrow.parquet as pq

    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        _write(folder, num_captions, "toyworld", "toy", workers=workers)
        seconds = time.perf_counter() - start
        seen: set[int] = set()
        again = {"concept": 0, "background": 0, "relation": 0}
        drawn = dict.fromkeys(again, 0)
        for path in sorted(Path(folder).glob("data/*.parquet")):
            table = pq.read_table(path, columns=["caption", "template"])
            for caption, template in zip(*(column.to_pylist() for column in table.columns), strict=True):
                key = hash(normalized(caption))
                drawn[template] += 1
                again[template] += key in seen
                seen.add(key)
        rejected = [json.loads(path.read_text())["counts"] for path in Path(folder).glob("shards/*.json")]
    return {
        "captions": num_captions,
        "seconds": round(seconds, 1),
        "workers": workers,
        "duplicates_percent": round(100 * sum(again.values()) / num_captions, 3),
        "duplicates_percent_by_template": {name: round(100 * again[name] / drawn[name], 3) for name in again},
        "redrawn_within_shards": sum(counts.get("duplicate", 0) for counts in rejected),
    }


def generate(model: str, num_prompts: int, batch_size: int, rounds: int) -> dict[str, Any]:
    """Tokens per second of the transformers back end beside a plain left-padded `generate` loop, in turns.

    The model is random: each token holds a newline with probability 1/30, so both loops stop at lengths of the same
    geometric distribution. Padding and tokens behind the end of a line do not count.
    """
    import torch
    from tiny_llama import save_random_llama

    from synclr_hf.captions.transformers_model import TransformersLanguageModel

    mixture = ConceptMixture(load_concepts("synclr"))
    prompts = [build_prompt(mixture.sample(seed), seed).text for seed in range(num_prompts)]
    sampling = {"temperature": 0.8, "top_p": 0.9, "max_new_tokens": 100, "stop": ("\n",)}
    with TemporaryDirectory() as folder:
        save_random_llama(folder, SIZES[model], prompts, end_probability=1 / MEAN_TOKENS)
        options = LanguageModelOptions(batch_size=batch_size)
        ours = TransformersLanguageModel(folder, **{name: getattr(options, name) for name in _taken(options)})
    rates: dict[str, list[float]] = {"back end": [], "plain loop": []}
    for turn in range(rounds + 1):
        for name, complete in (("back end", _with_back_end), ("plain loop", _with_plain_loop)):
            start = time.perf_counter()
            tokens = complete(ours, prompts, batch_size, sampling, seed=turn)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:  # the first turn warms up
                rates[name].append(tokens / (time.perf_counter() - start))
    told = {
        name: {"mean": round(statistics.mean(of)), "all": [round(one) for one in of]} for name, of in rates.items()
    }
    ratio = statistics.mean(rates["back end"]) / statistics.mean(rates["plain loop"])
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    settings = {"model": model, "prompts": num_prompts, "batch_size": batch_size, "device": device}
    return {**settings, "tokens_per_second": told, "ratio": round(ratio, 2)}


def _taken(options: LanguageModelOptions) -> list[str]:
    from synclr_hf.captions.transformers_model import TransformersLanguageModel

    return [name for name in TransformersLanguageModel.takes if hasattr(options, name)]


def _with_back_end(model: Any, prompts: Sequence[str], batch_size: int, sampling: dict[str, Any], seed: int) -> int:
    before = model.usage["completion_tokens"]
    model.complete(prompts, seeds=[seed * len(prompts) + place for place in range(len(prompts))], **sampling)
    return int(model.usage["completion_tokens"] - before)


def _with_plain_loop(model: Any, prompts: Sequence[str], batch_size: int, sampling: dict[str, Any], seed: int) -> int:
    """What most scripts do: batches in any order of the prompts, padded, until the last row has ended."""
    import torch

    tokenizer, network = model._tokenizer, model._model
    ends = [number for number in tokenizer.get_vocab().values() if "\n" in tokenizer.decode([number])]
    stops = set(ends)
    torch.manual_seed(seed)
    order = list(prompts)
    random.Random(seed).shuffle(order)
    tokens = 0
    for start in range(0, len(order), batch_size):
        inputs = tokenizer(order[start : start + batch_size], return_tensors="pt", padding=True).to(network.device)
        drawn = network.generate(
            **inputs,
            do_sample=True,
            temperature=sampling["temperature"],
            top_p=sampling["top_p"],
            top_k=0,
            max_new_tokens=sampling["max_new_tokens"],
            eos_token_id=ends,
            pad_token_id=tokenizer.pad_token_id,
        )[:, inputs["input_ids"].shape[1] :]
        for row in drawn.tolist():
            tokens += next((place + 1 for place, token in enumerate(row) if token in stops), len(row))
    return tokens


def _write(folder: str, count: int, concepts: str, model: str, *, seed: int = 0, workers: int = 1) -> None:
    config = CaptionsConfig(folder, concepts=concepts, language_model=model, num_captions=count, seed=seed)
    write_captions(config, workers=workers)


def main() -> None:
    """Parse the command and run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("overhead")
    one.add_argument("--num-captions", type=int, default=100_000)
    one.add_argument("--concepts", default="synclr")
    one.add_argument("--rounds", type=int, default=3)
    two = commands.add_parser("memory")
    two.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    two.add_argument("--concepts", default="synclr")
    three = commands.add_parser("duplicates")
    three.add_argument("--num-captions", type=int, default=1_000_000)
    three.add_argument("--workers", type=int, default=2)
    four = commands.add_parser("generate")
    four.add_argument("--model", choices=SIZES, default="llama-tiny")
    four.add_argument("--prompts", type=int, default=256)
    four.add_argument("--batch-size", type=int, default=64)
    four.add_argument("--rounds", type=int, default=3)
    for command in (one, two, three, four):
        command.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.command == "overhead":
        told = overhead(options.num_captions, options.concepts, options.rounds)
    elif options.command == "memory":
        told = memory(options.sizes, options.concepts)
    elif options.command == "duplicates":
        told = duplicates(options.num_captions, options.workers)
    else:
        told = generate(options.model, options.prompts, options.batch_size, options.rounds)
    told["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    text = json.dumps(told, indent=1)
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
