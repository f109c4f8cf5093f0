"""The row schemas that the stages exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Features

CAPTION_COLUMNS = (
    "caption_id",
    "caption",
    "concept",
    "source",
    "template",
    "background",
    "relation",
    "language_model",
    "seed",
)
IMAGE_COLUMNS = (
    "caption_id",
    "caption",
    "concept",
    "source",
    "images",
    "seeds",
    "guidance_scale",
    "provenance",
)
BACKGROUND_COLUMNS = ("concept", "source", "backgrounds", "language_model", "seed")
_INTEGERS = ("caption_id", "seed")


def caption_features() -> Features:
    """Return the columns of a caption row.

    `caption_id` is the row's slot (shard number x rows per shard + place), `source` the concept bank, `template` one
    of concept, background, relation; `background` and `relation` are null where the template has none. With
    `seed` the caption can be drawn again.
    """
    from datasets import Features, Value

    return Features({name: Value("int64" if name in _INTEGERS else "string") for name in CAPTION_COLUMNS})


def image_features(*, scores: bool = False) -> Features:
    """Return the columns of an image row: one caption with all its pictures, the positives of each other.

    `images` holds encoded bytes, `seeds` one seed a picture; `guidance_scale` is the w of
    w * conditional + (1 - w) * unconditional; `provenance` is JSON: what drew the pictures, and how.

    Args:
        scores: whether there is a column `scores` too: how well each picture shows the caption, one number a picture.
    """
    from datasets import Features, Image, List, Value

    special = {
        "caption_id": Value("int64"),
        "images": List(Image()),
        "seeds": List(Value("int64")),
        "guidance_scale": Value("float64"),
    }
    columns = {name: special.get(name, Value("string")) for name in IMAGE_COLUMNS}
    return Features(columns | ({"scores": List(Value("float32"))} if scores else {}))


def background_features() -> Features:
    """Return the columns of a row of backgrounds: one concept with the places where it is plausibly seen.

    `source` is the concept bank; `backgrounds` is empty where the language model named no usable place. With `seed`
    the places can be asked for again.
    """
    from datasets import Features, List, Value

    special = {"backgrounds": List(Value("string")), "seed": Value("int64")}
    return Features({name: special.get(name, Value("string")) for name in BACKGROUND_COLUMNS})
