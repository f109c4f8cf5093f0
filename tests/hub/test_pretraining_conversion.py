"""Training checkpoints of the authors' code: everything that trains comes along, and it is said where from."""

import inspect

import pytest
import torch
from tiny_originals import HEADS, checkpoint, contrast_heads, encoder, prefixed, prototype_heads, saved, training
from torch.nn import functional

from synclr_hf.errors import UserInputError
from synclr_hf.hub import convert_original, convert_original_pretraining, export_encoder
from synclr_hf.hub.original_checkpoint import read_original
from synclr_hf.hub.original_encoder import feature_difference
from synclr_hf.hub.original_settings import PAPER_SETTINGS, PAPER_WARMUP_STEPS
from synclr_hf.hub.pretraining_conversion import find_pretraining
from synclr_hf.objectives import OBJECTIVES
from synclr_hf.training import SynCLRForPreTraining


def found(path):
    return find_pretraining(read_original(path), HEADS)


def test_every_weight_that_trains_comes_along(tmp_path):
    weights = training()
    model = convert_original_pretraining(checkpoint(tmp_path), num_attention_heads=HEADS)
    for name, part in {"teacher": model.synclr, "student": model.student}.items():
        bare = {key.split(".backbone.")[1]: t for key, t in weights.items() if key.startswith(f"{name}.backbone.")}
        assert feature_difference(bare, part) < 1e-5
        assert part.config.interpolate_offset == 0.1
    inputs = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    contrast, ibot = model.objectives["multi_positive"], model.objectives["ibot"]

    def mlp(name, values, last):
        for layer in range(0, last, 3):
            values = functional.linear(values, weights[f"{name}.{layer}.weight"], weights[f"{name}.{layer}.bias"])
            norm = [weights[f"{name}.{layer + 1}.{part}"] for part in ("weight", "bias")]
            values = functional.gelu(functional.layer_norm(values, values.shape[-1:], *norm))
        values = functional.linear(values, weights[f"{name}.{last}.weight"])
        return functional.layer_norm(values, values.shape[-1:])

    projected = mlp("student.proj.mlp", inputs, 6)
    torch.testing.assert_close(contrast.projector(inputs), projected)
    torch.testing.assert_close(contrast.predictor(projected), mlp("student.pred.mlp", projected, 3))
    torch.testing.assert_close(contrast.teacher_projector(inputs), mlp("teacher.proj.mlp", inputs, 6))
    for name, head in {"student": ibot.head, "teacher": ibot.teacher_head}.items():
        values = inputs
        for layer in (0, 2, 4):
            part = f"{name}.dino_head.mlp.{layer}"
            values = functional.linear(values, weights[f"{part}.weight"], weights[f"{part}.bias"])
            values = functional.gelu(values) if layer < 4 else functional.normalize(values)
        direction = functional.normalize(weights[f"{name}.dino_head.last_layer.weight_v"])
        logits = functional.linear(values, weights[f"{name}.dino_head.last_layer.weight_g"] * direction)
        torch.testing.assert_close(head(inputs), logits)


def test_what_weights_do_not_tell_comes_from_the_options_of_the_file(tmp_path):
    state = found(checkpoint(tmp_path))
    contrast, ibot = state.config.objectives
    assert (contrast["weight"], contrast["temperature"], ibot["weight"]) == (2.0, 0.1, 0.5)
    assert (ibot["warmup_teacher_temperature"], ibot["teacher_temperature"]) == (0.05, 0.06)
    assert ibot["teacher_temperature_warmup_steps"] == 0 and state.config.student_drop_path_rate == 0.3
    assert "multi_positive.temperature 0.1 (--contrast_temperature of the file)" in state.settings
    assert (contrast["head_hidden_size"], contrast["head_output_size"]) == (24, 16)
    assert (contrast["projector_layers"], contrast["predictor_layers"]) == (3, 2)
    assert (ibot["num_prototypes"], ibot["head_hidden_size"], ibot["head_bottleneck_size"]) == (40, 20, 12)
    assert list(state.left_out.values()) == [["ibot_loss.center"]] and state.differences == []


def test_what_a_file_does_not_tell_is_the_papers(tmp_path):
    junk = {"contrast_temperature": "warm", "teacher_temp": 0.0, "ibot_loss_weight": None, "drop_path_rate": 1.0}
    for path in (saved(tmp_path, training()), checkpoint(tmp_path, **junk, warmup_teacher_temp_epochs=9.0)):
        contrast, ibot = found(path).config.objectives
        assert (contrast["temperature"], ibot["teacher_temperature"], ibot["weight"]) == (0.08, 0.07, 1.0)
        assert ibot["teacher_temperature_warmup_steps"] == 4000
        assert "multi_positive.temperature 0.08 (the paper)" in found(path).settings
        assert "student_drop_path_rate 0.1 (the paper)" in found(path).settings
    for name, argument, _, paper in PAPER_SETTINGS:
        if argument != "weight":
            assert inspect.signature(OBJECTIVES[name]).parameters[argument].default == paper
    steps = inspect.signature(OBJECTIVES["ibot"]).parameters["teacher_temperature_warmup_steps"]
    assert steps.default == PAPER_WARMUP_STEPS


def test_what_has_no_counterpart_here_is_told(tmp_path):
    weights = training() | {"student.feature_decoder.norm.weight": torch.ones(3), "dino_loss.center": torch.zeros(1)}
    options = {"centering": "centering", "mae_loss_weight": 1.0}
    state = found(checkpoint(tmp_path, weights, **options))
    assert [line.split(":")[0] for line in state.differences] == [
        "--centering centering",
        "--dino_loss_weight",
        "--mae_loss_weight",
    ]
    names = [name for names in state.left_out.values() for name in names]
    assert set(names) == {"student.feature_decoder.norm.weight", "dino_loss.center", "ibot_loss.center"}


def pair(**sizes):
    return prefixed("student.backbone.", encoder(1, **sizes)) | prefixed("teacher.backbone.", encoder(2, **sizes))


def test_a_run_of_one_objective_becomes_a_run_of_one_objective(tmp_path):
    state = found(checkpoint(tmp_path, pair(mask_token=True) | contrast_heads()))
    assert [objective["name"] for objective in state.config.objectives] == ["multi_positive"]
    names = [name for names in state.left_out.values() for name in names]
    assert names == ["student.backbone.mask_token", "teacher.backbone.mask_token"]
    state = found(checkpoint(tmp_path, pair(mask_token=True) | prototype_heads()))
    assert [objective["name"] for objective in state.config.objectives] == ["ibot"]
    image_level = pair() | contrast_heads() | prototype_heads() | {"dino_loss.center": torch.zeros(1, 40)}
    state = found(checkpoint(tmp_path, image_level))
    assert [objective["name"] for objective in state.config.objectives] == ["multi_positive"]
    assert {*prototype_heads(), "dino_loss.center"} == {name for names in state.left_out.values() for name in names}


def replaced(name, tensor):
    return {**training(), name: tensor}


@pytest.mark.parametrize(
    ("weights", "parts"),
    [
        (prefixed("module.visual.", encoder()), ["no student and teacher", "leave --pretraining out"]),
        (prefixed("teacher.backbone.", encoder()), ["no student and teacher", "leave --pretraining out"]),
        (pair(), ["no heads that are trained here", "leave --pretraining out"]),
        (pair() | prototype_heads(), ["without a mask token (--mask_style mae)", "leave --pretraining out"]),
        (replaced("student.proj.mlp.1.running_mean", torch.zeros(24)), ["running_mean", "--contrast_mlp_norm bn"]),
        ({k: t for k, t in training().items() if k != "student.pred.mlp.1.bias"}, ["misses student.pred.mlp.1.bias"]),
        (replaced("teacher.proj.mlp.0.weight", torch.zeros(25, 32)), ["teacher.proj.mlp.0.weight (25, 32) instead"]),
        (replaced("teacher.dino_head.mlp.6.bias", torch.zeros(2)), ["besides teacher.dino_head.mlp.6.bias"]),
        (replaced("student.dino_head.last_layer.weight_g", torch.full((40, 1), torch.inf)), ["no finite", "weight_g"]),
        (replaced("student.rotator.weight", torch.zeros(2)), ["another model", "student.rotator.weight"]),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, weights, parts):
    with pytest.raises(UserInputError) as caught:
        convert_original_pretraining(checkpoint(tmp_path, weights), num_attention_heads=HEADS)
    for part in parts:
        assert part in str(caught.value)


def test_what_was_converted_trains_and_exports(tmp_path):
    path = checkpoint(tmp_path)
    convert_original_pretraining(path, num_attention_heads=HEADS).save_pretrained(tmp_path / "pretraining")
    model = SynCLRForPreTraining.from_pretrained(tmp_path / "pretraining")
    teacher = convert_original(path, num_attention_heads=HEADS)
    for mine, theirs in zip(model.synclr.parameters(), teacher.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    generator = torch.Generator().manual_seed(0)
    captions, images = torch.tensor([0, 0, 1, 1]), torch.arange(4)
    loss = model.train()(
        torch.randn(4, 3, 32, 32, generator=generator),
        captions,
        images,
        images,
        torch.rand(4, 16, generator=generator) < 0.5,
        torch.randn(8, 3, 16, 16, generator=generator),
    ).loss
    loss.backward()
    assert torch.isfinite(loss)
    frozen = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert frozen and all(name.startswith("synclr.") or "teacher" in name for name in frozen)
    export_encoder(tmp_path / "pretraining", tmp_path / "encoder")
    exported = type(teacher).from_pretrained(tmp_path / "encoder")
    picture = torch.randn(1, 3, 48, 48, generator=generator)
    assert exported.config.interpolate_offset == 0
    assert torch.equal(exported(picture).last_hidden_state, teacher(picture).last_hidden_state)
