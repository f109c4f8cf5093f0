"""The encoder: shapes, masks, positions, initialisation, and what survives saving."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModel

from synclr_hf.models import SynCLRConfig, SynCLRModel


def tiny(**changes):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    return SynCLRModel(SynCLRConfig(**{**sizes, **changes})).eval()


@pytest.fixture
def pictures():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_output_is_normed_tokens_with_the_cls_token_as_pooler_output(pictures):
    output = tiny()(pictures, output_hidden_states=True)
    assert output.last_hidden_state.shape == (2, 17, 32)
    assert torch.equal(output.pooler_output, output.last_hidden_state[:, 0])
    assert len(output.hidden_states) == 3
    torch.testing.assert_close(output.last_hidden_state.mean(-1), torch.zeros(2, 17), atol=1e-5, rtol=0)


def test_masked_patches_are_not_seen(pictures):
    model, masks = tiny(), torch.zeros(2, 16, dtype=torch.bool)
    masks[:, 5] = True
    changed = pictures.clone()
    changed[:, :, 8:16, 8:16] += 3.0  # patch 5 of a 4 x 4 grid
    seen = [model(x, bool_masked_pos=masks).pooler_output for x in (pictures, changed)]
    assert torch.equal(*seen)
    assert not torch.equal(model(pictures).pooler_output, model(changed).pooler_output)


def test_mask_token_takes_the_place_of_the_patch_before_positions_are_added(pictures):
    embeddings = tiny().embeddings
    torch.nn.init.normal_(embeddings.mask_token)
    tokens = embeddings(pictures, torch.ones(2, 16, dtype=torch.bool))
    torch.testing.assert_close(
        tokens[:, 1:], (embeddings.mask_token + embeddings.position_embeddings[:, 1:]).expand(2, -1, -1)
    )


def test_any_size_and_shape_that_the_patches_divide():
    model = tiny()
    assert model(torch.zeros(1, 3, 16, 48)).last_hidden_state.shape == (1, 1 + 2 * 6, 32)
    with pytest.raises(ValueError, match="30 x 32 px cannot be cut into patches of 8 px"):
        model(torch.zeros(1, 3, 30, 32))


def test_positions_of_a_wide_grid_follow_the_picture():
    """A gradient along the height must stay one along the height (the reference transposes wide grids)."""
    embeddings = tiny().embeddings
    with torch.no_grad():
        ramp = torch.arange(4.0)[:, None].expand(4, 4).reshape(1, 16, 1).expand(1, 16, 32)
        embeddings.position_embeddings[:, 1:] = ramp
    positions = embeddings.interpolated_positions(2, 6)[0, 1:, 0].view(2, 6)
    torch.testing.assert_close(positions[:, :1].expand(2, 6), positions, atol=1e-5, rtol=1e-5)
    assert positions[1, 0] > positions[0, 0]


def test_offset_chooses_the_reference_interpolation():
    by_size, by_scale = tiny().embeddings, tiny(interpolate_offset=0.1).embeddings
    by_scale.load_state_dict(by_size.state_dict())
    assert by_scale.interpolated_positions(2, 2).shape == by_size.interpolated_positions(2, 2).shape
    assert not torch.allclose(by_scale.interpolated_positions(2, 2), by_size.interpolated_positions(2, 2))
    assert torch.equal(by_scale.interpolated_positions(4, 4), by_size.interpolated_positions(4, 4))


def test_sdpa_and_eager_attention_agree(pictures):
    model = tiny()
    fast = model(pictures).last_hidden_state
    model.set_attn_implementation("eager")
    slow = model(pictures, output_attentions=True)
    torch.testing.assert_close(fast, slow.last_hidden_state, atol=1e-5, rtol=1e-5)
    assert len(slow.attentions) == 2
    torch.testing.assert_close(slow.attentions[0].sum(-1), torch.ones(2, 2, 17))


def test_saved_and_loaded_is_bit_equal(tmp_path, pictures):
    model = tiny()
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert isinstance(loaded, SynCLRModel) and isinstance(AutoConfig.from_pretrained(tmp_path), SynCLRConfig)
    assert torch.equal(loaded(pictures).last_hidden_state, model(pictures).last_hidden_state)


def test_a_missing_mask_token_leaves_the_loaded_weights_alone(tmp_path, pictures):
    model = tiny(use_mask_token=False)
    model.save_pretrained(tmp_path)
    loaded = SynCLRModel.from_pretrained(tmp_path, use_mask_token=True)
    assert torch.equal(loaded(pictures).pooler_output, model(pictures).pooler_output)
    assert all(torch.isfinite(p).all() for p in loaded.parameters())


def test_initialisation_is_that_of_the_reference():
    model = tiny(hidden_size=256, num_attention_heads=4)
    assert model.embeddings.position_embeddings.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.layers[0].mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.embeddings.cls_token.abs().max() < 1e-5
    assert model.embeddings.mask_token.std().item() == pytest.approx(0.02, rel=0.3)
    assert model.embeddings.projection.weight.abs().max() <= (3 * 8 * 8) ** -0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 60}, "image_size 60 is not divisible by patch_size 8"),
        ({"num_attention_heads": 3}, "hidden_size 32 is not divisible by num_attention_heads 3"),
        ({"drop_path_rate": 1.0}, "drop_path_rate 1.0 is outside"),
        ({"hidden_size": "32"}, "hidden_size"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny(**settings)


def test_stochastic_depth_keeps_the_mean_and_is_off_in_evaluation(pictures):
    model = tiny(drop_path_rate=0.5)
    assert [layer.drop_path.rate for layer in model.layers] == [0, 0.5]
    drop = model.layers[1].drop_path.train()
    torch.manual_seed(0)
    kept = drop(torch.ones(4000, 1, 1))
    assert set(kept.unique().tolist()) == {0.0, 2.0} and kept.mean().item() == pytest.approx(1, abs=0.05)
    drop.eval()
    assert torch.equal(drop(pictures[:, 0]), pictures[:, 0])
