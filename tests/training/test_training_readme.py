"""The tables of the room's page, recomputed: every row that is reckoned here stands there."""

from pathlib import Path

import pytest
import torch

import synclr_hf.training
from synclr_hf.training import SynCLRForPreTraining, SynCLRPreTrainingConfig
from synclr_hf.training.communication import (
    Cluster,
    ModelSize,
    objective_collectives,
    replicated,
    sharded,
    state_bytes,
)
from synclr_hf.training.flops import step_flops

PAGE = (Path(synclr_hf.training.__file__).parent / "README.md").read_text()
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14}
GIANT = {"hidden_size": 1408, "num_hidden_layers": 40, "num_attention_heads": 16, "patch_size": 14, "mlp_ratio": 4.36}
ENCODERS = {"ViT-B/16": {}, "ViT-L/14": LARGE, "ViT-g/14": GIANT}
CROPS, SPEED = 256, 400e12


def rows_of(name):
    """The rows of an encoder in each of the three tables."""
    config = SynCLRPreTrainingConfig(encoder_config=dict(ENCODERS[name]))
    with torch.device("meta"):
        size = ModelSize.of(SynCLRForPreTraining(config))
    patch = config.encoder_config.patch_size
    sizes = {
        "images": CROPS,
        "local_crop_size": 96 // patch * patch,
        "masked_patches": CROPS * (224 // patch) ** 2 // 4,
    }
    if patch == 14:
        sizes["local_crop_size"] = 98
    flops = step_flops(config, **sizes)
    tera = " | ".join(f"{value / 1e12:.1f}" for value in flops.values())
    seconds = flops["total"] / SPEED
    yield f"| {name} | {size.trained / 1e6:.0f}M | {tera} |"
    for shards in (1, 8, 64, 512):
        way = "DDP" if shards == 1 else f"FSDP2, {shards} GPUs"
        held = " | ".join(f"{value / 1e9:.2f}" for value in state_bytes(size.trained, size.frozen, shards).values())
        yield f"| {name} | {way} | {held} |"
    for number in (8, 64, 512):
        exposed = objective_collectives(config.objectives, crops=CROPS, processes=number)
        ways = {"DDP": replicated(size.trained, exposed), "FSDP2": sharded(size, exposed, number)}
        for way, exchange in ways.items():
            sent = exchange.sent_bytes(number)
            parts = [sent["gradients"], sent.get("parameters", 0), sent["keys"] + sent["ids"], sent["prototypes"]]
            cells = " | ".join(f"{value / 1e6:,.0f}" for value in [*parts, sent["total"]])
            step = Cluster().step_seconds(exchange, number, seconds)
            waiting = f"{1e3 * (step - seconds):.1f} of {1e3 * step:,.0f} ms"
            yield f"| {name} | {number} | {way} | {cells} | {waiting} | {seconds / step:.1%} |"


@pytest.mark.parametrize("name", ENCODERS)
def test_tables_are_what_is_reckoned(name):
    rows = list(rows_of(name))
    assert [row for row in rows if row not in PAGE.splitlines()] == []
    assert len([line for line in PAGE.splitlines() if line.startswith(f"| {name} |")]) == len(rows)
