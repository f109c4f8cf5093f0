"""`synclr convert`: turn a checkpoint of the authors' code (SynCLR, StableRep) into a model that AutoModel loads."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from synclr_hf.hub.conversion_stage import ConversionReport, convert_checkpoint

INFERRED = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "mlp_ratio",
    "patch_size",
    "image_size",
    "qkv_bias",
    "use_mask_token",
)
WITH_A_PREFIX = ("student.", "teacher.", "visual.", "backbone.")


def modules_of(names: Iterable[str]) -> str:
    """Name the modules that tensors belong to, e.g. `student.proj (9 tensors)`; a tensor that is alone by its name."""
    modules: dict[str, list[str]] = {}
    for name in names:
        depth = 2 if name.startswith(WITH_A_PREFIX) else 1
        modules.setdefault(".".join(name.split(".")[:depth]), []).append(name)
    return ", ".join(f"{name} ({len(own)} tensors)" if len(own) > 1 else own[0] for name, own in modules.items())


def report_lines(report: ConversionReport, *, heads_given: bool) -> list[str]:
    """Return what a conversion tells."""
    facts = [f"{name} {getattr(report.config, name)}" for name in INFERRED]
    facts[2] += " (as given)" if heads_given else " (the reference's at this width)"
    lines = [f"inferred: {', '.join(facts)}"]
    lines += [f"left out: {modules_of(names)}: {reason}" for reason, names in report.left_out.items()]
    lines += [f"setting: {setting}" for setting in report.settings]
    lines += [f"goes on differently: {difference}" for difference in report.differences]
    lines += [
        f"maximum absolute difference of features to the original weights, {part} loaded again: {value:.1e}"
        for part, value in report.feature_differences.items()
    ]
    return lines + [f"{name}: {folder}" for name, folder in report.folders.items()]


def main(arguments: Sequence[str]) -> None:
    """Parse the options, convert, and tell what was found, what was left out and how far features differ."""
    parser = argparse.ArgumentParser(prog="synclr convert", description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="a .pth or .safetensors file of the authors' code")
    parser.add_argument("--output-dir", "--output", required=True, type=Path, help="folder to write")
    parser.add_argument(
        "--pretraining",
        action="store_true",
        help="write the whole training state of a training checkpoint (student, teacher, heads), not the encoder",
    )
    parser.add_argument("--weights", help="teacher or student of a training checkpoint (default: teacher)")
    parser.add_argument("--dinov2", metavar="DIR", help="write the encoder in the layout of Dinov2 as well")
    parser.add_argument("--num-attention-heads", type=int, help="heads of a block, where the width does not tell")
    options = parser.parse_args(arguments)
    report = convert_checkpoint(
        options.checkpoint,
        options.output_dir,
        pretraining=options.pretraining,
        weights=options.weights,
        dinov2_dir=options.dinov2,
        num_attention_heads=options.num_attention_heads,
    )
    print("\n".join(report_lines(report, heads_given=options.num_attention_heads is not None)))
