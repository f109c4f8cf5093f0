"""The copy in Dinov2 layout: the same features to the bit, loaded by transformers alone."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from synclr_hf.errors import UserInputError
from synclr_hf.hub import save_dinov2, to_dinov2
from synclr_hf.models import SynCLRConfig, SynCLRModel

ALONE = """
import sys, torch
from transformers import AutoBackbone, AutoConfig, AutoModel, BitImageProcessorPil
folder, pictures = sys.argv[1], torch.load("pictures.pt")
model = AutoModel.from_pretrained(folder)
backbone = AutoBackbone.from_config(AutoConfig.from_pretrained(folder, out_indices=[1, 2]))
backbone.load_state_dict(model.state_dict())
backbone.eval()
processor = BitImageProcessorPil.from_pretrained(folder)
with torch.no_grad():
    found = {"features": model(pictures).last_hidden_state, "maps": backbone(pictures).feature_maps,
             "pooled": model(pictures).pooler_output, "size": dict(processor.crop_size)}
torch.save(found, "found.pt")
print(type(model).__name__, "synclr_hf" in sys.modules)
"""


def encoder(**changes):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    model = SynCLRModel(SynCLRConfig(**{**sizes, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def pictures(size):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size))


@pytest.mark.parametrize("changes", [{}, {"use_mask_token": False, "qkv_bias": False, "mlp_ratio": 2.0}])
@torch.no_grad()
def test_features_are_equal_to_the_bit_at_any_resolution(changes):
    model = encoder(**changes)
    copy = to_dinov2(model)
    for size in (32, 48):
        ours, theirs = model(pictures(size)), copy(pictures(size))
        assert torch.equal(ours.last_hidden_state, theirs.last_hidden_state)
        assert torch.equal(ours.pooler_output, theirs.pooler_output)
    if not changes:
        masks = torch.rand(2, 16, generator=torch.Generator().manual_seed(0)) < 0.5
        ours, theirs = (encode(pictures(32), bool_masked_pos=masks) for encode in (model, copy))
        torch.testing.assert_close(ours.last_hidden_state, theirs.last_hidden_state)


@torch.no_grad()
def test_it_loads_where_our_package_is_not(tmp_path):
    model = encoder()
    save_dinov2(model, tmp_path / "dinov2")
    torch.save(pictures(48), tmp_path / "pictures.pt")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, "dinov2"],
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["Dinov2Model", "False"]
    found = torch.load(tmp_path / "found.pt")
    wanted = model(pictures(48)).last_hidden_state
    assert torch.equal(found["features"], wanted) and torch.equal(found["pooled"], wanted[:, 0])
    first, last = found["maps"]
    assert first.shape == (2, 32, 6, 6)
    assert torch.equal(last, wanted[:, 1:].reshape(2, 6, 6, 32).permute(0, 3, 1, 2))
    assert found["size"] == {"height": 32, "width": 32}


def test_the_file_has_the_names_that_every_version_reads(tmp_path):
    save_dinov2(encoder(use_mask_token=False), tmp_path / "dinov2")
    with safe_open(tmp_path / "dinov2" / "model.safetensors", "pt") as file:
        names = {name.replace("layer.1.", "layer.0.") for name in file.keys()}
    parts = "norm1 norm2 mlp.fc1 mlp.fc2 attention.output.dense".split()
    parts += [f"attention.attention.{name}" for name in ("query", "key", "value")]
    wanted = {f"encoder.layer.0.{part}.{kind}" for part in parts for kind in ("weight", "bias")}
    wanted |= {f"encoder.layer.0.layer_scale{i}.lambda1" for i in (1, 2)}
    wanted |= {f"embeddings.patch_embeddings.projection.{kind}" for kind in ("weight", "bias")}
    wanted |= {"embeddings.cls_token", "embeddings.position_embeddings", "layernorm.weight", "layernorm.bias"}
    assert names == wanted


def test_what_dinov2_cannot_be_is_refused(tmp_path):
    with pytest.raises(UserInputError, match=r"interpolate_offset 0.1; allowed for a Dinov2 copy: 0"):
        to_dinov2(encoder(interpolate_offset=0.1))
    with pytest.raises(UserInputError, match=r"mlp_ratio 2.5; allowed for a Dinov2 copy: a whole number"):
        save_dinov2(encoder(mlp_ratio=2.5), tmp_path / "dinov2")
    assert not (tmp_path / "dinov2").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    with pytest.raises(UserInputError, match="--dinov2 '.*full' holds other things"):
        save_dinov2(encoder(), tmp_path / "full")


def test_another_layout_is_an_error_and_not_random_weights(monkeypatch):
    monkeypatch.setattr("synclr_hf.hub.dinov2.SAVED_NAMES", ())
    with pytest.raises(RuntimeError, match="another layout of Dinov2"):
        to_dinov2(encoder())
