"""What the processes of a training send each other, and what it costs them: by arithmetic, nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synclr_hf.cli.estimates import Communication, Rate, Training
from synclr_hf.cli.parameters import checkpoint_bytes, entry, section
from synclr_hf.training.communication import Cluster, objective_collectives, replicated


def communication_of(
    pretraining: Mapping[str, Any],
    training: Training,
    rate: Rate | None,
    devices: Sequence[int],
    cluster: Cluster,
) -> tuple[Communication, ...]:
    """Return what a step of a recipe sends on each number of devices, and how long it takes for it.

    Args:
        pretraining: entries of the recipe's section.
        training: how much it trains.
        rate: pictures a second of one device.
        devices: their numbers.
        cluster: on which they are.
    """
    model_bytes, bytes_of_checkpoint = checkpoint_bytes(pretraining)
    trained = (bytes_of_checkpoint - model_bytes) // 8  # two numbers in float32 of each for AdamW
    objectives = pretraining.get("objectives") or [{"name": "multi_positive"}, {"name": "ibot"}]
    crops_each = int(entry(section(pretraining, "views"), "num_global_crops", 1))
    known = rate is not None and rate.is_gpu
    found = []
    for number in devices:
        captions = -(-training.captions_per_step // number)
        pictures = captions * training.images_per_caption
        exposed = objective_collectives(objectives, crops=pictures * crops_each, processes=number)
        exchange = replicated(trained, exposed)
        compute = pictures / rate.per_second if known else None
        step = None if compute is None else cluster.step_seconds(exchange, number, compute)
        found.append(Communication(number, captions, exchange.sent_bytes(number), compute, step))
    return tuple(found)
