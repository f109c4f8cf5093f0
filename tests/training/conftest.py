"""A model and a set of pictures small enough to train in a second."""

import pytest
from PIL import Image, ImageDraw
from tiny_pretraining import build_model

from synclr_hf.views import ViewsConfig, ViewsDataset


@pytest.fixture
def model():
    return build_model()


@pytest.fixture
def dataset():
    def picture(caption, k):
        image = Image.new("RGB", (40, 40), (40 * caption % 256, 90, 255 - 30 * caption % 256))
        ImageDraw.Draw(image).ellipse((5 + k, 5, 20 + 2 * k, 25), fill=(200, 30 * caption % 256, 40))
        return image

    rows = [{"caption_id": i, "images": [picture(i, k) for k in range(4)]} for i in range(12)]
    views = ViewsConfig(global_crop_size=32, local_crop_size=16, num_local_crops=2)
    return ViewsDataset(rows, views, patch_size=8, seed=0)
