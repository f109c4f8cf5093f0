"""The page: plain values in, one HTML document out that loads nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from synclr_hf.report.content import FeatureMaps, NeighbourRow, ReportContent
from synclr_hf.report.curves import curves
from synclr_hf.report.pictures import jpeg_uri, map_uri
from synclr_hf.report.wording import duration, encoder_name, headline, methods, percent, percent_range

CAPTION_PICTURE_SIZE = 144
QUERY_SIZE = 144
NEIGHBOUR_SIZE = 112
MAP_PICTURE_SIZE = 128
"""Sides of the pictures on the page in pixels, about twice the size on a phone."""

_FOLDER = Path(__file__).parent


def render_page(content: ReportContent) -> str:
    """Return the whole page as HTML; every text of the run is escaped."""
    facts = content.facts
    evaluations = {"Held-out pictures": facts["evaluation"], **facts.get("other_evaluations", {})}
    return render(
        "template.html",
        headline=headline(facts["evaluation"]),
        evaluations=[_evaluation(name, results) for name, results in evaluations.items()],
        captions=content.captions,
        neighbours=content.neighbours,
        neighbours_right=_share_right(content.neighbours),
        maps=_map_columns(content.feature_maps) if content.feature_maps else None,
        curves=curves(content.history),
        seconds=_seconds(facts["seconds"]),
        total_seconds=sum(facts["seconds"].values()),
        tiles=_tiles(facts),
        run_facts=_run_facts(facts),
        config=_readable(facts["config"]),
        sizes={"caption": CAPTION_PICTURE_SIZE, "query": QUERY_SIZE, "neighbour": NEIGHBOUR_SIZE},
        script=Markup((_FOLDER / "curves.js").read_text(encoding="utf-8")),
    )


def render(template: str, **values: Any) -> str:
    """Return a page from a template of this folder, with the style of all pages; every text is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "percent": percent, "jpeg": jpeg_uri}
    style = Markup((_FOLDER / "style.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(style=style, **values)


def _tiles(facts: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the large numbers of the header as (number, what it is, beside what)."""
    results, tiles = facts["evaluation"], []
    for metric, name in (("knn_top1", "kNN, 10 neighbours"), ("linear_top1", "Linear probe")):
        values = results[metric]
        beside = f"untrained {percent(values['untrained'])}, pixels {percent(values['pixels'])}"
        tiles.append((percent(values["trained"]), name, beside))
    seconds = facts["seconds"]
    longest = max(seconds, key=seconds.__getitem__, default="")
    beside = f"{longest} {duration(seconds[longest])}" if longest else ""
    tiles.append((duration(sum(seconds.values())), "Whole run", beside))
    memory = facts.get("peak_memory_gib")
    if memory is not None:
        tiles.append((f"{memory:.1f}\u202fGiB", "Peak memory", "of all processes"))
    return tiles


def _evaluation(name: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """Prepare one data set's table."""
    encoders = list(results["knn_top1"])
    top = max([*results["knn_top1"].values(), *results["linear_top1"].values(), 0.01])
    intervals = results.get("intervals", {})
    top = max([top, *(high for by_encoder in intervals.values() for _, high in by_encoder.values())])
    scale = 100 / min(1.0, top * 1.05)  # the longest interval fills its track
    rows = []
    for encoder in encoders:
        cells = []
        for metric in ("knn_top1", "linear_top1"):
            value, interval = results[metric][encoder], intervals.get(metric, {}).get(encoder)
            low, high = interval or (value, value)
            cells.append(
                {
                    "value": percent(value),
                    "interval": percent_range(interval) if interval else "",
                    "left": f"{low * scale:.2f}",
                    "width": f"{(high - low) * scale:.2f}",
                    "dot": f"{value * scale:.2f}",
                }
            )
        rows.append({"name": encoder_name(encoder), "key": encoder, "cells": cells})
    by_k = results.get("knn_top1_by_k", {})
    chance = results.get("chance")
    return {
        "name": name,
        "rows": rows,
        "methods": methods(results),
        "counts": {key: results.get(key) for key in ("num_train", "num_test", "num_classes")},
        "chance": percent(chance) if chance is not None else "",
        "chance_left": f"{chance * scale:.2f}" if chance is not None else "",
        "ks": list(next(iter(by_k.values()), {})),
        "by_k": [(encoder_name(key), [percent(value) for value in values.values()]) for key, values in by_k.items()],
    }


def _share_right(rows: Sequence[NeighbourRow]) -> str:
    """Say how many of the shown neighbours have the class of their query."""
    shown = [neighbour for row in rows for neighbour in row.neighbours]
    return f"{sum(neighbour.is_right for neighbour in shown)} of {len(shown)}"


def _map_columns(maps: FeatureMaps) -> dict[str, Any]:
    """Put each picture and its maps together."""
    columns = [
        {
            "label": label,
            "picture": jpeg_uri(picture, MAP_PICTURE_SIZE),
            "maps": [(encoder_name(name), map_uri(values[place])) for name, values in maps.maps.items()],
        }
        for place, (picture, label) in enumerate(zip(maps.pictures, maps.labels, strict=True))
    ]
    grid = next(iter(maps.maps.values())).shape[1:3]
    names = [(encoder_name(name), percent(maps.explained[name])) for name in maps.maps]
    return {"columns": columns, "names": names, "grid": f"{grid[0]} × {grid[1]}"}


def _seconds(seconds: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Return (stage, time, share of the longest stage in percent)."""
    longest = max([*seconds.values(), 1e-9])
    return [(stage, duration(value), f"{100 * value / longest:.1f}") for stage, value in seconds.items()]


def _run_facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what else is known of the run as (what, value)."""
    known = [("Seed", str(facts["seed"]))]
    if facts.get("peak_memory_gib") is not None:
        known.append(("Peak memory", f"{facts['peak_memory_gib']:.2f} GiB"))
    for name in ("machine", "versions"):
        value = facts.get(name)
        if isinstance(value, Mapping):
            known += [
                (str(key).replace("_", " ").capitalize() if name == "machine" else str(key), str(item))
                for key, item in value.items()
            ]
        elif value:
            known.append((name.capitalize(), str(value)))
    return known


def _readable(config: Any) -> str:
    return json.dumps(config, indent=2, ensure_ascii=False, default=str)
