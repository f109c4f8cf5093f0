"""A tiny encoder and easy data for tests of the protocols."""

import numpy as np
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

from synclr_hf.evaluation.context import EvaluationContext, EvaluationData
from synclr_hf.evaluation.encoding.encoders import PIXELS, Encoder
from synclr_hf.evaluation.labelled.labelled_images import labelled_pictures
from synclr_hf.evaluation.labelled.masked_images import IGNORED, MaskedImages

NAMES = ("red", "green", "blue")


def tiny_model(**changes):
    """A Dinov2 of two layers for 32 px, 4 x 4 patches, random weights that are the same every time."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
    return Dinov2Model(Dinov2Config(**{**sizes, **changes})).eval()


def tiny_encoder(**changes):
    """The same as an `Encoder`; `model=None` gives raw pixels."""
    model = changes.pop("model", ...)
    if model is None:
        return Encoder(name=PIXELS, model=None, image_size=8, **changes)
    return Encoder(name="tiny", model=tiny_model() if model is ... else model, image_size=32, **changes)


def coloured(count, seed, num_classes=3):
    """Classes that differ in colour; two pictures a group."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) // 2 % num_classes
    pixels = generator.integers(0, 120, (count, 32, 32, 3))
    pixels[np.arange(count), :, :, labels] += 100
    pictures = [Image.fromarray(picture.astype(np.uint8)) for picture in pixels]
    return labelled_pictures(pictures, labels, NAMES[:num_classes], np.arange(count) // 2)


def masked(count, seed, size=32):
    """Pictures of two colours, left and right; the mask says which is where; a stripe of pixels counts for nothing."""
    generator = np.random.default_rng(seed)
    pictures, masks = [], []
    for _ in range(count):
        pixels = generator.integers(0, 120, (size, size, 3))
        edge = int(generator.integers(size // 4, 3 * size // 4))
        pixels[:, :edge, 0] += 100
        pixels[:, edge:, 2] += 100
        mask = np.zeros((size, size), dtype=np.uint8)
        mask[:, edge:] = 1
        mask[:2] = IGNORED
        pictures.append(Image.fromarray(pixels.astype(np.uint8)))
        masks.append(mask)
    return MaskedImages(pictures, masks, ("red", "blue"), f"masked-{count}-{seed}-{size}")


def tiny_context(encoder=None, *, seed=0, metric="accuracy", train=None, test=None, **changes):
    """Sixty coloured pictures to learn from, thirty to test on."""
    data = EvaluationData("coloured", train or coloured(60, 0), test or coloured(30, 1), metric=metric)
    return EvaluationContext(encoder or tiny_encoder(), data, seed=seed, **changes)
