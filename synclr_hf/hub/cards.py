"""The card of an encoder, filled from the facts of its run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from synclr_hf.data.cards import model_terms
from synclr_hf.models import SynCLRConfig
from synclr_hf.training.configuration_pretraining import PAPER_OBJECTIVES

TEMPLATE = Path(__file__).with_name("model_card.md")
WEIGHTS_NAMES = {"teacher": "EMA teacher", "student": "student"}
EVALUATED_AS = {"teacher": "trained", "student": "student"}
"""Weights -> what an evaluation calls them."""
ENCODER_ROWS = {
    "trained": "its EMA teacher",
    "student": "its student",
    "untrained": "the same, untrained",
    "pixels": "raw pixels",
}
OBJECTIVE_WORDS = {
    "multi_positive": "multi-positive contrast: pictures of one {id} are each other's positives{teacher}",
    "ibot": "iBOT: the student predicts what the teacher says about masked patches",
    "cross_entropy": "supervised cross-entropy: a linear classifier names the concept",
}
TRAINED_HERE = """\
that learned from generated pictures alone, by SynCLR (Tian et al., CVPR 2024,
[arXiv 2312.17742](https://arxiv.org/abs/2312.17742)). These are the weights of the {weights}."""
METRICS = {"knn_top1": "kNN top-1", "linear_top1": "linear top-1"}
HELD_OUT = "held-out pictures"


def model_card(
    encoder: SynCLRConfig,
    *,
    where: str,
    num_parameters: int,
    weights: str = "teacher",
    facts: Mapping[str, Any] | None = None,
    datasets: Mapping[str, str] | None = None,
    has_pretraining: bool = False,
    curves: str | None = None,
    origin: str | None = None,
    data: str | None = None,
) -> str:
    """Return the text of an encoder's `README.md`, with the metadata that the Hub reads.

    Args:
        encoder: the encoder's configuration.
        where: what `from_pretrained` is given: `org/name`, or a folder.
        num_parameters: parameters of the encoder.
        weights: `teacher` or `student`.
        facts: what `report.json` holds; `None` where the run is not known.
        datasets: `captions` and `images` -> id on the Hub, where they are published.
        has_pretraining: whether the pre-training model lies beside it under `pretraining/`.
        curves: name of the picture of the training curves beside the card.
        origin: where the weights come from, where not from a training here; goes on from "A vision transformer (...)".
        data: what it learned from, where `facts` do not say it.
    """
    facts, datasets = facts or {}, datasets or {}
    sections = facts.get("config", {})
    license_id, terms = _terms(sections)
    name = where.rstrip("/").rpartition("/")[2]
    grid = encoder.image_size // encoder.patch_size
    layers = encoder.num_hidden_layers
    card_data = ModelCardData(
        license=license_id,
        library_name="transformers",
        pipeline_tag="image-feature-extraction",
        tags=["synclr", "synthetic-data", "self-supervised", "vision"],
        datasets=sorted(datasets.values()) or None,
        model_name=name,
        eval_results=_eval_results(facts, EVALUATED_AS[weights]) or None,
    )
    return str(
        ModelCard.from_template(
            card_data,
            template_path=str(TEMPLATE),
            name=name,
            where=where,
            encoder=encoder,
            millions=f"{num_parameters / 1e6:.1f}",
            patches=grid * grid,
            out_indices=sorted({max(1, round(layers * part / 4)) for part in (1, 2, 3, 4)}),
            origin=origin or TRAINED_HERE.format(weights=WEIGHTS_NAMES[weights]),
            has_pretraining=has_pretraining,
            curves=curves,
            data=data or _data_words(sections, datasets),
            recipe=_recipe_words(sections),
            compute=_compute_words(facts),
            evaluation=_evaluation_words(facts, EVALUATED_AS[weights]),
            terms=terms,
        )
    )


def _terms(sections: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return the licence identifier, if one can be stated, and the paragraph on terms."""
    makers = {
        "language model": sections.get("captions", {}).get("language_model"),
        "image generator": sections.get("images", {}).get("image_generator"),
    }
    lines, licences = [], set()
    for part, spec in makers.items():
        if spec is not None:
            licence, sentence = model_terms(spec, part)
            licences.add(licence)
            lines.append(f"- {sentence[:1].upper()}{sentence[1:]}.")
    if not lines:
        return None, "The terms of what it learned from are not known here and were not checked."
    lines.append("- The code is Apache-2.0. Whether the terms above allow your use was not checked.")
    return ("apache-2.0" if licences == {"apache-2.0"} else "unknown"), "\n".join(lines)


def _data_words(sections: Mapping[str, Any], datasets: Mapping[str, str]) -> str:
    captions, images = sections.get("captions"), sections.get("images")
    if not captions or not images:
        return "Not stated."
    count = captions["num_captions"] * images["images_per_caption"]
    lines = [
        f"{count:,} generated pictures, {images['images_per_caption']} of each of "
        f"{captions['num_captions']:,} captions, {images['size']} px. No real picture and no human caption.",
        "",
        f"- Concepts: `{captions['concepts']}`",
        f"- Captions by `{captions['language_model']}`{_link(datasets, 'captions')}",
        f"- Pictures by `{images['image_generator']}`, guidance scale {images['guidance_scale']}"
        f"{_link(datasets, 'images')}",
        f"- Seed {sections['seed']}",
    ]
    return "\n".join(lines)


def _link(datasets: Mapping[str, str], part: str) -> str:
    return f": [`{datasets[part]}`](/datasets/{datasets[part]})" if part in datasets else ""


def _recipe_words(sections: Mapping[str, Any]) -> str:
    if not sections.get("pretraining"):
        return "Not stated."
    settings = {name: value for name, value in sections.items() if name != "output_dir"}
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=100)
    objectives = sections["pretraining"].get("objectives") or PAPER_OBJECTIVES
    lines = [f"- {_objective_words(settings)} (weight {settings.get('weight', 1.0)})" for settings in objectives]
    return "\n".join(lines) + f"\n\n<details><summary>All settings</summary>\n\n```yaml\n{text}```\n\n</details>"


def _objective_words(settings: Mapping[str, Any]) -> str:
    one = {"images": "image", "classes": "concept"}.get(settings.get("ids", "captions"), "caption")
    teacher = "" if settings.get("teacher", True) else ", without a teacher"
    return OBJECTIVE_WORDS.get(settings["name"], settings["name"]).format(id=one, teacher=teacher)


def _compute_words(facts: Mapping[str, Any]) -> str:
    seconds = facts.get("seconds", {})
    if "pretraining" not in seconds:
        return "Not recorded."
    machine = facts.get("machine", {})
    where = machine.get("accelerator") or f"{machine.get('processor', 'a CPU')}, {machine.get('cores', '?')} cores"
    lines = [
        f"Pre-training took {seconds['pretraining'] / 3600:.2f} device-hours (1 x {where}); "
        f"peak memory of the run {facts.get('peak_memory_gib', 0):.1f} GiB.",
        "",
        "| stage | seconds |",
        "|---|---|",
        *(f"| {stage} | {duration:,.0f} |" for stage, duration in seconds.items()),
    ]
    return "\n".join(lines)


def _evaluation_words(facts: Mapping[str, Any], own: str) -> str:
    evaluations = {HELD_OUT: facts.get("evaluation"), **facts.get("other_evaluations", {})}
    parts = []
    for name, evaluation in evaluations.items():
        if not evaluation:
            continue
        lines = [f"| {name} | " + " | ".join(METRICS.values()) + " |", "|---" * (1 + len(METRICS)) + "|"]
        for encoder in evaluation["knn_top1"]:
            cells = [_accuracy(evaluation, metric, encoder) for metric in METRICS]
            row = "**this encoder**" if encoder == own else ENCODER_ROWS.get(encoder, encoder)
            lines.append(f"| {row} | {' | '.join(cells)} |")
        lines.append("")
        lines.append(
            f"{evaluation['num_train']:,} labelled pictures to compare with, {evaluation['num_test']:,} to recognise, "
            f"{evaluation['num_classes']} classes (chance {100 * evaluation['chance']:.1f} %); frozen features; "
            f"brackets: 95 % bootstrap over test pictures, one training seed. " + evaluation.get("description", "")
        )
        parts.append("\n".join(lines))
    return "\n\n".join(parts) or "None yet."


def _accuracy(evaluation: Mapping[str, Any], metric: str, encoder: str) -> str:
    interval = evaluation.get("intervals", {}).get(metric, {}).get(encoder)
    brackets = f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""
    return f"{100 * evaluation[metric][encoder]:.1f} %{brackets}"


def _eval_results(facts: Mapping[str, Any], own: str) -> list[EvalResult]:
    """Return the numbers of this encoder for the model index of the Hub."""
    evaluations = {HELD_OUT: facts.get("evaluation"), **facts.get("other_evaluations", {})}
    return [
        EvalResult(
            task_type="image-classification",
            dataset_type="held-out" if name == HELD_OUT else name,
            dataset_name=name,
            dataset_split="test",
            metric_type="accuracy",
            metric_name=label,
            metric_value=round(evaluation[metric][own], 4),
        )
        for name, evaluation in evaluations.items()
        if evaluation and own in evaluation["knn_top1"]
        for metric, label in METRICS.items()
    ]
