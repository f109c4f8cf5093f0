"""A pre-training model and a set of pictures small enough to train in a second."""

import torch

from synclr_hf.training import SynCLRForPreTraining, SynCLRPreTrainingConfig

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
