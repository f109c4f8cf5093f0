import pytest
import torch
from tiny_evaluation import tiny_encoder, tiny_model
from transformers import ViTConfig, ViTModel

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.segmentation.upernet_model import (
    ViTPyramid,
    layer_decay_groups,
    map_blocks,
    upernet,
)
from synclr_hf.models import SynCLRConfig, SynCLRModel

NAMES = ("a", "b", "c")


def synclr(**changes):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 5, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
    return SynCLRModel(SynCLRConfig(**{**sizes, **changes})).eval()


def built(model, **changes):
    torch.manual_seed(0)
    return upernet(tiny_encoder(model=model), NAMES, **{"drop_path": 0.1, "auxiliary_weight": 0.4, **changes})


def test_the_neck_makes_four_scales_of_one():
    maps = [torch.randn(2, 16, 5, 4) for _ in range(4)]
    shapes = [tuple(one.shape[2:]) for one in ViTPyramid(16)(maps)]
    assert shapes == [(20, 16), (10, 8), (5, 4), (3, 2)]


def test_the_blocks_are_those_of_the_paper_in_proportion():
    assert map_blocks(12) == [4, 6, 8, 12]
    assert map_blocks(24) == [8, 12, 16, 24]
    assert map_blocks(5) == [2, 3, 4, 5]
    assert map_blocks(4) == [1, 2, 3, 4]


@pytest.mark.parametrize("model", [synclr(), tiny_model(num_hidden_layers=5)], ids=["synclr", "dinov2"])
def test_the_encoder_is_copied_into_the_backbone(model):
    model = model.eval()
    ours = built(model).eval()
    pixels = torch.randn(2, 3, 40, 24)
    states = model(pixels, output_hidden_states=True).hidden_states
    maps = ours.backbone.encoder(pixels).feature_maps
    for block, one in zip((2, 3, 4, 5), maps, strict=True):  # without the last norm
        expected = states[block][:, 1:].transpose(1, 2).reshape(2, 16, 5, 3)
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-5)
    assert ours(pixel_values=pixels).logits.shape == (2, 3, 40, 24)
    assert ours.config.backbone_config.drop_path_rate == 0.1


@pytest.mark.parametrize("model", [synclr(), tiny_model(num_hidden_layers=5)], ids=["synclr", "dinov2"])
def test_stochastic_depth_grows_from_block_to_block(model):
    """Dinov2 of transformers has one rate for all blocks; the recipe's is 0 at the first one."""
    paths = [path for name, path in built(model, drop_path=0.2).named_modules() if name.endswith("drop_path")]
    assert [getattr(path, "drop_prob", getattr(path, "rate", None)) for path in paths] == pytest.approx(
        [0, 0.05, 0.1, 0.15, 0.2]
    )


def test_channels_drop_out_in_front_of_the_classifiers():
    ours = built(synclr())
    for head in (ours.decode_head, ours.auxiliary_head):
        dropout, classifier = head.classifier
        assert isinstance(dropout, torch.nn.Dropout2d) and dropout.p == 0.1
        assert classifier.out_channels == 3


def test_layers_learn_at_rates_that_fall_towards_the_patches():
    model = built(synclr())
    groups = layer_decay_groups(model, learning_rate=1.0, weight_decay=0.05, layer_decay=0.5)
    of = {id(parameter): group for group in groups for parameter in group["params"]}
    parameters = dict(model.named_parameters())
    assert len(of) == len(parameters)

    def told(name):
        group = of[id(parameters[name])]
        return group["lr"], group["weight_decay"]

    inside = "backbone.encoder.synclr"
    assert told(f"{inside}.embeddings.projection.weight") == (0.5**6, 0.05)
    assert told(f"{inside}.embeddings.position_embeddings") == (0.5**6, 0.0)
    assert told(f"{inside}.layers.0.mlp.fc1.weight") == (0.5**5, 0.05)
    assert told(f"{inside}.layers.4.norm1.weight") == (0.5, 0.0)
    assert told(f"{inside}.norm.weight") == (1.0, 0.0)
    assert told("backbone.neck.scales.1.weight") == (1.0, 0.05)
    assert told("decode_head.classifier.1.bias") == (1.0, 0.0)


def test_models_that_are_no_plain_transformer_backbone_are_refused():
    vit = ViTModel(ViTConfig(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, patch_size=8, image_size=32))
    with pytest.raises(UserInputError, match=r"'tiny' \(vit\) is no plain vision transformer that AutoBackbone"):
        built(vit)
    with pytest.raises(UserInputError, match="has 3 blocks; allowed: 4 or more"):
        built(synclr(num_hidden_layers=3))
    with pytest.raises(UserInputError, match="UperNet cannot learn 1 class"):
        upernet(tiny_encoder(model=synclr()), ("a",), drop_path=0.0, auxiliary_weight=0.4)
