import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_evaluation import masked, tiny_encoder

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.masked_images import IGNORED, MaskedImages
from synclr_hf.evaluation.segmentation.frozen_maps import mapped_pictures, patch_grid
from synclr_hf.evaluation.segmentation.patch_tables import drawn_patches, drawn_pixels, features_at, patch_labels


def literal_labels(mask, grid, num_classes, min_share):
    found = np.full(grid, IGNORED)
    for row in range(grid[0]):
        for column in range(grid[1]):
            inside = [
                mask[y, x]
                for y in range(mask.shape[0])
                for x in range(mask.shape[1])
                if int((y + 0.5) * grid[0] / mask.shape[0]) == row
                and int((x + 0.5) * grid[1] / mask.shape[1]) == column
            ]
            counts = [inside.count(number) for number in range(num_classes)]
            if inside and max(counts) > 0 and max(counts) >= min_share * len(inside):
                found[row, column] = counts.index(max(counts))
    return found


@pytest.mark.parametrize(("size", "grid"), [((12, 16), (3, 4)), ((13, 17), (3, 5)), ((3, 4), (5, 2))])
@pytest.mark.parametrize("min_share", [0.3, 0.5, 1.0])
def test_the_class_that_fills_a_patch(size, grid, min_share):
    generator = np.random.default_rng(0)
    mask = generator.choice([0, 0, 0, 1, 2, IGNORED], size).astype(np.uint8)
    mask[: size[0] // 3, : size[1] // 3] = IGNORED
    found = patch_labels(mask, grid, num_classes=3, min_share=min_share)
    assert np.array_equal(found, literal_labels(mask, grid, 3, min_share))


def test_pictures_are_cut_into_whole_patches_of_their_own_aspect():
    assert patch_grid(240, 320, short_side=448, patch_size=14) == (32, 43)
    assert patch_grid(320, 240, short_side=448, patch_size=16) == (37, 28)
    assert patch_grid(100, 5000, short_side=32, patch_size=8) == (4, 12)  # three short sides at most
    assert patch_grid(5, 5, short_side=3, patch_size=8) == (1, 1)


def mixed(count=6):
    """Pictures of two sizes, one of them unreadable."""
    small, wide = masked(count, 0), masked(count, 1, size=48)
    pictures = [*small.pictures, *(picture.crop((0, 0, 48, 30)) for picture in wide.pictures)]
    masks = [*small.masks, *(mask[:30] for mask in wide.masks)]
    pictures[2] = b"no picture"
    return MaskedImages(pictures, masks, small.label_names, "mixed")


def test_a_map_does_not_depend_on_what_it_is_computed_with():
    encoder, data = tiny_encoder(), mixed()
    together = list(mapped_pictures(encoder, data, range(12), short_side=32, description="maps"))
    assert [one.row for one in together] == [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert together[-1].features.shape == (4, 6, 16)
    assert together[-1].mask.shape == (30, 48)
    for one in together[::5]:
        (alone,) = mapped_pictures(encoder, data, [one.row], short_side=32, description="maps")
        torch.testing.assert_close(alone.features, one.features, rtol=1e-4, atol=1e-5)


def test_a_layer_on_drawn_pixels_gives_the_up_sampled_logits():
    generator = torch.Generator().manual_seed(0)
    features, weight = torch.randn(4, 6, 5, generator=generator), torch.randn(3, 5, generator=generator)
    logits = F.interpolate((features @ weight.T).permute(2, 0, 1)[None], size=(30, 41), mode="bilinear")[0]
    pixels = np.random.default_rng(0).choice(30 * 41, 200, replace=False)
    found = features_at(features, (30, 41), pixels) @ weight.T
    torch.testing.assert_close(found, logits.flatten(1)[:, pixels].T, rtol=1e-4, atol=1e-5)


def test_drawn_patches_are_those_of_the_maps():
    encoder, data = tiny_encoder(), mixed()
    settings = {"short_side": 32, "min_share": 0.6, "seed": 3, "description": "patches"}
    every = drawn_patches(encoder, data, at_most=10**6, balanced=False, **settings)
    features, labels = [], []
    for one in mapped_pictures(encoder, data, range(12), short_side=32, description="maps"):
        classes = patch_labels(one.mask, one.features.shape[:2], num_classes=2, min_share=0.6)
        features.append(one.features[torch.from_numpy(classes != IGNORED)])
        labels.extend(classes[classes != IGNORED])
    assert every.labels.tolist() == labels
    torch.testing.assert_close(every.features.float(), torch.cat(features), rtol=1e-3, atol=1e-3)
    few = drawn_patches(encoder, data, at_most=40, balanced=True, **settings)
    assert 15 <= int((few.labels == 0).sum()) <= 25
    again = drawn_patches(encoder, data, at_most=40, balanced=True, **settings)
    assert torch.equal(few.features, again.features)


def test_drawn_pixels_count_and_belong_to_their_picture():
    table = drawn_pixels(tiny_encoder(), mixed(), range(12), short_side=32, at_most=120, seed=0, told="pixels")
    assert len(table.labels) == 110  # ten a picture, one cannot be read
    assert set(table.labels.tolist()) == {0, 1}
    assert torch.bincount(table.rows).tolist() == [10, 10, 0, *[10] * 9]


def test_masks_are_checked():
    data = masked(2, 0)
    picture = Image.new("RGB", (32, 30))
    wrong = MaskedImages([picture], [data.masks[0]], data.label_names, "size")
    with pytest.raises(UserInputError, match=r"mask of row 0 has the shape \(32, 32\), its picture 30 x 32"):
        list(mapped_pictures(tiny_encoder(), wrong, [0], short_side=32, description="maps"))
    many = MaskedImages(data.pictures, [mask + 3 for mask in data.masks], data.label_names, "classes")
    with pytest.raises(UserInputError, match="has the class 4, but there are 2 names; allowed: 0 to 1, and 255"):
        list(mapped_pictures(tiny_encoder(), many, [0], short_side=32, description="maps"))


def test_an_encoder_without_patches_is_refused():
    with pytest.raises(UserInputError, match="has no patch tokens"):
        list(mapped_pictures(tiny_encoder(model=None), masked(2, 0), [0], short_side=32, description="maps"))


def test_features_that_are_not_finite_are_refused():
    encoder = tiny_encoder()
    with torch.no_grad():
        encoder.model.layernorm.weight[0] = torch.nan
    with pytest.raises(UserInputError, match="patch features that are not finite"):
        list(mapped_pictures(encoder, masked(2, 0), [0], short_side=32, description="maps"))
