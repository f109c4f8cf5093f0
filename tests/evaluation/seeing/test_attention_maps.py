"""Attention of the class token: equal to a hand computation, and the model is left as it was."""

import pytest
import torch
import transformers
from tiny_evaluation import tiny_encoder, tiny_model
from transformers import (
    CLIPConfig,
    CLIPModel,
    ConvNextConfig,
    ConvNextModel,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTMAEConfig,
    ViTMAEModel,
)

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.seeing.attention import attention_maps, has_class_token
from synclr_hf.models import SynCLRConfig, SynCLRModel

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}


def synclr():
    torch.manual_seed(0)
    return SynCLRModel(SynCLRConfig(**SIZES, initializer_range=0.5)).eval()


def pixels(height=24, width=40, count=2):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def by_hand(model, pixel_values):
    """The last layer's softmax(q k / sqrt(d)) of the class token, all tokens: (B, heads, T)."""
    hidden = model.embeddings(pixel_values)
    for layer in model.layers[:-1]:
        hidden = layer(hidden)
    hidden, attention = model.layers[-1].norm1(hidden), model.layers[-1].attention
    query = attention.q_proj(hidden[:, 0]).view(len(hidden), 2, 1, 8)
    key = attention.k_proj(hidden).view(len(hidden), -1, 2, 8).transpose(1, 2)
    return (query @ key.transpose(2, 3) / 8**0.5).softmax(dim=-1)[:, :, 0]


def test_maps_equal_a_hand_computation_at_a_shape_that_is_not_square():
    model = synclr()
    maps = attention_maps(tiny_encoder(model=model), pixels())
    reference = by_hand(model, pixels())
    torch.testing.assert_close(reference.sum(dim=-1), torch.ones(2, 2))
    assert maps.shape == (2, 2, 3, 5)
    torch.testing.assert_close(maps.flatten(2), reference[:, :, 1:])
    torch.testing.assert_close(maps.sum(dim=(2, 3)) + reference[:, :, 0], torch.ones(2, 2))


def test_the_model_keeps_its_kernels_its_mode_and_its_features():
    model = synclr().train()
    before = model(pixels()).last_hidden_state.detach()
    kernels = model.config._attn_implementation
    assert kernels == "sdpa"
    attention_maps(tiny_encoder(model=model), pixels())
    assert model.training and model.config._attn_implementation == kernels
    assert torch.equal(model(pixels()).last_hidden_state, before)
    with pytest.raises(RuntimeError):
        attention_maps(tiny_encoder(model=model), torch.zeros(1, 5, 32, 32))  # what breaks inside
    assert model.training and model.config._attn_implementation == kernels


def test_both_towers_of_clip_keep_their_own_kernels():
    tower = {**SIZES, "intermediate_size": 16}
    text = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    model = CLIPModel(CLIPConfig(vision_config=tower, text_config={**text, "eos_token_id": 2})).eval()
    model.set_attn_implementation({"": "sdpa", "vision_config": "sdpa", "text_config": "eager"})
    maps = attention_maps(tiny_encoder(model=model), pixels(32, 48))
    assert maps.shape == (2, 2, 4, 6) and (maps.sum(dim=(2, 3)) < 1).all()
    assert model.config.vision_config._attn_implementation == "sdpa"
    assert model.config.text_config._attn_implementation == "eager"


@pytest.mark.parametrize("kind", ["ViT", "Beit", "DeiT", "DINOv3ViT"])
def test_other_models_give_what_they_gather_themselves(kind):
    torch.manual_seed(0)
    sizes = {**SIZES, "intermediate_size": 16, "initializer_range": 0.3}
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**sizes)).eval()
    maps = attention_maps(tiny_encoder(model=model), pixels(32, 32))
    model.set_attn_implementation("eager")
    with torch.no_grad():
        whole = model(pixels(32, 32), output_attentions=True).attentions[-1]
    torch.testing.assert_close(maps.flatten(2), whole[:, :, 0, -16:])
    hooks = [hook.__name__ for module in model.modules() for hook in module._forward_hooks.values()]
    assert "keep" not in hooks


def test_registers_are_no_patches():
    model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SIZES, num_register_tokens=3)).eval()
    maps = attention_maps(tiny_encoder(model=model), pixels(32, 32))
    model.set_attn_implementation("eager")
    with torch.no_grad():
        whole = model(pixels(32, 32), output_attentions=True).attentions[-1]
    assert whole.shape[-1] == 1 + 3 + 16
    torch.testing.assert_close(maps.flatten(2), whole[:, :, 0, 4:])


def test_models_without_a_class_token_are_refused_in_one_line():
    convolutional = ConvNextModel(ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[4, 4, 4, 8])).eval()
    siglip = SiglipVisionModel(SiglipVisionConfig(**SIZES, intermediate_size=16)).eval()
    for model, name in ((siglip, "SiglipVisionModel"), (None, "raw pixels"), (convolutional, "ConvNextModel")):
        encoder = tiny_encoder(model=model)
        assert not has_class_token(encoder)
        with pytest.raises(UserInputError, match=f"{name}.*has no (class token|patch tokens)") as refused:
            attention_maps(encoder, pixels(32, 32))
        assert "\n" not in str(refused.value)
    assert has_class_token(tiny_encoder(model=tiny_model()))


def test_mae_attends_to_patches_in_their_order():
    torch.manual_seed(0)
    encoder = tiny_encoder(
        model=ViTMAEModel(ViTMAEConfig(**SIZES, intermediate_size=16, initializer_range=0.5)).eval()
    )
    first = attention_maps(encoder, pixels(32, 32))
    assert first.shape == (2, 2, 4, 4)
    assert torch.equal(first, attention_maps(encoder, pixels(32, 32)))
