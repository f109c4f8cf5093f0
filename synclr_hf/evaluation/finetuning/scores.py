"""Predictions of a trained classifier, and how good they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from synclr_hf.data.pictures import DECODING_ERRORS, Picture, open_picture
from synclr_hf.data.progress import Progress
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.encoders import Encoder
from synclr_hf.evaluation.finetuning.data import prepared_test_batches
from synclr_hf.evaluation.labelled.labelled_images import LabelledImages
from synclr_hf.evaluation.scoring import Scored, score_predictions


@dataclass(frozen=True)
class Predictions:
    """Pictures that a classifier is scored on.

    Attributes:
        data: the pictures and their labels.
        encoder: says how pictures are prepared.
        metric: of the benchmark.
        seed: of the bootstrap.
        test_crop: share of the short side that is kept.
        section: name of the protocol, for the errors.
        description: what the bar says.
    """

    data: LabelledImages
    encoder: Encoder
    metric: str
    seed: int
    test_crop: float
    section: str
    description: str

    def scored(self, classifier: nn.Module) -> tuple[Scored, np.ndarray]:
        """Predict and score.

        Args:
            classifier: normalised pictures to logits; put back into its mode afterwards.

        Returns:
            The scores, and the places in `data` of the pictures that could be read, (M,) int64.

        Raises:
            UserInputError: not one picture can be read, or the weights have left the finite numbers.
        """
        rows, logits = self.logits(classifier)
        if not torch.isfinite(logits).all():
            raise not_finite(self.section)
        return self._scored(logits, rows), rows

    def _scored(self, logits: Tensor, rows: np.ndarray) -> Scored:
        labels = torch.from_numpy(np.asarray(self.data.labels)[rows])
        groups = np.asarray(self.data.groups)[rows]
        return score_predictions(logits, labels, metric=self.metric, seed=self.seed, groups=groups)

    def check(self, num_classes: int) -> None:
        """Make sure before a long training that there will be a score: a picture can be read, labels fit the metric.

        Args:
            num_classes: outputs of the classifier.

        Raises:
            UserInputError: as `scored` would, at the end of the training.
        """
        if not any(_is_readable(self.data.pictures[row]) for row in range(len(self.data))):
            raise _none_readable(len(self.data))
        self._scored(torch.zeros(len(self.data), num_classes), np.arange(len(self.data)))

    @torch.no_grad()
    def logits(self, classifier: nn.Module) -> tuple[np.ndarray, Tensor]:
        """Return the places of the readable pictures, (M,) int64, and their logits, (M, C) float32 on the CPU."""
        device = next(classifier.parameters()).device
        half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        size = self.encoder.batch_size
        places, found = [], []
        was_training = classifier.training
        classifier.eval()
        try:
            with Progress(self.description, total=len(self.data), unit="picture") as bar:
                batches = prepared_test_batches(self.data, self.encoder, test_crop=self.test_crop, batch_size=size)
                for rows, pixels in batches:
                    if len(rows):
                        with torch.autocast(device.type, torch.bfloat16, enabled=half):
                            found.append(classifier(pixels.to(device)).float().cpu())
                    places.append(rows)
                    bar.update(min(size, len(self.data) - bar.count))
        finally:
            classifier.train(was_training)
        if not found:
            raise _none_readable(len(self.data))
        return np.concatenate(places), torch.cat(found)


def not_finite(section: str) -> UserInputError:
    """Return the error for a training whose loss or weights left the finite numbers."""
    return UserInputError(
        f"{section}: the training has left the finite numbers; type a smaller learning rate: "
        f"{section}.base_learning_rate=1e-5"
    )


def _is_readable(picture: Picture) -> bool:
    try:
        open_picture(picture)
    except DECODING_ERRORS:
        return False
    return True


def _none_readable(count: int) -> UserInputError:
    return UserInputError(
        f"none of the {count} pictures can be read; needed: JPEG, PNG or another format that Pillow opens"
    )
