"""A pre-training model and a set of pictures small enough to train in a second."""

import torch
from PIL import Image, ImageDraw
from torch.utils.data import Dataset

from synclr_hf.training import SynCLRForPreTraining, SynCLRPreTrainingConfig
from synclr_hf.views import ViewsConfig, ViewsDataset

ENCODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
OBJECTIVES = [
    {"name": "multi_positive", "weight": 1.0, "head_hidden_size": 32, "head_output_size": 16},
    {"name": "ibot", "num_prototypes": 24, "head_hidden_size": 32, "head_bottleneck_size": 16},
]


def build_model(objectives=OBJECTIVES, **settings):
    torch.manual_seed(0)
    return SynCLRForPreTraining(
        SynCLRPreTrainingConfig(encoder_config=dict(ENCODER), objectives=objectives, **settings)
    )


def build_dataset():
    def picture(caption, k):
        image = Image.new("RGB", (40, 40), (40 * caption % 256, 90, 255 - 30 * caption % 256))
        ImageDraw.Draw(image).ellipse((5 + k, 5, 20 + 2 * k, 25), fill=(200, 30 * caption % 256, 40))
        return image

    rows = [{"caption_id": i, "images": [picture(i, k) for k in range(4)]} for i in range(12)]
    views = ViewsConfig(global_crop_size=32, local_crop_size=16, num_local_crops=2)
    return ViewsDataset(rows, views, patch_size=8, seed=0)


class Changed(Dataset):
    """Another data set's items, changed by a function."""

    def __init__(self, dataset, change):
        self.dataset, self.change = dataset, change

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, key):
        return self.change(dict(self.dataset[key]))


def replaced(key, function):
    return lambda item: {**item, key: function(item)}
