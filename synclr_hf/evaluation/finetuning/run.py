"""From an encoder and settings to trained weights and their scores on the test pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import SAFE_WEIGHTS_NAME

from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationContext, Outcome
from synclr_hf.evaluation.finetuning.checkpoints import checkpoint_folder
from synclr_hf.evaluation.finetuning.classifier import AveragedClassifier, Classifier
from synclr_hf.evaluation.finetuning.data import TrainPictures
from synclr_hf.evaluation.finetuning.randomness import own_randomness
from synclr_hf.evaluation.finetuning.scores import Predictions
from synclr_hf.evaluation.finetuning.settings import TrainingSettings, schedule
from synclr_hf.evaluation.finetuning.trainer import ClassifierTrainer, training_arguments
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages

START_SHARE = 0.01
"""The average of the weights gives the main number where the first weights make up less than this share of it."""


def train_and_score(
    context: EvaluationContext,
    settings: TrainingSettings,
    *,
    prepare: Callable[[Classifier], Mapping[str, Any]] = lambda classifier: {},
    finish: Callable[[Classifier], None] = lambda classifier: None,
    drop_path_rate: float = 0.0,
) -> Outcome:
    """Train a classifier on the train pictures and score it once on the test pictures.

    All settings are fixed beforehand and the weights are those of the last step: nothing is chosen on the test
    pictures. Which weights give the main number is decided by the number of steps alone: the moving average where the
    first weights make up less than `START_SHARE` of it (`ema_decay ** steps`), as with the paper's 125,000 steps at
    0.9999; the weights themselves else. Both numbers are in the metrics.

    With a `work_dir` a training that was stopped goes on from its last checkpoint when it is called again.

    Args:
        context: encoder and data.
        settings: how to train.
        prepare: changes the classifier before the training and returns what decided it, for the effective settings.
        finish: changes it between training and scoring.
        drop_path_rate: of the encoder, where it knows stochastic depth.

    Raises:
        UserInputError: raw pixels, no readable pictures, labels that fit no class, a training that left the finite
            numbers, RandAugment without torchvision, or layer decay for an encoder without a row of blocks.
    """
    section, encoder, data = settings.section, context.encoder, context.data
    _check(context, section)
    num_classes = _num_classes(data.train)
    predictions = {
        side: _predictions(context, settings, side)
        for side in ("validation", "test")
        if getattr(data, side) is not None
    }
    for each in predictions.values():
        each.check(num_classes)
    plan = schedule(settings, len(data.train))
    fill = [255 * value for value in encoder.image_mean]
    pictures = TrainPictures(data.train, settings, size=encoder.image_size, fill=fill, seed=_seed(context, section))
    with own_randomness(_seed(context, section, "weights")):
        classifier = Classifier(encoder, num_classes, drop_path_rate=drop_path_rate)
        config = {
            **{name: value for name, value in asdict(settings).items() if name != "section"},
            **asdict(plan),
            "gradient_accumulation": plan.accumulation,
            "drop_path_rate": classifier.drop_path_rate,
            "pooling": encoder.pooling,
            "image_size": encoder.image_size,
            **prepare(classifier),
        }
        if data.train.labels.ndim == 2:
            config["label_smoothing"] = 0.0
        if not settings.rand_augment:
            del config["rand_augment_magnitude"], config["rand_augment_std"]
        learned = [one.numel() for one in classifier.parameters() if one.requires_grad]
        model = AveragedClassifier(classifier, settings.ema_decay)
        with checkpoint_folder(context, section, config) as (folder, kept):
            arguments = training_arguments(
                settings,
                plan,
                folder=folder,
                saves=kept,
                validates=data.validation is not None,
                device=encoder.model.device,
                seed=context.seed,
            )
            trainer = ClassifierTrainer(
                model,
                arguments,
                pictures,
                settings=settings,
                schedule=plan,
                encoder=encoder,
                validation=predictions.get("validation"),
                description=f"{section}, {encoder.name}, {data.name}",
            )
            _train(trainer, folder)
            finish(model.classifier)
            outcome = _outcome(context, predictions["test"], trainer, config)
    return replace(outcome, details={**outcome.details, "trained_parameters": sum(learned)})


def _train(trainer: ClassifierTrainer, folder: Path) -> None:
    """Train from the beginning or from the last checkpoint; one of the last step is loaded."""
    checkpoint = _last_checkpoint(folder)
    if checkpoint is None:
        trainer.train()
        return
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    if state.global_step < trainer.schedule.total_steps:
        trainer.train(resume_from_checkpoint=str(checkpoint))
        return
    trainer.state = state
    trainer.model.load_state_dict(load_file(checkpoint / SAFE_WEIGHTS_NAME))
    trainer.model.to(trainer.args.device)


def _last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that is whole: the Trainer's state is its last file."""
    found = [path for path in folder.glob("checkpoint-*") if (path / TRAINER_STATE_NAME).is_file()]
    for path in sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        try:
            json.loads((path / TRAINER_STATE_NAME).read_text())
            return path
        except ValueError:
            continue
    return None


def _outcome(
    context: EvaluationContext, predictions: Predictions, trainer: ClassifierTrainer, config: dict[str, Any]
) -> Outcome:
    """Score the trained weights, and their average, and put everything together."""
    data, model, settings = context.data, trainer.model, trainer.settings
    scored, rows = predictions.scored(model.classifier)
    start_share = settings.ema_decay**trainer.schedule.total_steps
    both = {"trained": scored}
    if model.average is not None:
        both["ema"] = predictions.scored(model.average)[0]
    evaluated = "ema" if "ema" in both and start_share < START_SHARE else "trained"
    main = both[evaluated]
    primary = main.primary
    others = {f"{primary}_{name}": one.metrics[primary] for name, one in both.items()} if len(both) > 1 else {}
    history = trainer.state.log_history
    details = {
        **main.details,
        "evaluated_weights": evaluated,
        "ema_start_share": start_share if model.average is not None else None,
        "train_loss": [entry["loss"] for entry in history if "loss" in entry],
        "parameters": sum(one.numel() for one in model.classifier.parameters()),
        "unreadable_train": len(trainer.unreadable),
        "unreadable_test": len(data.test) - len(rows),
        "unseen_labels": _unseen(data.train, data.test, rows),
    }
    name = f"eval_{primary}"
    if data.validation is not None:
        details[f"validation_{primary}"] = [entry[name] for entry in history if name in entry]
    return Outcome(primary, {**main.metrics, **others}, main.intervals, config, details)


def _predictions(context: EvaluationContext, settings: TrainingSettings, side: str) -> Predictions:
    return Predictions(
        data=getattr(context.data, side),
        encoder=context.encoder,
        metric=context.data.metric,
        seed=_seed(context, settings.section, "bootstrap"),
        test_crop=settings.test_crop,
        section=settings.section,
        description=f"{settings.section}, {context.encoder.name}, {context.data.name} ({side})",
    )


def _check(context: EvaluationContext, section: str) -> None:
    """Refuse what cannot be trained or scored."""
    if context.encoder.model is None:
        raise UserInputError(
            f"{section} trains a model, and raw pixels have none; leave {section} out of --protocols, or type "
            "--model with a folder or Hub id"
        )
    for side in ("train", "validation", "test"):
        pictures = getattr(context.data, side)
        if pictures is not None and len(pictures) == 0:
            raise UserInputError(f"the {side} side of {context.data.name} has no pictures; {section} needs some")
    labels = np.asarray(context.data.train.labels)
    if labels.ndim == 1 and labels.min() < 0:
        raise UserInputError(
            f"{context.data.name} has train pictures with the label {labels.min()}; allowed: 0 and above; leave "
            "pictures without a class out"
        )


def _num_classes(train: LabelledImages) -> int:
    """Return the classes that have a name, those without train pictures included."""
    labels = np.asarray(train.labels)
    return labels.shape[1] if labels.ndim == 2 else max(len(train.label_names), int(labels.max()) + 1)


def _unseen(train: LabelledImages, test: LabelledImages, rows: np.ndarray) -> int:
    """Count the scored test pictures of classes that have no train picture."""
    labels = np.asarray(test.labels)[rows]
    if labels.ndim == 2:
        seen = (np.asarray(train.labels) > 0).any(axis=0)
        return int((labels[:, ~seen] > 0).any(axis=1).sum())
    return int((~np.isin(labels, np.unique(train.labels))).sum())


def _seed(context: EvaluationContext, *names: str) -> int:
    return seed_for(context.seed, *names)
