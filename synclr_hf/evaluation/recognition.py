"""Recognisability and diversity of drawn pictures beside real ones: models and pictures in, numbers out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification, PreTrainedModel

from synclr_hf.data.back_ends import device_and_dtype
from synclr_hf.data.pictures import DECODING_ERRORS, Picture, open_picture
from synclr_hf.data.progress import Progress
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.encoder_loading import own_preparation
from synclr_hf.evaluation.encoding.encoders import (
    evaluating,
    load_pretrained,
    normalised,
    picture_tokens,
)
from synclr_hf.evaluation.labelled.data import labelled_splits
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.evaluation.labelled.pictures import picture_array
from synclr_hf.evaluation.protocols.knn import PRIMARY_K, knn_predictions
from synclr_hf.evaluation.recognisability import (
    class_f1,
    class_spread,
    f1_interval,
    match_classes,
    mean_interval,
)

_DECODING_THREADS = 4
_MOST_KNOWN = 50_000
"""Pictures that the kNN classifier knows at most."""


@dataclass(frozen=True)
class RecognitionConfig:
    """What recognises the pictures, and what they are compared with.

    Attributes:
        classifier: an image classifier of transformers by Hub id or folder; its labels are matched to the concepts.
        encoder: a vision model by Hub id or folder whose features tell how varied the pictures are. Default: what the
            last layer of the classifier is given.
        labelled: folder or Hub id of real labelled pictures: they get the same numbers, and without a classifier they
            are what the kNN classifier on the encoder's features knows.
        seed: of samples and intervals.
        batch_size: pictures a forward pass.
    """

    classifier: str | None = None
    encoder: str | None = None
    labelled: str | None = None
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Refuse settings that do not say what recognises the pictures (`UserInputError`)."""
        if self.classifier is None and (self.encoder is None) != (self.labelled is None):
            given, missing = ("encoder", "labelled") if self.labelled is None else ("labelled", "encoder")
            example = "FOLDER_OR_HUB_ID" if missing == "labelled" else "ORG/NAME"
            raise UserInputError(
                f"--{given} alone recognises nothing; allowed: a classifier, or an encoder with labelled pictures; "
                f"type --{missing} {example} as well, or --classifier ORG/NAME"
            )

    @property
    def is_asked(self) -> bool:
        """Whether there is anything to measure."""
        return self.classifier is not None or self.encoder is not None


def recognition(drawn: LabelledImages, config: RecognitionConfig) -> dict[str, Any]:
    """Measure recognisability and diversity of drawn pictures, and of real ones beside them.

    Real pictures that are measured are the test side of the labelled set, at most as many as drawn ones; the kNN
    classifier knows the train side. Where there are real pictures, all numbers are about the classes of both.

    Args:
        drawn: pictures with their concepts as classes, and the ids of their captions as groups.
        config: what recognises them; it asks for something.

    Returns:
        `drawn` and, with a labelled set, `real`: each with `recognisability` (mean F1) and its `interval`,
        `accuracy`, `diversity` (mean spread, `None` without two pictures of a class) and its `interval`, `pictures`,
        `classes`, `unreadable`, and `by_class` (name -> F1 and spread). Beside them `left_out` (why -> concepts) and
        `settings`. Plain values, ready for JSON.

    Raises:
        UserInputError: a model or the labelled set cannot be used, or no concept is a class of it.
    """
    eyes = [_Eye(name, is_classifier) for name, is_classifier in _models(config)]
    known, real = _real(config) if config.labelled else (None, None)
    labels = eyes[0].labels or dict(enumerate(known.label_names if known else ()))
    match = match_classes(drawn.label_names, labels)
    kept = set(match.classes.values())
    if real is not None:
        there = [real.label_names[number] for number in np.unique(real.labels)]
        of_real = match_classes(there, labels).classes
        kept &= set(of_real.values())
    if not kept:
        raise _no_class(drawn.label_names, labels, config)
    sets = {"drawn": _relabelled(drawn, match.classes, labels, kept)}
    if real is not None:
        real = _relabelled(real, of_real, labels, kept)
        sets["real"] = real.at_most(len(sets["drawn"]), seed=config.seed)
    gallery = None
    if known is not None and not eyes[0].labels:
        known = known.at_most(_MOST_KNOWN, seed=config.seed)
        gallery = _look(eyes, known, config.batch_size, "pictures that are known")
    results = {}
    for side, data in sets.items():
        seen = _look(eyes, data, config.batch_size, f"{side} pictures")
        results[side] = _measured(seen, _predicted(seen, gallery), labels, config.seed)
    without_real = sorted(name for name, number in match.classes.items() if number not in kept)
    return {
        **results,
        "left_out": {
            "unknown to the classifier": list(match.unknown),
            "names of several classes": list(match.ambiguous),
            "without real pictures": without_real,
        },
        "settings": {**asdict(config), "neighbours": PRIMARY_K if gallery else None},
    }


@dataclass(frozen=True)
class _Seen:
    """The readable ones of some pictures as models see them: features (N, D), classes predicted (N,) or `None`."""

    features: Tensor
    predicted: np.ndarray | None
    labels: np.ndarray
    groups: np.ndarray
    unreadable: int


class _Eye:
    """A model with its own preparation of pictures.

    Attributes:
        labels: number of a class -> its label, for a classifier; else empty.
    """

    def __init__(self, name: str, is_classifier: bool) -> None:
        auto, option = (AutoModelForImageClassification, "--classifier") if is_classifier else (AutoModel, "--encoder")
        self.model, loaded = load_pretrained(auto, name, option, output_loading_info=True)
        if is_classifier and loaded["missing_keys"]:
            raise UserInputError(
                f"--classifier '{name}' holds no trained classifier (it lacks {min(loaded['missing_keys'])}); type a "
                "model for image classification, or --encoder with --labelled"
            )
        self.model.eval().to(device_and_dtype()[0])
        self.labels: dict[int, str] = dict(self.model.config.id2label) if is_classifier else {}
        self._head = _head(self.model) if is_classifier else None
        try:
            self._processor = AutoImageProcessor.from_pretrained(name, backend="pil")
        except (OSError, ValueError, ImportError):  # saved without one, or only for a library that is not installed
            self._processor = None
            self._preparation = own_preparation(name, self.model, option=option)

    @property
    def has_features(self) -> bool:
        """Whether it tells what it sees as one vector a picture."""
        return not self.labels or self._head is not None

    def see(self, pictures: Sequence[Image.Image]) -> tuple[Tensor | None, np.ndarray | None]:
        """Return features (B, D) float32 and predicted classes (B,), each where it has them."""
        with evaluating(self.model):
            pixels = self._prepared(pictures)
            if not self.labels:
                return picture_tokens(self.model, pixels), None
            given: list[Tensor] = []
            hook = self._head and self._head.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
            try:
                logits = self.model(pixel_values=pixels.to(self.model.device, self.model.dtype)).logits
            finally:
                if hook:
                    hook.remove()
            features = given[-1].flatten(1).float().cpu() if given else None
            return features, logits.argmax(dim=-1).cpu().numpy()

    def _prepared(self, pictures: Sequence[Image.Image]) -> Tensor:
        if self._processor is not None:
            return self._processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        own = self._preparation
        pixels = np.stack([picture_array(picture, own.image_size, own.resizing) for picture in pictures])
        return normalised(pixels, own.image_mean, own.image_std)


def _models(config: RecognitionConfig) -> list[tuple[str, bool]]:
    """Return name and kind of the models, the one that recognises first."""
    named = ((config.classifier, True), (config.encoder, False))
    return [(name, is_classifier) for name, is_classifier in named if name is not None]


def _real(config: RecognitionConfig) -> tuple[LabelledImages, LabelledImages]:
    return labelled_splits(config.labelled, seed=config.seed, option="--labelled")


def _head(model: PreTrainedModel) -> nn.Linear | None:
    """Return the last layer of a classifier, if it is linear: what it is given are the classifier's own features."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    return next((layer for layer in reversed(layers) if layer.out_features == model.config.num_labels), None)


def _look(eyes: Sequence[_Eye], data: LabelledImages, batch_size: int, what: str) -> _Seen:
    """Show pictures to all models; the features are those of the last one."""
    if not eyes[-1].has_features:
        raise UserInputError(
            "the classifier has no linear last layer whose input could tell how varied the pictures are; "
            "type --encoder ORG/NAME as well"
        )
    features, predicted, places = [], [], []
    with ThreadPoolExecutor(_DECODING_THREADS) as threads, Progress(what, total=len(data), unit="picture") as bar:
        for start in range(0, len(data), batch_size):
            batch = range(start, min(start + batch_size, len(data)))
            opened = list(threads.map(_opened, [data.pictures[place] for place in batch]))
            readable = [picture for picture in opened if picture is not None]
            places += [place for place, picture in zip(batch, opened, strict=True) if picture is not None]
            if readable:
                seen = [eye.see(readable) for eye in eyes]
                features.append(seen[-1][0])
                predicted.append(seen[0][1])
            bar.update(len(batch))
    if not features:
        raise UserInputError(f"none of the {what} can be read; needed: JPEG, PNG or what else Pillow opens")
    return _Seen(
        features=torch.cat(features),
        predicted=None if predicted[0] is None else np.concatenate(predicted),
        labels=data.labels[places],
        groups=data.groups[places],
        unreadable=len(data) - len(places),
    )


def _opened(picture: Picture) -> Image.Image | None:
    try:
        return open_picture(picture)
    except DECODING_ERRORS:
        return None


def _predicted(seen: _Seen, gallery: _Seen | None) -> np.ndarray:
    """Return the classes that the classifier predicts, or the nearest known pictures."""
    if gallery is None:
        return seen.predicted
    labels = torch.from_numpy(gallery.labels)
    return knn_predictions(gallery.features, labels, seen.features, ks=(PRIMARY_K,))[PRIMARY_K].numpy()


def _measured(seen: _Seen, predicted: np.ndarray, labels: dict[int, str], seed: int) -> dict[str, Any]:
    """Return the numbers of one set of pictures."""
    count = max(labels) + 1
    f1 = class_f1(predicted, seen.labels, count)
    spread = class_spread(seen.features.numpy(), seen.labels, count)
    is_varied = not np.isnan(spread).all()
    return {
        "recognisability": float(np.nanmean(f1)),
        "recognisability_interval": list(f1_interval(predicted, seen.labels, seen.groups, count, seed=seed)),
        "accuracy": float((predicted == seen.labels).mean()),
        "diversity": float(np.nanmean(spread)) if is_varied else None,
        "diversity_interval": list(mean_interval(spread, seed=seed)) if is_varied else None,
        "pictures": len(seen.labels),
        "classes": int((~np.isnan(f1)).sum()),
        "unreadable": seen.unreadable,
        "by_class": {
            labels[number]: {
                "f1": float(f1[number]),
                "spread": None if np.isnan(spread[number]) else float(spread[number]),
            }
            for number in np.flatnonzero(~np.isnan(f1)).tolist()
        },
    }


def _relabelled(
    data: LabelledImages, classes: Mapping[str, int], labels: Mapping[int, str], kept: set[int]
) -> LabelledImages:
    """Return the pictures of the classes that are kept, with the numbers that the classifier gives them."""
    numbers = np.array([classes.get(name, -1) for name in data.label_names])[data.labels]
    chosen = data.rows(np.flatnonzero(np.isin(numbers, list(kept))))
    names = tuple(labels.get(number, "") for number in range(max(labels) + 1))
    return replace(chosen, labels=numbers[np.isin(numbers, list(kept))], label_names=names)


def _no_class(names: Sequence[str], labels: Mapping[int, str], config: RecognitionConfig) -> UserInputError:
    what = f"--classifier {config.classifier}" if config.classifier else f"--labelled {config.labelled}"
    return UserInputError(
        f"{what} knows none of the {len(names):,} concepts of the pictures (it knows {_some(labels.values())}; they "
        f"are {_some(names)}); give one whose classes are the concepts"
    )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(map(str, names[:3])) + (", ..." if len(names) > 3 else "")
