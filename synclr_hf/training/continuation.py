"""A training that goes on from saved weights: what it takes over from them, and the schedule it starts anew."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from synclr_hf.errors import UserInputError
from synclr_hf.models import SynCLRConfig
from synclr_hf.objectives import OBJECTIVES, build_objective
from synclr_hf.views import ViewsConfig

from .configuration_pretraining import SynCLRPreTrainingConfig
from .modeling_pretraining import SynCLRForPreTraining
from .sources import find_source, read_facts

ENCODER_ARCHITECTURE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "mlp_ratio",
    "hidden_act",
    "layer_norm_eps",
    "qkv_bias",
    "image_size",
    "patch_size",
    "num_channels",
)
"""Fields of the encoder that its weights are made for; another value is another model."""
ENCODER_OPTIONS = ("drop_path_rate", "interpolate_offset", "initializer_range")
"""Fields of the encoder that fit any weights."""
TEMPERATURE_WARMUP = "teacher_temperature_warmup_steps"

SHARE_OF_THE_PEAK = 0.1
"""Learning rate of a continuation, in units of the highest one that the weights were trained with.

A new warm-up and a new decay serve trained weights well; the higher the new peak, the better the new data are learned
and the more of the first ones is forgotten (language models: Gupta et al. 2023, arXiv 2308.04014; Ibrahim et al. 2024,
arXiv 2403.08763). A tenth is our choice on the side of keeping; `scripts/benchmarks/continuation.py` measures it."""
PAPER_LEARNING_RATE = 2e-3
"""Paper, table 12; stands in where no log is beside the weights."""
KEPT_ARGUMENTS = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "adam_beta1",
    "adam_beta2",
    "max_grad_norm",
    "weight_decay",
    "weight_decay_end",
    "ema_decay",
    "ema_decay_end",
)
"""Training arguments that are those of the first training unless others are given."""
OWN_SCHEDULE = {"max_steps": 1000, "warmup_steps": 0.1, "logging_steps": 10, "save_steps": 100}
"""The rest of the defaults; `warmup_steps` below 1 is a share of all steps."""

TAKEN_OVER = ("encoder", "objectives", "student_drop_path_rate", "views", "training_arguments", "class_names")
"""Entries of `PretrainingConfig` that the saved weights decide or give defaults for."""
OVERRULES = {"num_train_epochs": "max_steps", "base_learning_rate": "learning_rate"}
"""Arguments of the Trainer -> what else would win over them and is no default where they are given."""


def continued_settings(source: str, given: Mapping[str, Any], *, is_lora: bool = False) -> dict[str, Any]:
    """Complete the settings of a training that goes on from saved weights.

    What is given counts; the rest is that of the saved model and of the run that made it. The assignments of masked
    patches start at their final temperature (no warm-up), because the prototypes are trained.

    Args:
        source: folder or Hub id of a saved `SynCLRForPreTraining`, see `find_source`.
        given: entries `TAKEN_OVER` of `PretrainingConfig`; `None` or empty where nothing was given.
        is_lora: whether adapters are trained instead of the encoder.

    Returns:
        The same entries, complete.

    Raises:
        UserInputError: there are no such weights, or an entry needs others; every such entry is named.
    """
    folder = find_source(source, with_weights=False)
    saved = SynCLRPreTrainingConfig.from_pretrained(folder)
    encoder, other_encoder = _merged_encoder(saved.encoder_config, given["encoder"] or {})
    objectives, other_objectives = _merged_objectives(saved, given["objectives"])
    different = other_encoder + other_objectives + _other_classes(saved.class_names, given["class_names"])
    if different:
        raise UserInputError(
            f"initial weights '{source}' are of another architecture: {'; '.join(different)}; "
            "leave these entries out, or type the values that the weights have"
        )
    configuration, history = read_facts(folder)
    rate = given["student_drop_path_rate"]
    views = configuration["views"] if "views" in configuration else views_for(saved.encoder_config)
    defaults = default_arguments(configuration, history, is_lora=is_lora)
    typed = given["training_arguments"] or {}
    for name, default in OVERRULES.items():
        if name in typed:
            del defaults[default]
    return {
        "encoder": encoder,
        "objectives": objectives,
        "student_drop_path_rate": saved.student_drop_path_rate if rate is None else rate,
        "views": {**views, **(given["views"] or {})},
        "training_arguments": {**defaults, **typed},
        "class_names": given["class_names"] or saved.class_names,
    }


def default_arguments(
    configuration: Mapping[str, Any], history: Sequence[Mapping[str, Any]], *, is_lora: bool = False
) -> dict[str, Any]:
    """Return the training arguments of a continuation where none are given.

    The learning rate is `SHARE_OF_THE_PEAK` of the one given to the first training, or else of the highest in its
    log. It is all of it for adapters, which start at zero and take about ten times the rate of full training (Schulman
    et al. 2025, LoRA Without Regret), and where the weights come from a continuation themselves, so that it does not
    shrink from one to the next.

    Args:
        configuration: of the first training, may be empty; see `read_facts`.
        history: its log, may be empty.
        is_lora: whether adapters are trained.
    """
    trained = configuration.get("training_arguments") or {}
    logged = (entry["learning_rate"] for entry in history if "learning_rate" in entry)
    peak = trained.get("learning_rate") or max(logged, default=PAPER_LEARNING_RATE)
    whole = is_lora or "initial_weights_fingerprint" in configuration
    learning_rate = float(f"{peak * (1 if whole else SHARE_OF_THE_PEAK):.1e}")
    kept = {name: trained[name] for name in KEPT_ARGUMENTS if name in trained}
    return {**OWN_SCHEDULE, **kept, "learning_rate": learning_rate}


def views_for(encoder: SynCLRConfig) -> dict[str, Any]:
    """Return sizes of views in the proportions of the paper (224, 96, blur up to 2 px) for an encoder's pictures."""
    paper = ViewsConfig()
    scale = encoder.image_size / paper.global_crop_size
    patches = max(round(paper.local_crop_size * scale / encoder.patch_size), 1)
    return {
        "global_crop_size": encoder.image_size,
        "local_crop_size": patches * encoder.patch_size,
        "downsample_sizes": [max(round(size * scale), 1) for size in paper.downsample_sizes],
        "blur_sigma": [paper.blur_sigma[0], max(paper.blur_sigma[1] * scale, paper.blur_sigma[0])],
    }


def published_configuration(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a run's configuration is published beside its weights: what a continuation takes over."""
    trained = configuration.get("training_arguments") or {}
    names, arguments = ("views", "initial_weights_fingerprint"), (*KEPT_ARGUMENTS, "learning_rate")
    return {
        **{name: configuration[name] for name in names if name in configuration},
        "training_arguments": {name: trained[name] for name in arguments if name in trained},
    }


def load_initial_weights(source: str, config: SynCLRPreTrainingConfig) -> SynCLRForPreTraining:
    """Load the whole model in float32 with settings of its own.

    Args:
        source: folder or Hub id, see `find_source`.
        config: the architecture of the weights; options may differ.

    Raises:
        UserInputError: the weights are not those of this architecture; the first names that differ are told.
    """
    model, found = SynCLRForPreTraining.from_pretrained(
        find_source(source),
        config=config,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    mismatched = [entry[0] if isinstance(entry, tuple) else entry for entry in found["mismatched_keys"]]
    wrong = sorted({*found["missing_keys"], *found["unexpected_keys"], *mismatched})
    if wrong:
        raise UserInputError(
            f"initial weights '{source}': {len(wrong)} tensors are missing, unknown or of another shape "
            f"({', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''}); a checkpoint of a training with adapters "
            "cannot be continued: finish that training and type its folder"
        )
    return model


def _merged_encoder(saved: SynCLRConfig, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of the encoder, and those that cannot be what was given."""
    fields = {name: getattr(saved, name) for name in (*ENCODER_ARCHITECTURE, *ENCODER_OPTIONS)}
    different = [
        _difference(f"encoder.{name}", fields[name], given[name])
        for name in ENCODER_ARCHITECTURE
        if name in given and given[name] != fields[name]
    ]
    return {**fields, **given}, different


def _merged_objectives(
    saved: SynCLRPreTrainingConfig, given: Sequence[Mapping[str, Any]] | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the settings of the objectives, and those that cannot be what was given."""
    own = {settings.get("name"): settings for settings in given or []}
    names = [settings["name"] for settings in saved.objectives]
    if given is not None and (len(given) != len(names) or set(own) != set(names)):
        typed = ", ".join(str(settings.get("name")) for settings in given)
        return list(saved.objectives), [_difference("objectives", ", ".join(names), typed)]
    merged, different = [], []
    for settings in saved.objectives:
        changes = own.get(settings["name"], {})
        different += _other_shapes(settings, changes, saved.encoder_config.hidden_size)
        arguments = inspect.signature(OBJECTIVES[settings["name"]]).parameters
        without_warmup = {TEMPERATURE_WARMUP: 0} if TEMPERATURE_WARMUP in arguments else {}
        merged.append({**settings, **without_warmup, **changes})
    return merged, different


def _other_classes(saved: Sequence[str] | None, given: Sequence[str] | None) -> list[str]:
    """Return a line where other classes are given than those of the weights; they may have none."""
    if saved is None or given is None or list(saved) == list(given):
        return []
    return [_difference("class_names", f"{len(saved)} names ({saved[0]}, ...)", f"{len(given)} ({given[0]}, ...)")]


def _other_shapes(settings: Mapping[str, Any], changes: Mapping[str, Any], hidden_size: int) -> list[str]:
    """Return a line for each change that needs tensors of another shape, found out without memory for them."""
    arguments = inspect.signature(OBJECTIVES[settings["name"]]).parameters
    shapes, different = _tensor_shapes(settings, hidden_size), []
    for name, value in changes.items():
        before = settings.get(name, arguments[name].default if name in arguments else None)
        if name != "weight" and value != before and _tensor_shapes({**settings, name: value}, hidden_size) != shapes:
            different.append(_difference(f"objectives.{settings['name']}.{name}", before, value))
    return different


def _tensor_shapes(settings: Mapping[str, Any], hidden_size: int) -> dict[str, torch.Size]:
    with torch.device("meta"):
        objective = build_objective(dict(settings), hidden_size)
    return {name: tensor.shape for name, tensor in objective.state_dict().items()}


def _difference(name: str, there: object, here: object) -> str:
    return f"{name} {there} there, {here} here"
