"""An encoder with a linear head, differentiable from the pictures on, and its moving average."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from synclr_hf.evaluation.encoding.encoders import Encoder, device_features
from synclr_hf.evaluation.encoding.vision_outputs import vision_part
from synclr_hf.evaluation.finetuning.layer_decay import grow_linearly

HEAD_STD = 2e-5
"""Standard deviation of the head's first weights; the value of the reference (`SynCLR/eval/main_finetune.py`)."""


class Classifier(nn.Module):
    """A copy of an encoder in float32 with a linear layer on what describes a picture.

    The feature is the one that frozen protocols use, `encoder.pooling` of the last `encoder.num_layers` layers.

    Args:
        encoder: has a model; it stays as it is.
        num_classes: outputs of the head.
        drop_path_rate: stochastic depth of the last block, growing linearly from 0 at the first; for architectures
            whose configuration has a `drop_path_rate`, 0 elsewhere.

    Attributes:
        drop_path_rate: the one that is in effect.
    """

    def __init__(self, encoder: Encoder, num_classes: int, *, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        self.trunk, self.drop_path_rate = _trainable_copy(encoder.model, drop_path_rate)
        self._described = replace(encoder, model=None)
        example = torch.zeros(1, 3, encoder.image_size, encoder.image_size, device=self.trunk.device)
        self.trunk.eval()
        with torch.no_grad():
            width = self.feature(example).shape[1]
        self.trunk.train()
        self.head = nn.Linear(width, num_classes).to(self.trunk.device)
        nn.init.trunc_normal_(self.head.weight, std=HEAD_STD)
        nn.init.zeros_(self.head.bias)

    @property
    def _encoder(self) -> Encoder:
        return replace(self._described, model=self.trunk)

    def feature(self, pixel_values: Tensor) -> Tensor:
        """Describe normalised pictures (B, 3, H, W) by one vector each, (B, D), with gradients."""
        return device_features(self._encoder, pixel_values)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return the logits (B, C) of normalised pictures (B, 3, H, W)."""
        return self.head(self.feature(pixel_values))


class AveragedClassifier(nn.Module):
    """A classifier and, where asked for, the exponential moving average of its weights.

    Both are in one state, so that a checkpoint holds both. The average starts at the first weights.

    Args:
        classifier: what learns.
        ema_decay: share of the average that stays, an optimizer step; 0: there is no average.
    """

    accepts_loss_kwargs = False  # the Trainer's: the loss is the mean of a batch

    def __init__(self, classifier: Classifier, ema_decay: float) -> None:
        super().__init__()
        self.classifier, self.ema_decay = classifier, ema_decay
        self.average = copy.deepcopy(classifier).requires_grad_(False).eval() if ema_decay else None

    def train(self, mode: bool = True) -> AveragedClassifier:
        """Switch the mode of the classifier; the average is never in training."""
        super().train(mode)
        if self.average is not None:
            self.average.eval()
        return self

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return the logits (B, C) of the classifier."""
        return self.classifier(pixel_values)

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the average towards the weights; called once an optimizer step."""
        if self.average is None:
            return
        pairs = list(zip(self.average.state_dict().values(), self.classifier.state_dict().values(), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([mean for mean, _ in floats], [value for _, value in floats], 1 - self.ema_decay)
        for mean, value in pairs:
            if not mean.is_floating_point():  # counters of batch norms
                mean.copy_(value)


def classification_loss(logits: Tensor, targets: Tensor, *, multi_label: bool) -> Tensor:
    """Return the mean loss of a batch in float32.

    Args:
        logits: (B, C).
        targets: (B, C): probabilities (cross-entropy), or with `multi_label` 0 and 1, mixed or not (a binary
            cross-entropy a class; NaN where a picture counts for nothing).
        multi_label: whether a picture has several classes.
    """
    if not multi_label:
        return F.cross_entropy(logits.float(), targets)
    known = ~targets.isnan()
    losses = F.binary_cross_entropy_with_logits(logits.float(), targets.nan_to_num(), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def _trainable_copy(model: PreTrainedModel, drop_path_rate: float) -> tuple[PreTrainedModel, float]:
    """Copy the picture side of a model to float32, with stochastic depth where its configuration knows it."""
    trunk = vision_part(model)
    config = copy.deepcopy(trunk.config)
    if drop_path_rate and hasattr(config, "drop_path_rate"):
        config.drop_path_rate = drop_path_rate
        fresh = type(trunk)(config).float()
        fresh.load_state_dict(trunk.state_dict())
        fresh.to(trunk.device)
        grow_linearly(fresh, drop_path_rate)
        trunk = fresh
    else:
        drop_path_rate = 0.0
        trunk = copy.deepcopy(trunk).float()
    return trunk.requires_grad_(True).train(), drop_path_rate
