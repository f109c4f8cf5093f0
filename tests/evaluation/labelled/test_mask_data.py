import json

import numpy as np
import pytest
from datasets import Array2D, ClassLabel, Dataset, Features, Image, List
from PIL import Image as PilImage
from tiny_data_sets import encoded, encoded_mask, save

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.data import load_evaluation_data
from synclr_hf.evaluation.labelled.mask_data import MaskCode, mask_column, mask_names, masked_images
from synclr_hf.evaluation.labelled.masked_images import MaskedImages

PLAIN = MaskCode()
MASK = np.array([[0, 1, 255], [2, 2, 0]], dtype=np.uint8)


def masked(masks, feature=None, image=None, column="mask"):
    rows = [{"image": image or encoded((row, 0, 0), (3, 2)), column: mask} for row, mask in enumerate(masks)]
    return Dataset.from_list(rows, features=Features({"image": Image(), column: feature or Image()}))


def read(rows, code=PLAIN, names=None):
    column = mask_column(rows, "x")
    names = names or mask_names([rows], column, "x", code)
    return masked_images(rows, column, names, "x", code, split="train")


@pytest.mark.parametrize("mode", ["L", "P"])
def test_indices_count_whatever_the_palette(mode):
    data = read(masked([encoded_mask(MASK, mode)]))
    assert data.label_names == ("0", "1", "2") and data.masks[0].dtype == np.uint8
    assert data.masks[0].tolist() == MASK.tolist()


def test_arrays_with_named_classes_and_grey_masks_of_three_channels():
    names = ClassLabel(names=["a", "b", "c"])
    small = np.where(MASK == 255, 1, MASK)
    assert read(masked([small.tolist()], List(List(names)))).label_names == ("a", "b", "c")
    data = read(masked([MASK.tolist()], Array2D((2, 3), "uint8")), names=("a", "b", "c"))
    assert data.masks[0].tolist() == MASK.tolist()
    grey = encoded((1, 1, 1), (3, 2))
    assert read(masked([grey]), names=("a", "b")).masks[0].tolist() == [[1, 1, 1]] * 2


def test_a_turned_picture_is_compared_upright(tmp_path):
    turned = PilImage.new("RGB", (2, 3))
    turned.getexif()[274] = 6  # stored 2 x 3, upright 3 x 2
    turned.save(tmp_path / "turned.jpg", exif=turned.getexif())
    image = {"bytes": (tmp_path / "turned.jpg").read_bytes(), "path": None}
    assert read(masked([encoded_mask(MASK)], image=image)).masks[0].shape == (2, 3)


def test_masks_that_do_not_fit_name_their_row():
    fits, wrong = encoded_mask(MASK), encoded_mask(MASK.T.copy())
    for rows, names, told in (
        (masked([fits, wrong]), "abc", "mask of row 1 of 'train' of 'x' is 3 x 2, its picture 2 x 3 .height x width"),
        (masked([fits]), "ab", "mask of row 0 .* holds the value 2; allowed: 0 to 1, and 255 for pixels"),
        (masked([encoded((1, 2, 3), (3, 2))]), "ab", "3 dimensions of uint8; needed: one whole number a pixel"),
        (masked([{"bytes": b"no", "path": None}]), "ab", "mask of row 0 of 'train' of 'x' cannot be read"),
        (masked([fits, None]), "abc", "row 1 of 'train' of 'x' has no mask"),
    ):
        with pytest.raises(UserInputError, match=told):
            list(read(rows, names=tuple(names)).masks)
    ade = read(masked([fits]), MaskCode(ignored=(0,), shift=1), names=("a", "b"))
    assert ade.masks[0].tolist() == [[255, 0, 255], [1, 1, 255]]
    with pytest.raises(UserInputError, match="holds the value 2; allowed: 1 to 1, and 0, 255 for pixels"):
        read(masked([fits]), MaskCode(ignored=(0,), shift=1), names=("a",)).masks[0]


def test_a_folder_of_masks_with_names_beside_it(tmp_path):
    rows = masked([encoded_mask(np.full((2, 3), row % 3, dtype=np.uint8)) for row in range(9)], column="annotation")
    made = save(tmp_path / "set", train=rows)
    (made / "names.json").write_text(json.dumps({"0": "sky", "1": "road", "2": "tree"}))
    data = load_evaluation_data(str(made), seed=1, max_train=4)
    assert isinstance(data.train, MaskedImages) and data.metric == "mean_iou" and data.num_unseen_labels == 0
    assert data.train.label_names == ("sky", "road", "tree") and (len(data.train), len(data.test)) == (4, 3)
    assert all(mask.shape == (2, 3) for mask in data.train.masks)
    assert data.train.rows([2, 0]).masks[1].tolist() == data.train.masks[0].tolist()
    assert data.train.rows([0]).fingerprint != data.train.rows([1]).fingerprint != data.train.fingerprint
    assert data.train.at_most(9, seed=0) is data.train
    (made / "names.json").write_text("[1]")
    with pytest.raises(UserInputError, match="names.json' is no list of names"):
        load_evaluation_data(str(made))
