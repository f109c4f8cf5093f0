"""A plan in words, tables and units that a person with a budget reads; and as a record for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from textwrap import fill, shorten
from typing import Any

from synclr_hf.cli.estimates import (
    HOUR,
    MOST_FILES_OF_A_FOLDER,
    Communication,
    Files,
    Plan,
    StageCost,
    StageWork,
    stage_cost,
    total_cost,
)
from synclr_hf.data.writing import MAX_SHARDS

WIDTH = 110
NAME_WIDTH = 32

PUBLISHED = {
    "captions": (
        "about 12,500 tokens/s: Llama-3.1-8B in bf16 with vLLM on one H100 (morphllm.com, April 2026, second-hand)",
    ),
    "images": (
        "1.22 pictures/s: Stable Diffusion 1.5, 512 px, 50 steps, batch 1, TensorRT 9 on an A100-80 (README of "
        "fal-ai/stable-diffusion-benchmarks)",
        "33 pictures/s: SD-Turbo, 512 px, batch 4 on an A100-80 (model card of onnxruntime/sd-turbo)",
        "0.36 and 0.68 pictures/s: SDXL, 1024 px, 30 steps, TensorRT on A100 and H100 (card of stabilityai's "
        "SDXL-TensorRT)",
    ),
}
"""Figures of others for stages that were not measured on a GPU here; nothing is reckoned with them."""


def duration(seconds: float) -> str:
    """Return a time as people say it: `42 s`, `1.5 min`, `3.2 h`, `12.0 days`, `4.1 years`."""
    for size, unit in ((365.25 * 24 * HOUR, "years"), (48 * HOUR, "days"), (HOUR, "h"), (60, "min")):
        if seconds >= size:
            return f"{_short(seconds / (24 * HOUR if unit == 'days' else size))} {unit}"
    return f"{_short(seconds)} s"


def data_size(size: float) -> str:
    """Return bytes in decimal units: `812 B`, `1.70 kB`, `17.4 TB`."""
    for power, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= power:
            return f"{_short(size / power)} {unit}"
    return f"{size:.0f} B"


def amount(number: float) -> str:
    """Return a large number in short: `150M`, `16.4B`; smaller ones in full."""
    for power, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if number >= power:
            return f"{number / power:.4g}{unit}"
    return f"{number:,.0f}"


def _short(number: float) -> str:
    """Return three digits, or all before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def plan_text(plan: Plan) -> str:
    """Return the tables of a plan and what they assume."""
    training, pictures = plan.training, plan.captions * plan.images_per_caption
    return "\n\n".join(
        [
            f"{plan.captions:,} captions x {plan.images_per_caption} pictures = "
            f"{pictures:,} pictures\n"
            f"training of {plan.recipe}: {training.steps:,} steps x {training.captions_per_step:,} captions x "
            f"{training.images_per_caption} pictures,\n"
            f"{training.pictures:,} in all: each picture {_short(training.pictures / pictures)} times",
            _table(_cost_lines(plan), left=(0, len(plan.devices) + (5 if plan.price is not None else 4))),
            _table(_communication_lines(plan.communication), left=(0,)),
            _table(_storage_lines(plan), left=(0, 2)),
            "\n".join([_table(_file_lines(plan), left=(0,)), *(line for one in plan.files for line in _advice(one))]),
            "\n".join(_numbered(_assumptions(plan))),
        ]
        + [_published(plan)] * bool(_published(plan))
    )


def _cost_lines(plan: Plan) -> Iterator[tuple[str, ...]]:
    hours = "GPU-hours" if all(work.rate is None or work.rate.is_gpu for work in plan.works) else "device-hours"
    price = () if plan.price is None else ("cost",)
    kind = "GPUs" if hours == "GPU-hours" else "devices"
    walls = [f"{number:,} {kind[:-1] if number == 1 else kind}" for number in plan.devices]
    yield ("stage", "amount", "rate of one", hours, *price, *walls, "device")
    for work in plan.works:
        cost = stage_cost(work, plan.devices, plan.price)
        rate = "?" if work.rate is None else f"{_short(work.rate.per_second)}/s"
        device = "not known, see below" if work.rate is None else _device(work)
        yield (work.stage, f"{amount(work.amount)} {work.unit}", rate, *_cost_cells(cost, plan), device)
    total = total_cost(plan.works, plan.devices, plan.price)
    if total is not None:
        yield ("total", "", "", *_cost_cells(total, plan), "")


def _cost_cells(cost: StageCost | None, plan: Plan) -> list[str]:
    prices = (
        [] if plan.price is None else ["?" if cost is None else "-" if cost.price is None else f"{cost.price:,.0f}"]
    )
    if cost is None:
        return ["?", *prices, *["?"] * len(plan.devices)]
    walls = [duration(cost.wall_seconds[number]) for number in plan.devices]
    return [_short(cost.device_hours), *prices, *walls]


def _device(work: StageWork) -> str:
    assert work.rate is not None
    name = shorten(work.rate.device, NAME_WIDTH, placeholder=" ...")
    return name if work.rate.is_measured else f"{name}, rate as given"


def _communication_lines(steps: Sequence[Communication]) -> Iterator[tuple[str, ...]]:
    """Yield what is sent; what it takes only where the rate of a GPU is known."""
    known = all(one.efficiency is not None for one in steps)
    estimate = ("computing", "waiting", "efficiency") if known else ()
    yield ("training step on", "captions of each", "sent by each", "gradients", "keys, ids", "prototypes", *estimate)
    for one in steps:
        parts = one.sent_bytes
        sent = [parts["total"], parts["gradients"], parts.get("keys", 0) + parts.get("ids", 0)]
        sizes = [data_size(size) for size in (*sent, parts.get("prototypes", 0))]
        if one.efficiency is not None and one.step_seconds is not None and one.compute_seconds is not None:
            waiting = 1e3 * (one.step_seconds - one.compute_seconds)
            sizes += [duration(one.compute_seconds), f"{_short(waiting)} ms", f"{one.efficiency:.1%}"]
        yield (f"{one.devices:,} GPU{'s' * (one.devices > 1)}", f"{one.captions_each:,}", *sizes)


def _storage_lines(plan: Plan) -> Iterator[tuple[str, ...]]:
    yield ("storage", "size", "")
    for item in plan.storage:
        yield (item.what, data_size(item.size), item.source)
    yield ("total", data_size(sum(item.size for item in plan.storage)), "")


def _file_lines(plan: Plan) -> Iterator[tuple[str, ...]]:
    yield ("files", "number", "rows of each", "size of each", "time of each")
    for files in plan.files:
        seconds = files.file_seconds
        time = "?" if seconds is None else duration(seconds)
        rows = f"{min(files.rows_per_shard, files.rows):,}"
        yield (files.stage, f"{files.count:,}", rows, data_size(files.file_bytes), time)


def _advice(files: Files) -> Iterator[str]:
    option = f"synclr {files.stage} --rows-per-shard"
    if files.count > MAX_SHARDS:
        yield f"{files.stage}: more than {MAX_SHARDS:,} files are refused; type {option} {files.suggestion}"
    elif files.suggestion is not None:
        yield f"{files.stage}: many tiny files; type {option} {files.suggestion}"
    if files.rows_for_the_hub is not None:
        yield (
            f"{files.stage}: the Hub recommends up to {MOST_FILES_OF_A_FOLDER:,} files a folder; for that type "
            f"{option} {files.rows_for_the_hub}"
        )


def _assumptions(plan: Plan) -> Iterator[str]:
    yield from (_about_rate(work) for work in plan.works)
    yield (
        "captions and images: each file is made by one device without the others, so twice the devices take half the "
        "time as long as there are files for all; a killed process loses at most the time of its file."
    )
    step, processes = plan.training.captions_per_step, plan.training.processes
    many = f", {step // (processes or 1):,} in each of {processes} processes"
    meant = "" if processes is None else ", those of the recipe's batch in one process" if processes == 1 else many
    yield (
        f"pre-training: a step has {step:,} captions{meant}, on any number of devices (--captions-per-step changes "
        "it); reading pictures, saving and evaluating are not counted."
    )
    yield (
        "communication is an estimate, the best case: data-parallel training (DDP) on a simulated cluster of "
        f"machines of 8 GPUs, where a GPU sends {plan.node_bandwidth:g} GB/s within its machine and "
        f"{plan.network_bandwidth:g} GB/s to others (--node-bandwidth, --network-bandwidth); all gradients but the "
        "last bucket hide behind the backward pass. Days on many GPUs follow from the efficiency where it is told, "
        "GPU-hours are those of one GPU by itself."
    )
    if plan.price is not None:
        yield (
            f"cost: {plan.price:g} a GPU-hour, only where a rate is a GPU's; storage, traffic, idle time and failed "
            "runs are not counted."
        )
    if any(work.rate is not None and not work.rate.is_gpu for work in plan.works):
        yield (
            "hours of a CPU or of a server are not GPU-hours and say nothing about a GPU: run this command on the "
            "machine that will do the work, or give its rates."
        )
    if total_cost(plan.works, plan.devices) is None:
        yield "no total: the hours are of different devices, or a rate is not known."
    yield "sizes are decimal (1 TB = 10^12 bytes); captions and pictures are as large on the Hub as on a disk."
    yield "left out: export, evaluation and cards, which look at little beside the rest."


def _about_rate(work: StageWork) -> str:
    rate = work.rate
    if rate is None:
        return f"{work.stage}: no rate is known; {work.unknown}."
    if not rate.is_measured:
        return f"{work.stage}: {_short(rate.per_second)} {work.unit}/s of one GPU, as given; loading is not counted."
    measured = f"{work.stage}: {_short(rate.per_second)} {work.unit}/s, measured just now on {rate.device}"
    loading = f"loading took {duration(rate.load_seconds)}, once a process" if rate.load_seconds >= 1 else ""
    return "; ".join(part for part in (measured, loading, *rate.remarks) if part) + "."


def _published(plan: Plan) -> str:
    lines = [
        fill(f"{work.stage}: {line}", WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
        for work in plan.works
        if work.rate is None or (work.rate.is_measured and not work.rate.is_gpu)
        for line in PUBLISHED.get(work.stage, ())
    ]
    return "\n".join(["published, for comparison; nothing above is reckoned with it:", *lines]) if lines else ""


def _numbered(texts: Iterator[str]) -> Iterator[str]:
    yield "assumptions:"
    for number, text in enumerate(texts, start=1):
        yield fill(text, WIDTH, initial_indent=f"{number:3}. ", subsequent_indent="     ", break_on_hyphens=False)


def _table(lines: Iterator[tuple[str, ...]], left: Sequence[int]) -> str:
    cells = list(lines)
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def plan_record(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON takes it, with what follows from it: bytes, seconds, hours."""
    stages = [{**asdict(work), "cost": _record(stage_cost(work, plan.devices, plan.price))} for work in plan.works]
    files = [
        {**asdict(one), "count": one.count, "file_bytes": one.file_bytes, "suggested_rows_per_shard": one.suggestion}
        for one in plan.files
    ]
    return {
        **asdict(plan),
        "training": {**asdict(plan.training), "pictures": plan.training.pictures},
        "works": stages,
        "communication": [{**asdict(one), "efficiency": one.efficiency} for one in plan.communication],
        "files": files,
        "total": _record(total_cost(plan.works, plan.devices, plan.price)),
        "assumptions": list(_assumptions(plan)),
    }


def _record(cost: StageCost | None) -> dict[str, Any] | None:
    return None if cost is None else asdict(cost)
