"""A picture together with its mask, checked."""

from __future__ import annotations

import numpy as np
from PIL import Image

from synclr_hf.data.pictures import DECODING_ERRORS, open_picture
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.masked_images import IGNORED, MaskedImages


def read_pair(data: MaskedImages, row: int) -> tuple[Image.Image, np.ndarray] | None:
    """Return an upright RGB picture and its mask (H, W) uint8; `None` if the picture cannot be read.

    Raises:
        UserInputError: the mask has another size than the picture, or a class number without a name.
    """
    try:
        picture = open_picture(data.pictures[row])
    except DECODING_ERRORS:
        return None
    mask = read_mask(data, row)
    if mask.shape != (picture.height, picture.width):
        raise UserInputError(
            f"the mask of row {row} has the shape {mask.shape}, its picture {picture.height} x {picture.width}; "
            "allowed: one class number a pixel of the upright picture; give masks of the pictures' sizes"
        )
    return picture, mask


def read_mask(data: MaskedImages, row: int) -> np.ndarray:
    """Return a mask, (H, W) uint8.

    Raises:
        UserInputError: it has a class number without a name.
    """
    mask = np.asarray(data.masks[row])
    labelled = mask[mask != IGNORED]
    if labelled.size and int(labelled.max()) >= len(data.label_names):
        raise UserInputError(
            f"the mask of row {row} has the class {int(labelled.max())}, but there are {len(data.label_names)} names; "
            f"allowed: 0 to {len(data.label_names) - 1}, and {IGNORED} for pixels that count for nothing; "
            "name all classes"
        )
    return mask


def checked_sides(train: MaskedImages, test: MaskedImages) -> None:
    """Check before all work that there will be a score; reads both sides up to the first picture that counts.

    Raises:
        UserInputError: one side is empty or counts nowhere, or the two name different classes.
    """
    for side, data in (("train", train), ("test", test)):
        if len(data) == 0:
            raise UserInputError(f"the {side} split has no pictures; allowed: one or more; type another --dataset")
    if train.label_names != test.label_names:
        raise UserInputError(
            f"train has the classes {', '.join(train.label_names)}, test {', '.join(test.label_names)}; "
            "allowed: the same ones in the same order; give both splits one list of names"
        )
    for side, data in (("train", train), ("test", test)):
        pairs = (read_pair(data, row) for row in range(len(data)))
        if not any(pair is not None and (pair[1] != IGNORED).any() for pair in pairs):
            raise UserInputError(
                f"none of the {len(data)} {side} pictures can be read and has a mask with a pixel that counts; "
                f"allowed: classes 0 to {len(data.label_names) - 1} beside {IGNORED}; give masks of the classes"
            )
