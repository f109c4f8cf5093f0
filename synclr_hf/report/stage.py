"""The report stage: the facts of a run, its data, encoders and log in, `report.json` and `report.html` out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synclr_hf.data.pictures import DECODING_ERRORS, open_picture
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.shards import write_text
from synclr_hf.evaluation.encoding.encoders import own_image_size, patch_features, plain_encoder
from synclr_hf.evaluation.encoding.features import encoder_features
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.evaluation.neighbours import nearest_rows
from synclr_hf.evaluation.seeing.pca import fit_pca_basis
from synclr_hf.evaluation.seeing.shown_pictures import in_turns
from synclr_hf.report.content import CaptionPictures, FeatureMaps, Neighbour, NeighbourRow, ReportContent
from synclr_hf.report.curves import curves_sheet
from synclr_hf.report.page import render_page

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
CURVES_SVG = "curves.svg"
NUM_CAPTIONS = 12
NUM_QUERIES = 8
NUM_NEIGHBOURS = 6
NUM_MAPS = 8
PICTURES_A_CAPTION = 4
"""Pictures shown a caption; further ones are left out."""


def build_report(
    folder: str | Path,
    *,
    facts: Mapping[str, Any],
    images: Dataset,
    history: Sequence[Mapping[str, Any]],
    encoders: Mapping[str, PreTrainedModel],
    train: LabelledImages,
    test: LabelledImages,
    cache_dir: str | Path | None = None,
) -> Path:
    """Write `report.json`, `report.html` and `curves.svg`.

    Args:
        folder: where the files go; made if it is not there.
        facts: see `check_facts`; written as given, numbers that are not finite as null.
        images: the images set that was learned from (`caption`, `concept`, `images`).
        history: the Trainer's log.
        encoders: `"trained"` and others to compare with, e.g. `"untrained"`; neighbours come from the first one.
        train: the labelled pictures of the evaluation, searched for neighbours.
        test: the held-out pictures, whose neighbours and feature maps are shown.
        cache_dir: folder of computed features; the same as in the evaluation saves computing them again.

    Returns:
        The path of `report.html`.
    """
    check_facts(facts)
    seed = int(facts["seed"])
    first = next(iter(encoders.values()))
    content = ReportContent(
        facts=facts,
        captions=choose_captions(images, seed=seed),
        history=history,
        neighbours=choose_neighbours(first, train, test, seed=seed, cache_dir=cache_dir),
        feature_maps=choose_feature_maps(encoders, test, seed=seed),
    )
    return write_report(folder, content)


def write_report(folder: str | Path, content: ReportContent) -> Path:
    """Write the files of a report from plain values and return the path of `report.html`."""
    check_facts(content.facts)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    facts = json.dumps(finite(content.facts), indent=2, ensure_ascii=False, allow_nan=False, default=str)
    write_text(folder / REPORT_JSON, facts + "\n")
    write_text(folder / REPORT_HTML, render_page(content))
    write_text(folder / CURVES_SVG, curves_sheet(content.history))
    return folder / REPORT_HTML


def check_facts(facts: Mapping[str, Any]) -> None:
    """Raise a `ValueError` that names what is missing.

    Needed: `evaluation` as `evaluate_encoders` returns it (at least `knn_top1` and `linear_top1`, each with `trained`,
    `untrained` and `pixels`, fractions), `seconds` (stage -> seconds), `peak_memory_gib`, `config`, `seed`.
    Optional: `evaluation.description`, `other_evaluations` (name -> result), `machine` and `versions` (name -> text).
    """
    missing = [name for name in ("evaluation", "seconds", "peak_memory_gib", "config", "seed") if name not in facts]
    for metric in ("knn_top1", "linear_top1"):
        values = facts.get("evaluation", {}).get(metric, {})
        missing += [f"evaluation.{metric}.{name}" for name in ("trained", "untrained", "pixels") if name not in values]
    if missing:
        raise ValueError(f"the facts of a report lack: {', '.join(missing)}")


def finite(value: Any) -> Any:
    """Replace numbers that JSON cannot write (NaN, infinity) by null, at any depth."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def choose_captions(images: Dataset, *, seed: int, count: int = NUM_CAPTIONS) -> list[CaptionPictures]:
    """Draw captions with their pictures at random, every concept at most once more often than any other.

    Rows with a picture that cannot be read are passed over.
    """
    concepts = images.with_format(None)["concept"][:]
    storage = images.with_format("arrow")
    chosen: list[CaptionPictures] = []
    for row in in_turns(concepts, seed_for(seed, "report", "captions")):
        if len(chosen) == count:
            break
        values = {name: storage[int(row)][name][0].as_py() for name in ("caption", "concept", "images")}
        try:
            pictures = [open_picture(picture) for picture in values["images"][:PICTURES_A_CAPTION]]
        except DECODING_ERRORS:
            continue
        chosen.append(CaptionPictures(values["caption"], values["concept"], pictures))
    return chosen


def choose_neighbours(
    encoder: PreTrainedModel,
    train: LabelledImages,
    test: LabelledImages,
    *,
    seed: int,
    cache_dir: str | Path | None = None,
) -> list[NeighbourRow]:
    """Draw held-out pictures at random, one a class while there are classes, and find their neighbours."""
    gallery, queries = (
        encoder_features(
            plain_encoder(encoder),
            data,
            cache_dir=cache_dir,
            description=f"features for neighbours ({side})",
            most_unreadable=1.0,  # a report shows what there is
        )
        for data, side in ((train, "train"), (test, "test"))
    )
    chosen = in_turns(queries.labels.tolist(), seed_for(seed, "report", "queries"))[:NUM_QUERIES]
    similarities, rows = nearest_rows(queries.features[chosen], gallery.features, NUM_NEIGHBOURS)
    found = []
    for query, near, similarity in zip(chosen, rows.tolist(), similarities.tolist(), strict=True):
        label = int(queries.labels[query])
        neighbours = [
            Neighbour(
                picture=open_picture(train.pictures[int(gallery.rows[row])]),
                label=train.label_names[int(gallery.labels[row])],
                similarity=value,
                is_right=int(gallery.labels[row]) == label,
            )
            for row, value in zip(near, similarity, strict=True)
        ]
        picture = open_picture(test.pictures[int(queries.rows[query])])
        found.append(NeighbourRow(picture, test.label_names[label], neighbours))
    return found


def choose_feature_maps(
    encoders: Mapping[str, PreTrainedModel], test: LabelledImages, *, seed: int
) -> FeatureMaps | None:
    """Draw held-out pictures at random, one a class, and colour their patch features, one basis an encoder.

    Pictures are shown to the encoders at twice their own size: four times the patches, positions interpolated.
    """
    pictures, labels = [], []
    for row in in_turns(test.labels.tolist(), seed_for(seed, "report", "maps")):
        if len(pictures) == NUM_MAPS:
            break
        try:
            pictures.append(open_picture(test.pictures[row]))
        except DECODING_ERRORS:
            continue
        labels.append(test.label_names[int(test.labels[row])])
    if not pictures:
        return None
    maps, explained = {}, {}
    for name, encoder in encoders.items():
        patches = patch_features(encoder, pictures, 2 * own_image_size(encoder))
        basis = fit_pca_basis(patches)
        maps[name], explained[name] = basis.colours(patches).numpy(), sum(basis.components.explained)
    return FeatureMaps(pictures, labels, maps, explained)
