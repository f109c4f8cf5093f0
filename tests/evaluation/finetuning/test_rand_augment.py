import sys

import numpy as np
import pytest
import torch
from PIL import Image

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.finetuning.augmentation import RandAugment


def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))


def test_without_torchvision_the_message_says_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UserInputError) as caught:
        RandAugment(9, 0.5, (0, 0, 0), "finetune")
    assert 'pip install "synclr-hf[finetune]"' in str(caught.value)
    assert str(caught.value).endswith("type finetune.rand_augment=false")


def test_pictures_repeat_and_the_global_generator_stays():
    pytest.importorskip("torchvision", reason="RandAugment is torchvision's, an extra")
    augment = RandAugment(9, 0.5, (124, 116, 104), "finetune")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    found = [np.asarray(augment(picture(), np.random.default_rng(seed))).tobytes() for seed in range(40)]
    again = [np.asarray(augment(picture(), np.random.default_rng(seed))).tobytes() for seed in range(40)]
    assert found == again and torch.equal(torch.get_rng_state(), before)
    unchanged = found.count(np.asarray(picture()).tobytes())
    assert 4 <= unchanged <= 20  # a quarter has no operation; the identity is one of 14, others may do nothing
    assert len(set(found)) > 20


def test_strength_is_that_of_timm_not_of_torchvision(monkeypatch):
    transforms = pytest.importorskip("torchvision.transforms", reason="RandAugment is torchvision's, an extra")
    seen = []

    def strength(self, image):
        magnitudes = self._augmentation_space(self.num_magnitude_bins, (32, 32))
        seen.append((float(magnitudes["Rotate"][0][self.magnitude]), float(magnitudes["Color"][0][self.magnitude])))
        return image

    monkeypatch.setattr(transforms.RandAugment, "forward", strength)
    augment = RandAugment(9, 0.5, (0, 0, 0), "finetune")
    for seed in range(400):
        augment(picture(), np.random.default_rng(seed))
    rotation, colour = np.mean(seen, axis=0)
    assert rotation == pytest.approx(27, abs=0.3)  # 9 / 10 of 30 degrees; torchvision's own magnitude 9 is 9 degrees
    assert colour == pytest.approx(0.81, abs=0.01)
    assert len(seen) == pytest.approx(400, abs=50)  # two operations, each half of the time
