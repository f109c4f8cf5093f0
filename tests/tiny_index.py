"""A tiny index on disk, with the encoders that made it, for tests of the explorer."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny_evaluation import tiny_model
from transformers import BitImageProcessor

from synclr_hf.evaluation.encoding.encoder_loading import load_encoder
from synclr_hf.evaluation.encoding.features import encoder_features
from synclr_hf.evaluation.labelled.labelled_images import labelled_pictures
from synclr_hf.explorer.index.facts import IndexedEncoder, IndexFacts
from synclr_hf.explorer.index.schema import embedding_column, index_features
from synclr_hf.explorer.index.stage import shown_names

COLOURS = {"red mug": (200, 40, 40), "green hat": (40, 180, 40), "blue bell": (40, 40, 200)}


def picture(row, size=40):
    """Picture `row` of the tiny set: the colour of its concept, and a spot that differs."""
    rng = np.random.default_rng(row)
    pixels = np.full((size, size, 3), list(COLOURS.values())[row // 4 % 3], dtype=np.uint8)
    top, left = rng.integers(0, size - 12, 2)
    pixels[top : top + 12, left : left + 12] = rng.integers(0, 256, 3)
    return Image.fromarray(pixels)


def save_tiny_encoder(folder):
    """A Dinov2 of 32 px with its image processor, as `AutoModel` loads it."""
    tiny_model().save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


def write_tiny_index(folder, model, *, captions=9, images_per_caption=4, others=("pixels",)):
    """Write an index of `captions` x `images_per_caption` pictures seen by `model` and `others`; return its path."""
    from datasets import Dataset

    folder = Path(folder)
    (folder / "data").mkdir(parents=True)
    count = captions * images_per_caption
    pictures = [picture(row) for row in range(count)]
    data = labelled_pictures(pictures, np.zeros(count, dtype=np.int64), ("",), np.arange(count))
    encoders, columns = [], {}
    for number, name in enumerate((model, *others)):
        encoder = load_encoder(name, dtype="float32")
        features = torch.nn.functional.normalize(encoder_features(encoder, data).features, dim=1).half()
        column = embedding_column(number)
        encoders.append(
            IndexedEncoder(shown_names([name])[0], column, features.shape[1], encoder.fingerprint, encoder.settings())
        )
        columns[column] = list(features.numpy())
    names = list(COLOURS)
    own = [row // images_per_caption for row in range(count)]
    columns |= {"caption_id": own, "place": [row % images_per_caption for row in range(count)]}
    columns["concept"] = [names[row // 4 % 3] for row in range(count)]
    columns["caption"] = [
        f"A {concept} on table {caption}." for concept, caption in zip(columns["concept"], own, strict=True)
    ]
    columns["source"] = ["tiny"] * count
    columns["template"] = [("concept", "background", "relation")[caption % 3] for caption in own]
    columns["image"] = [{"bytes": _encoded(one), "path": None} for one in pictures]
    rows = Dataset.from_dict(columns, features=index_features(encoders).copy())
    rows.to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    IndexFacts(tuple(encoders), count, "tiny-images", False, 40).save(folder)
    return str(folder)


def _encoded(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
