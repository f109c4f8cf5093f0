"""Encoders of the authors' code: every form of a file, the same features, and one line for everything else."""

import os

import pytest
import torch
from safetensors.torch import save_file
from tiny_originals import HEADS, encoder, prefixed, saved, training

from synclr_hf.errors import UserInputError
from synclr_hf.hub import convert_original
from synclr_hf.hub.conversion import find_encoder
from synclr_hf.hub.original_checkpoint import read_original
from synclr_hf.hub.original_encoder import feature_difference, original_features

WRAPPERS = {
    "bare": lambda weights: weights,
    "model": lambda weights: {"model": weights, "epoch": 3},
    "state_dict": lambda weights: {"state_dict": weights},
}
PREFIXES = ("", "visual.", "module.visual.", "module.", "backbone.", "teacher.backbone.", "module.student.backbone.")


def pictures(size=32, channels=3):
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_every_form_of_a_file_gives_the_original_features(tmp_path, wrapper, prefix):
    weights = encoder(mask_token=True)
    path = saved(tmp_path, WRAPPERS[wrapper](prefixed(prefix, weights)))
    model = convert_original(path, weights="student" if "student" in prefix else "teacher", num_attention_heads=HEADS)
    with torch.no_grad():
        features = model(pictures()).last_hidden_state
    wanted = original_features(weights, pictures(), num_attention_heads=HEADS)
    torch.testing.assert_close(features, wanted, atol=1e-5, rtol=0)
    assert not model.training and all(parameter.requires_grad for parameter in model.parameters())


def test_the_original_forward_is_that_of_torch_itself():
    """`nn.TransformerEncoder` has fused query, key and value too: a third opinion on their order."""
    weights = encoder()
    layer = torch.nn.TransformerEncoderLayer(
        32, HEADS, 128, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    blocks = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    names = {
        "self_attn.in_proj_weight": "attn.qkv.weight",
        "self_attn.in_proj_bias": "attn.qkv.bias",
        "self_attn.out_proj": "attn.proj",
        "linear1": "mlp.fc1",
        "linear2": "mlp.fc2",
    }
    state = {}
    for name in blocks.state_dict():
        theirs = name.replace("layers.", "blocks.")
        for torch_name, timm_name in names.items():
            theirs = theirs.replace(torch_name, timm_name)
        state[name] = weights[theirs]
    blocks.load_state_dict(state)
    with torch.no_grad():
        patches = pictures().unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(2, 16, -1)
        tokens = patches @ weights["patch_embed.proj.weight"].reshape(32, -1).T + weights["patch_embed.proj.bias"]
        tokens = torch.cat([weights["cls_token"].expand(2, 1, 32), tokens], dim=1) + weights["pos_embed"]
        wanted = torch.layer_norm(blocks(tokens), (32,), weights["norm.weight"], weights["norm.bias"], 1e-6)
    features = original_features(weights, pictures(), num_attention_heads=HEADS)
    torch.testing.assert_close(features, wanted, atol=1e-5, rtol=0)


def test_the_configuration_is_read_off_the_shapes(tmp_path):
    weights = encoder(width=192, depth=3, patch=14, grid=2, qkv_bias=False)
    config = convert_original(saved(tmp_path, {"model": prefixed("module.visual.", weights)})).config
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (192, 3, 3)
    assert (config.patch_size, config.image_size, config.mlp_ratio) == (14, 28, 4)
    assert (config.qkv_bias, config.use_mask_token, config.interpolate_offset) == (False, False, 0)
    assert convert_original(saved(tmp_path, encoder(mask_token=True)), num_attention_heads=4).config.use_mask_token


def test_a_conversion_is_exact_up_to_rounding(tmp_path):
    """In float32 rounding grows with the weights to the size of a small mistake; float64 tells them apart."""
    weights = encoder(width=192, depth=12)
    model = convert_original(saved(tmp_path, weights))
    assert feature_difference(weights, model, torch.float64) < 1e-12
    weights["blocks.0.attn.proj.bias"][0] += 1e-4
    assert feature_difference(weights, model, torch.float64) > 1e-6


def test_a_number_of_heads_that_nothing_tells_is_asked_for(tmp_path):
    path = saved(tmp_path, encoder(width=128))
    with pytest.raises(UserInputError, match=r"has width 128; type --num-attention-heads .* would be 2"):
        convert_original(path)
    assert convert_original(path, num_attention_heads=4).config.num_attention_heads == 4
    for wrong in (0, 3, -2):
        with pytest.raises(UserInputError, match=rf"--num-attention-heads {wrong} .* a divisor of the width 128"):
            convert_original(path, num_attention_heads=wrong)


def test_the_number_of_heads_matters(tmp_path):
    path = saved(tmp_path, encoder())
    one, two = (convert_original(path, num_attention_heads=heads)(pictures()).pooler_output for heads in (1, 2))
    assert not torch.allclose(one, two, atol=1e-3)


def test_an_mlp_of_any_width(tmp_path):
    assert int(28 * (61 / 28)) == 60  # rounding: a ratio that is read off must give the width again
    weights = encoder(width=28, depth=1)
    generator = torch.Generator().manual_seed(3)
    for name, shape in {"fc1.weight": (61, 28), "fc1.bias": (61,), "fc2.weight": (28, 61)}.items():
        weights[f"blocks.0.mlp.{name}"] = torch.randn(shape, generator=generator)
    model = convert_original(saved(tmp_path, weights), num_attention_heads=7)
    assert feature_difference(weights, model) < 1e-4


def test_half_precision_and_safetensors(tmp_path):
    weights = {name: tensor.half() for name, tensor in encoder().items()}
    save_file(prefixed("visual.", weights), tmp_path / "weights.safetensors")
    model = convert_original(tmp_path / "weights.safetensors", num_attention_heads=HEADS)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert feature_difference(weights, model) < 1e-5


def test_the_teacher_is_taken_unless_the_student_is_asked_for(tmp_path):
    path = saved(tmp_path, {"model": training(), "optimizer": {}, "scaler": {}, "epoch": 0})
    for name, seed in {"teacher": 2, "student": 1}.items():
        model = convert_original(path, weights=name, num_attention_heads=HEADS)
        assert torch.equal(model.embeddings.cls_token, encoder(seed, mask_token=True)["cls_token"])
    left_out = find_encoder(read_original(path), "teacher", HEADS).left_out
    assert left_out["the centre of the targets, which Sinkhorn-Knopp does without"] == ["ibot_loss.center"]
    names = [name for names in left_out.values() for name in names]
    assert set(names) == {name for name in training() if not name.startswith("teacher.backbone.")}


def test_what_stablerep_has_beside_its_encoder_is_named_and_left_out(tmp_path):
    beside = {
        "image_mlp.layer1.weight": "projection head",
        "image_mlp.bn1.num_batches_tracked": "projection head",
        "image_projection": "image-text",
        "text_projection.layer3.bias": "image-text",
        "logit_scale": "image-text",
        "transformer.resblocks.0.attn.in_proj_weight": "text tower",
        "token_embedding.weight": "text tower",
        "positional_embedding": "text tower",
        "ln_final.weight": "text tower",
        "visual.head.bias": "classifier",
    }
    weights = prefixed("visual.", encoder()) | {name: torch.tensor(1) for name in beside}
    path = saved(tmp_path, {"model": weights})
    left_out = find_encoder(read_original(path), num_attention_heads=HEADS).left_out
    assert {name for names in left_out.values() for name in names} == set(beside)
    for reason, names in left_out.items():
        assert all(beside[name] in reason for name in names)


def without(*parts):
    return {name: tensor for name, tensor in encoder().items() if not any(part in name for part in parts)}


def changed(name, tensor):
    return {**encoder(), name: tensor}


BAD_WEIGHTS = {
    "a ResNet": (
        {"conv1.weight": torch.zeros(2, 3, 7, 7), "layer1.0.bn1.running_mean": torch.zeros(2)},
        ["no encoder of SynCLR or StableRep", "conv1.weight", "pos_embed"],
    ),
    "a head alone": ({"head.weight": torch.zeros(5, 32), "head.bias": torch.zeros(5)}, ["head.weight", "pos_embed"]),
    "LayerScale": (
        encoder() | {f"blocks.{i}.ls1.gamma": torch.ones(32) for i in range(2)},
        ["another model", "blocks.*.ls1.gamma (x2)"],
    ),
    "registers": (changed("reg_token", torch.zeros(1, 4, 32)), ["another model", "reg_token"]),
    "a mean-pooling classifier": (
        without("norm.weight", "norm.bias") | {"fc_norm.weight": torch.ones(32)},
        ["another model", "fc_norm.weight"],
    ),
    "no cls token": (without("cls_token"), ["misses cls_token"]),
    "no final norm": ({k: t for k, t in encoder().items() if k[:5] != "norm."}, ["misses norm.weight, norm.bias"]),
    "a missing block": (without("blocks.0."), ["has no blocks.0.attn.qkv.weight, blocks.0.mlp.fc1.weight"]),
    "a block that lacks a part": (without("blocks.1.norm2"), ["misses blocks.1.norm2.weight, blocks.1.norm2.bias"]),
    "positions of no square": (changed("pos_embed", torch.zeros(1, 18, 32)), ["18 positions", "197 = 14 x 14 + 1"]),
    "a wide patch": (
        changed("patch_embed.proj.weight", torch.zeros(32, 3, 4, 8)),
        ["patch_embed.proj.weight (32, 3, 4, 8) instead of (32, 3, 8, 8)"],
    ),
    "a wrong shape": (changed("norm.bias", torch.zeros(31)), ["norm.bias (31,) instead of (32,)"]),
    "NaN": (
        changed("blocks.1.attn.proj.bias", torch.full((32,), torch.nan)),
        ["no finite", "blocks.1.attn.proj.bias"],
    ),
    "whole numbers": (changed("norm.bias", torch.zeros(32, dtype=torch.int8)), ["no finite number in norm.bias"]),
    "nothing": ({}, ["holds nothing"]),
    "no tensors": ({"epoch": 3, "net": {"a": torch.zeros(1)}}, ["epoch, net", '{"model": weights}']),
    "a tensor": (torch.zeros(3), ["holds a Tensor"]),
}


def refused(path, **arguments):
    with pytest.raises(UserInputError) as caught:
        convert_original(path, **{"num_attention_heads": HEADS, **arguments})
    assert "\n" not in str(caught.value) and "type --" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("what", BAD_WEIGHTS)
def test_another_model_is_named_in_one_line(tmp_path, what):
    content, parts = BAD_WEIGHTS[what]
    path = saved(tmp_path, content)
    line = refused(path)
    for part in (*parts, str(path)):
        assert part in line


class Danger:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_never_run(tmp_path):
    path = saved(tmp_path, {"model": encoder(), "args": Danger(tmp_path / "harm")})
    line = refused(path)
    assert "mkdir" in line and "could run code" in line and not (tmp_path / "harm").exists()
    line = refused(saved(tmp_path, {"model": encoder(), "when": tmp_path}))
    assert "could run code" in line and "athlib" in line
    line = refused(saved(tmp_path, torch.nn.Linear(2, 2)))
    assert "torch.nn" in line and "could run code" in line


@pytest.mark.parametrize("name", ["checkpoint.pth", "checkpoint.safetensors"])
def test_files_that_are_no_checkpoints(tmp_path, name):
    path = tmp_path / name
    if path.suffix == ".pth":
        saved(tmp_path, encoder())
    else:
        save_file(encoder(), path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"<!DOCTYPE html><html>", b"weights\n" * 40, bytes(range(256))):
        path.write_bytes(content)
        line = refused(path)
        assert "no checkpoint of PyTorch, or was cut off" in line and repr(content[:16]) in line
    path.unlink()
    assert "No such file" in refused(path)
    path.mkdir()
    assert "directory" in refused(path)


def test_weights_that_a_file_does_not_hold(tmp_path):
    path = saved(tmp_path, encoder())
    assert "weights 'ema'; allowed: teacher, student" in refused(path, weights="ema")
    with pytest.raises(UserInputError, match="holds one encoder; leave --weights out"):
        convert_original(path, weights="student", num_attention_heads=HEADS)
    path = saved(tmp_path, prefixed("student.backbone.", encoder()))
    assert "holds the student alone; type --weights student" in refused(path)
