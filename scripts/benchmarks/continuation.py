"""What 100 continued steps cost a toy encoder, with its heads and without them: kNN on held-out pictures.

python scripts/benchmarks/continuation.py --output-dir outputs/continuation

Started again it goes on: finished seeds, trainings and pictures are kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from synclr_hf.captions.stage import write_captions
from synclr_hf.cli.main import guarded
from synclr_hf.cli.recipe import load_recipe
from synclr_hf.cli.run import Street
from synclr_hf.data.seeds import seed_for
from synclr_hf.evaluation.encoding.encoders import plain_encoder
from synclr_hf.evaluation.encoding.features import encoder_features
from synclr_hf.evaluation.labelled.data import labelled_splits
from synclr_hf.evaluation.protocols.knn import PRIMARY_K, knn
from synclr_hf.images.stage import write_images
from synclr_hf.training import SynCLRForPreTraining
from synclr_hf.training.stage import PretrainingConfig, pretrain, random_model

ENCODERS = ("untrained", "trained", "continued", "without heads")
DROPS = {"continued": "drop", "without heads": "drop_without_heads"}
IMAGES_PER_HELD_OUT_CAPTION = 2
SPARE = 1.1
"""Held-out pictures drawn, in units of those needed: classes divide 2 to 1 only about."""


def street(options: argparse.Namespace, seed: int) -> Street:
    """Return the settings of pictures and first training of a seed."""
    captions = round(SPARE * 3 * options.pictures / IMAGES_PER_HELD_OUT_CAPTION)  # a third of them is the test side
    entries = [
        f"output_dir={options.output_dir / str(seed)}",
        f"seed={seed}",
        f"evaluation.held_out_captions={captions}",
        f"evaluation.held_out_images_per_caption={IMAGES_PER_HELD_OUT_CAPTION}",
        f"pretraining.training_arguments.max_steps={options.steps}",
    ]
    return Street.from_recipe(load_recipe(options.config, [*options.overrides, *entries]))


def without_heads(trained: Path, folder: Path, seed: int) -> Path:
    """Save the trained student and teacher with new heads; each teacher head starts as a copy of its student."""
    model = SynCLRForPreTraining.from_pretrained(trained)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "new heads") % 2**32)
        model.objectives.load_state_dict(SynCLRForPreTraining(model.config).objectives.state_dict())
    model.save_pretrained(folder)
    return folder


def continuations(first: PretrainingConfig, root: Path, steps: int) -> dict[str, PretrainingConfig]:
    """Return the two continuations; all is the same in them but the heads that they start from."""
    machine = ("dataloader_num_workers", "optim", "use_cpu")
    arguments = {name: value for name, value in first.training_arguments.items() if name in machine}
    kept = PretrainingConfig(
        output_dir=str(root / "continued"),
        images=first.images,
        seed=seed_for(first.seed, "continuation") % 2**32,  # views that the first training did not see
        initial_weights=first.output_dir,
        training_arguments={**arguments, "max_steps": steps},
    )
    bare = without_heads(Path(first.output_dir), root / "new_heads", first.seed)
    return {
        "continued": kept,
        "without heads": replace(kept, output_dir=str(root / "without_heads"), initial_weights=str(bare)),
    }


def measure(options: argparse.Namespace, seed: int) -> dict[str, object]:
    """Train, continue twice, and classify the held-out pictures with each encoder."""
    start, plan = time.perf_counter(), street(options, seed)
    write_captions(plan.captions)
    write_images(plan.images)
    write_captions(plan.held_out_captions)
    write_images(plan.held_out_images)
    first = plan.pretraining
    pretrain(first)
    root = options.output_dir / str(seed)
    encoders: dict[str, PreTrainedModel] = {"untrained": random_model(first).synclr}
    encoders["trained"] = SynCLRForPreTraining.from_pretrained(first.output_dir).synclr
    for name, config in continuations(first, root, options.continued_steps).items():
        encoders[name] = SynCLRForPreTraining.from_pretrained(pretrain(config)).synclr
    gallery, test = labelled_splits(plan.held_out_images.output_dir, seed=seed)
    test = test.at_most(options.pictures, seed=seed)
    if len(test) < options.pictures:
        raise SystemExit(f"only {len(test)} held-out pictures; raise SPARE")
    top1 = {}
    for name in ENCODERS:
        encoder = plain_encoder(encoders[name])
        tables = [encoder_features(encoder, side, cache_dir=root / "features") for side in (gallery, test)]
        top1[name] = 100 * knn(tables[0].features, tables[0].labels, tables[1].features, tables[1].labels)[PRIMARY_K]
    drops = {drop: top1["trained"] - top1[name] for name, drop in DROPS.items()}
    sizes = {"pictures": len(test), "gallery": len(gallery)}
    return {"seed": seed, "knn_top1": top1, **drops, **sizes, "seconds": time.perf_counter() - start}


def summary(rows: list[dict]) -> dict[str, object]:
    """Return mean and standard deviation over the seeds of both drops and of their difference, in points."""
    values = {drop: [row[drop] for row in rows] for drop in DROPS.values()}
    values["difference"] = [row["drop_without_heads"] - row["drop"] for row in rows]
    return {
        name: {"mean": statistics.mean(each), "deviation": statistics.stdev(each) if len(each) > 1 else None}
        for name, each in values.items()
    }


def table(rows: list[dict], told: dict) -> str:
    """Return the numbers as a Markdown table, in percent and points."""
    lines = ["| seed | " + " | ".join(ENCODERS) + " | drop | drop without heads |", "|---" * 7 + "|"]
    for row in rows:
        numbers = [*row["knn_top1"].values(), *(row[drop] for drop in DROPS.values())]
        lines.append(f"| {row['seed']} | " + " | ".join(f"{number:.2f}" for number in numbers) + " |")
    for name, value in told.items():
        spread = "" if value["deviation"] is None else f" ± {value['deviation']:.2f} (standard deviation over seeds)"
        lines.append(f"{name.replace('_', ' ')}: {value['mean']:+.2f}{spread} points")
    return "\n".join(lines)


def main() -> None:
    """Measure every seed that is not measured yet; print the table and write `continuation.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=400, help="of the first training")
    parser.add_argument("--continued-steps", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=4000, help="held-out pictures that are classified")
    parser.add_argument("--config", default="toyworld")
    parser.add_argument("overrides", nargs="*", metavar="section.entry=value")
    options = parser.parse_intermixed_args()
    settings = {name: value for name, value in vars(options).items() if name not in ("output_dir", "seeds")}
    rows = []
    for seed in options.seeds:
        file = options.output_dir / f"{seed}.json"
        found = json.loads(file.read_text()) if file.is_file() else {}
        if found.get("settings") != settings:
            found = {**measure(options, seed), "settings": settings}
            file.write_text(json.dumps(found, indent=1) + "\n")
        rows.append(found)
    told = summary(rows)
    print(table(rows, told))
    text = json.dumps({"seeds": rows, **told, "threads": torch.get_num_threads()}, indent=1)
    (options.output_dir / "continuation.json").write_text(text + "\n")


if __name__ == "__main__":
    sys.exit(guarded(main))
