"""Going on from saved weights: what is taken over, what is refused, and that a killed continuation goes on exactly."""

import json
import shutil
from dataclasses import fields

import pytest
import torch
from image_sets import write_images
from tiny_pretraining import (
    ENCODER,
    OBJECTIVES,
    STAGE_ARGUMENTS,
    VIEWS,
    assert_equal_tensors,
    build_model,
    continued,
)
from transformers import PreTrainedConfig

from synclr_hf.errors import UserInputError
from synclr_hf.models import SynCLRConfig, SynCLRModel
from synclr_hf.training import SynCLRForPreTraining
from synclr_hf.training.continuation import (
    ENCODER_ARCHITECTURE,
    ENCODER_OPTIONS,
    default_arguments,
    published_configuration,
    views_for,
)
from synclr_hf.training.sources import find_source
from synclr_hf.training.stage import PretrainingConfig, initial_model, pretrain


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return str(write_images(tmp_path_factory.mktemp("images") / "images", rows=12, images=4))


@pytest.fixture(scope="module")
def first(images, tmp_path_factory):
    """A finished training from random weights: the folder of a run with `pretraining/` in it."""
    folder = tmp_path_factory.mktemp("first") / "run"
    settings = {"encoder": ENCODER, "objectives": OBJECTIVES, "views": VIEWS, "training_arguments": STAGE_ARGUMENTS}
    pretrain(PretrainingConfig(output_dir=str(folder / "pretraining"), images=images, **settings))
    return folder


@pytest.fixture
def trained(tmp_path):
    """Saved weights with nothing beside them, as `synclr convert --pretraining` leaves them; the teacher differs."""
    model = build_model()
    with torch.no_grad():
        for _, teacher in model.teacher_pairs():
            for parameter in teacher.parameters():
                parameter += 0.01 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "trained")
    return tmp_path / "trained"


def test_the_start_is_the_saved_model_bit_for_bit(trained, tmp_path):
    saved = SynCLRForPreTraining.from_pretrained(trained)
    assert not torch.equal(saved.student.norm.bias, saved.synclr.norm.bias)
    start = initial_model(continued(trained, "none", tmp_path / "out"))
    assert_equal_tensors(start.state_dict(), saved.state_dict())
    learns = {name for name, parameter in start.named_parameters() if parameter.requires_grad}
    assert learns == {name for name, parameter in build_model().named_parameters() if parameter.requires_grad}
    start.save_pretrained(tmp_path / "again")
    assert_equal_tensors(SynCLRForPreTraining.from_pretrained(tmp_path / "again").state_dict(), saved.state_dict())
    assert_equal_tensors(SynCLRModel.from_pretrained(tmp_path / "again").state_dict(), saved.synclr.state_dict())


def test_weights_of_half_precision_are_trained_in_float32(trained, tmp_path):
    SynCLRForPreTraining.from_pretrained(trained, dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    start = initial_model(continued(tmp_path / "half", "none", tmp_path / "out"))
    assert {parameter.dtype for parameter in start.parameters()} == {torch.float32}


def test_every_place_that_holds_a_model_is_found(first, tmp_path):
    pretraining = first / "pretraining"
    assert find_source(first) == find_source(pretraining) == pretraining
    assert find_source(pretraining / "checkpoint-4") == pretraining / "checkpoint-4"


def test_settings_come_from_the_first_training_and_its_schedule_does_not(first, tmp_path):
    for source in (first, first / "pretraining" / "checkpoint-4"):
        config = PretrainingConfig(output_dir=str(tmp_path), images="none", initial_weights=str(source))
        assert config.views == VIEWS and config.encoder["hidden_size"] == 32
        arguments = config.trainer_arguments()
        assert (arguments.per_device_train_batch_size, arguments.ema_decay) == (4, 0.9)
        assert arguments.learning_rate == pytest.approx(1e-4) and arguments.max_steps == 1000
        assert arguments.get_warmup_steps(1000) == 100
    epochs = {"num_train_epochs": 2}
    config = PretrainingConfig(str(tmp_path), "none", initial_weights=str(first), training_arguments=epochs)
    assert config.trainer_arguments().max_steps == -1 and config.trainer_arguments().num_train_epochs == 2


def test_what_is_given_counts_where_the_weights_allow_it(first, tmp_path):
    ibot = {"name": "ibot", "student_temperature": 0.2, "weight": 0.25, "num_prototypes": 24}
    config = continued(
        first,
        "none",
        tmp_path,
        encoder={"hidden_size": 32, "initializer_range": 0.1},
        objectives=[ibot, {"name": "multi_positive", "temperature": 0.3}],
        student_drop_path_rate=0.2,
        views={"num_local_crops": 1},
    )
    objectives = {settings["name"]: settings for settings in config.model_config().objectives}
    assert list(objectives) == ["multi_positive", "ibot"]
    assert (
        objectives["multi_positive"]["temperature"] == 0.3 and objectives["multi_positive"]["head_output_size"] == 16
    )
    assert objectives["ibot"]["weight"] == 0.25 and objectives["ibot"]["student_temperature"] == 0.2
    assert config.model_config().student_drop_path_rate == 0.2
    assert config.views_config().num_local_crops == 1 and config.views_config().global_crop_size == 32
    assert initial_model(config).student.layers[1].drop_path.rate == 0.2
    kept = continued(first, "none", tmp_path)
    assert (
        kept.model_config().student_drop_path_rate == 0 and kept.model_config().objectives[0]["head_hidden_size"] == 32
    )


def test_the_teachers_temperature_is_the_final_one_unless_told_otherwise(first, tmp_path):
    ibot = initial_model(continued(first, "none", tmp_path)).objectives["ibot"]
    assert ibot.temperature_at(0) == pytest.approx(0.07)
    warm = [{"name": "ibot", "teacher_temperature_warmup_steps": 10}, {"name": "multi_positive"}]
    ibot = initial_model(continued(first, "none", tmp_path, objectives=warm)).objectives["ibot"]
    assert ibot.temperature_at(0) == pytest.approx(0.04)


def test_another_architecture_is_refused_by_naming_every_field(first, tmp_path):
    objectives = [
        {"name": "ibot", "num_prototypes": 32, "teacher_temperature": 0.05},
        {"name": "multi_positive", "head_hidden_size": 64, "temperature": 0.1},
    ]
    encoder = {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "patch_size": 8,
        "mlp_ratio": 2.0,
        "initializer_range": 0.1,
    }
    with pytest.raises(UserInputError) as refused:
        continued(first, "none", tmp_path, encoder=encoder, objectives=objectives)
    line = str(refused.value)
    for difference in (
        "encoder.hidden_size 32 there, 64 here",
        "encoder.num_attention_heads 2 there, 4 here",
        "encoder.mlp_ratio 4.0 there, 2.0 here",
        "objectives.ibot.num_prototypes 24 there, 32 here",
        "objectives.multi_positive.head_hidden_size 32 there, 64 here",
    ):
        assert difference in line
    assert line.count(" there, ") == 5 and "\n" not in line and str(first) in line
    with pytest.raises(UserInputError, match="objectives multi_positive, ibot there, multi_positive here"):
        continued(first, "none", tmp_path, objectives=[{"name": "multi_positive"}])
    with pytest.raises(UserInputError, match="projector_layers 3 there, 2 here"):  # 3 is the default of its class
        continued(first, "none", tmp_path, objectives=[{"name": "ibot"}, {**OBJECTIVES[0], "projector_layers": 2}])
    with pytest.raises(UserInputError, match="objective 'ibot' refuses its settings: .*'prototypes'"):
        continued(first, "none", tmp_path, objectives=[{"name": "ibot", "prototypes": 3}, {"name": "multi_positive"}])


def test_classes_of_a_supervised_training_are_those_of_the_weights(tmp_path):
    settings = [{"name": "cross_entropy"}]
    build_model(settings, class_names=["bird", "cat"]).save_pretrained(tmp_path / "supervised")
    config = continued(tmp_path / "supervised", "none", tmp_path / "out")
    assert config.class_names == ["bird", "cat"]
    assert initial_model(config).config.class_names == ["bird", "cat"]
    with pytest.raises(UserInputError, match=r"class_names 2 names \(bird, ...\) there, 3 \(ant, ...\) here"):
        continued(tmp_path / "supervised", "none", tmp_path / "out", class_names=["ant", "bird", "cat"])


def test_every_field_of_the_encoder_is_known_to_fit_or_not():
    """A new field must be put on one of the two lists."""
    own = {field.name for field in fields(SynCLRConfig)} - {field.name for field in fields(PreTrainedConfig)}
    outputs = {"apply_layernorm", "reshape_hidden_states", "_out_features", "_out_indices", "use_mask_token"}
    assert own - outputs == {*ENCODER_ARCHITECTURE, *ENCODER_OPTIONS}


@pytest.mark.parametrize(
    ("image_size", "patch_size", "local"), [(224, 16, 96), (224, 14, 98), (64, 16, 32), (32, 8, 16), (8, 8, 8)]
)
def test_views_in_the_papers_proportions(image_size, patch_size, local):
    views = views_for(SynCLRConfig(image_size=image_size, patch_size=patch_size))
    assert (views["global_crop_size"], views["local_crop_size"]) == (image_size, local)
    assert views["blur_sigma"] == pytest.approx([0.1, max(0.1, 2 * image_size / 224)])
    if image_size == 224:
        assert views["downsample_sizes"] == [64, 128]


def test_the_default_learning_rate():
    history = [{"learning_rate": 3e-4}, {"learning_rate": 2e-3}, {"train_loss": 3.0}]
    given = {"training_arguments": {"learning_rate": 5e-3}}
    assert default_arguments(given, history)["learning_rate"] == 5e-4
    assert default_arguments({}, history)["learning_rate"] == 2e-4
    assert default_arguments({}, [])["learning_rate"] == 2e-4
    assert default_arguments({}, history, is_lora=True)["learning_rate"] == 2e-3
    assert default_arguments({"initial_weights_fingerprint": "ab"}, history)["learning_rate"] == 2e-3


def test_a_rate_that_yaml_takes_for_a_text_is_recorded_as_a_number():
    config = PretrainingConfig(output_dir="unused", images="unused", training_arguments={"learning_rate": "1e-3"})
    assert config.training_arguments == {"learning_rate": 1e-3}


def test_what_is_published_of_a_run_tells_no_place():
    configuration = {
        "views": VIEWS,
        "training_arguments": {**STAGE_ARGUMENTS, "hub_token": "secret"},
        "images_fingerprint": "x",
    }
    told = published_configuration(configuration)
    assert told["views"] == VIEWS and told["training_arguments"]["ema_decay"] == 0.9
    assert "secret" not in json.dumps(told) and "images_fingerprint" not in told


def test_a_killed_continuation_goes_on_exactly_and_from_the_same_weights_only(first, images, tmp_path):
    whole = pretrain(continued(first, images, tmp_path / "whole"))
    record = json.loads((whole / "run.json").read_text())
    assert (
        record["initial_weights"] == str(first) and len(record["configuration"]["initial_weights_fingerprint"]) == 32
    )
    killed = tmp_path / "killed"
    shutil.copytree(whole, killed)
    shutil.rmtree(killed / "checkpoint-4")
    for name in ("history.json", "model.safetensors", "config.json"):
        (killed / name).unlink()
    moved = shutil.copytree(first / "pretraining", tmp_path / "moved")  # the same weights at another place
    pretrain(continued(moved, images, killed))
    weights = [SynCLRForPreTraining.from_pretrained(folder).state_dict() for folder in (whole, killed)]
    assert_equal_tensors(*weights)
    start = SynCLRForPreTraining.from_pretrained(first / "pretraining").state_dict()
    assert not torch.equal(start["synclr.norm.bias"], weights[0]["synclr.norm.bias"])
    (killed / "history.json").unlink()
    with pytest.raises(UserInputError, match="initial_weights_fingerprint .* there, .* now"):
        pretrain(continued(whole, images, killed))


def test_killed_between_the_last_checkpoint_and_the_end(first, images, tmp_path):
    whole = pretrain(continued(first, images, tmp_path / "whole"))
    before = SynCLRForPreTraining.from_pretrained(whole).state_dict()
    for name in ("history.json", "model.safetensors"):
        (whole / name).unlink()
    assert_equal_tensors(
        SynCLRForPreTraining.from_pretrained(pretrain(continued(first, images, whole))).state_dict(), before
    )


def test_the_schedule_starts_anew(first, images, tmp_path):
    folder = pretrain(continued(first, images, tmp_path / "out", training_arguments={"warmup_steps": 2}))
    logged = [entry for entry in json.loads((folder / "history.json").read_text()) if "loss" in entry]
    assert [entry["step"] for entry in logged] == [1, 2, 3, 4]
    assert logged[0]["learning_rate"] < logged[1]["learning_rate"] <= 1e-3
    assert 0.9 <= logged[0]["ema_decay"] < 0.93 and logged[-1]["ema_decay"] == pytest.approx(1.0)
    assert all(entry["teacher_temperature"] == pytest.approx(0.07) for entry in logged)


def test_places_with_nothing_to_go_on_from(first, trained, tmp_path):
    def refused(source):
        with pytest.raises(UserInputError) as error:
            continued(source, "none", tmp_path / "out")
        return str(error.value)

    assert "does not exist" in refused(tmp_path / "nothing" / "at" / "all")
    (tmp_path / "empty").mkdir()
    assert "holds no model" in refused(tmp_path / "empty")
    assert "is a file" in refused(trained / "config.json")
    SynCLRForPreTraining.from_pretrained(trained).synclr.save_pretrained(tmp_path / "encoder")
    assert "holds an encoder only; heads and teacher are needed: look for pretraining/" in refused(
        tmp_path / "encoder"
    )
    unfinished = tmp_path / "unfinished"
    shutil.copytree(first / "pretraining", unfinished)
    (unfinished / "config.json").unlink()
    assert (
        f"not finished; finish it, or go on from its last checkpoint: type --from {unfinished}/checkpoint-5"
        in refused(unfinished)
    )
    (trained / "model.safetensors").unlink()
    assert "no model*.safetensors* beside the configuration" in str(
        pytest.raises(UserInputError, find_source, trained).value
    )
    assert "there is no such folder, and it cannot be loaded from the Hub" in refused("nobody/nothing")


def test_weights_that_are_not_those_of_their_configuration(trained, tmp_path):
    config = json.loads((trained / "config.json").read_text())
    config["encoder_config"]["hidden_size"] = 64
    (trained / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserInputError, match=r"tensors are missing, unknown or of another shape \(objectives"):
        initial_model(continued(trained, "none", tmp_path / "out"))
