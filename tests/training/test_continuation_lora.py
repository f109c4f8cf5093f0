"""Continuing with adapters: what learns, what is saved, and that the merged model is the adapted one."""

import shutil

import pytest
import torch
from image_sets import write_images
from peft import PeftModel
from safetensors import safe_open
from tiny_pretraining import assert_equal_tensors, batch_of, build_model, continued

from synclr_hf.errors import UserInputError
from synclr_hf.models import SynCLRModel
from synclr_hf.training import SynCLRForPreTraining
from synclr_hf.training.lora import LoraSettings, merge_adapters
from synclr_hf.training.stage import PretrainingConfig, initial_model, pretrain

LORA = {"rank": 4}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return str(write_images(tmp_path_factory.mktemp("images") / "images", rows=12, images=4))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Saved weights whose teacher differs from its student."""
    model = build_model()
    with torch.no_grad():
        for parameter in model.synclr.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp("trained")
    model.save_pretrained(folder)
    return str(folder)


def adapted(trained, folder="out", **settings):
    return initial_model(continued(trained, "none", folder, lora={**LORA, **settings}))


def filled(model):
    """Give the adapters weights that are not zero, others in the teacher than in the student."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    return model


def test_only_adapters_and_heads_get_gradients(trained, dataset):
    model = filled(adapted(trained)).train()
    model(**batch_of(dataset)).loss.backward()
    got = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert all(model.get_parameter(name).grad.abs().sum() > 0 for name in got)
    adapters = {name for name in got if "lora_" in name}
    assert len(adapters) == 2 * 2 * 2  # layers x (q, v) x (A, B)
    assert all(name.startswith("student.") for name in adapters)
    heads = {f"objectives.{name}" for name, p in build_model().objectives.named_parameters() if p.requires_grad}
    assert got - adapters == heads


def test_the_start_is_the_saved_model_and_the_same_seed_draws_the_same_adapters(trained, dataset):
    pixels = batch_of(dataset)["pixel_values"]
    saved, model = SynCLRForPreTraining.from_pretrained(trained), adapted(trained).eval()
    for encoder in ("student", "synclr"):
        wanted = getattr(saved, encoder)(pixels).pooler_output
        torch.testing.assert_close(getattr(model, encoder)(pixels).pooler_output, wanted)
    assert_equal_tensors(model.state_dict(), adapted(trained).state_dict())
    drawn = [p for name, p in model.student.named_parameters() if "lora_A" in name]
    assert all(p.abs().sum() > 0 for p in drawn) and not torch.equal(drawn[0], drawn[1])


def test_the_teacher_follows_in_its_adapters_and_keeps_its_own_weights(trained):
    model = adapted(trained)
    with torch.no_grad():
        for name, parameter in model.student.named_parameters():
            if "lora_" in name:
                parameter += 1
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.update_teacher(0.75)
    for name, parameter in model.synclr.named_parameters():
        moved = 0.25 if "lora_" in name else 0
        torch.testing.assert_close(parameter, before[f"synclr.{name}"] + moved)
    assert not torch.equal(model.synclr.norm.bias, model.student.norm.bias)


def test_merged_features_equal_those_of_the_adapters(trained, dataset):
    pixels = batch_of(dataset)["pixel_values"]
    model = filled(adapted(trained, target=["q_proj", "v_proj", "fc1"])).eval()
    features = {name: getattr(model, name)(pixels).last_hidden_state for name in ("student", "synclr")}
    start = SynCLRForPreTraining.from_pretrained(trained)
    merge_adapters(model)
    assert model.state_dict().keys() == start.state_dict().keys()
    for name, wanted in features.items():
        got = getattr(model, name)(pixels).last_hidden_state
        assert (got - wanted).abs().max() < 1e-5
        assert (getattr(start, name)(pixels).last_hidden_state - wanted).abs().max() > 1e-2


@pytest.fixture(scope="module")
def finished(trained, images, tmp_path_factory):
    """A finished training of adapters, its checkpoints beside it."""
    return pretrain(continued(trained, images, tmp_path_factory.mktemp("lora") / "out", lora=LORA))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks by the old name
def test_what_is_saved_is_an_ordinary_model_and_the_adapter_alone(finished, trained, dataset):
    pixels = batch_of(dataset)["pixel_values"]
    with safe_open(finished / "model.safetensors", framework="pt") as stored:
        assert set(stored.keys()) == set(build_model().state_dict())
    teacher = SynCLRModel.from_pretrained(finished).eval()
    merged = teacher(pixels).pooler_output
    base = SynCLRModel.from_pretrained(trained)
    with_adapter = PeftModel.from_pretrained(base, finished / "adapter").eval()
    assert (with_adapter(pixels).pooler_output - merged).abs().max() < 1e-5
    assert (SynCLRModel.from_pretrained(trained).eval()(pixels).pooler_output - merged).abs().max() > 1e-4
    assert with_adapter.peft_config["default"].base_model_name_or_path == trained
    start = SynCLRForPreTraining.from_pretrained(trained).state_dict()
    end = SynCLRForPreTraining.from_pretrained(finished).state_dict()
    moved = {name for name, tensor in end.items() if not torch.equal(tensor, start[name])}
    encoders = {name for name in moved if not name.startswith("objectives.")}
    assert {name.split(".")[-2] for name in encoders} == {"q_proj", "v_proj"} and len(encoders) == 8


@pytest.mark.parametrize("step", [2, 4])
def test_a_killed_training_of_adapters_goes_on_exactly(finished, trained, images, tmp_path, step):
    killed = shutil.copytree(finished, tmp_path / "killed")
    for checkpoint in killed.glob("checkpoint-*"):
        if int(checkpoint.name.rpartition("-")[2]) > step:
            shutil.rmtree(checkpoint)
    for name in ("history.json", "model.safetensors", "config.json"):
        (killed / name).unlink()
    shutil.rmtree(killed / "adapter")
    pretrain(continued(trained, images, killed, lora=LORA))
    assert_equal_tensors(*(SynCLRForPreTraining.from_pretrained(folder).state_dict() for folder in (killed, finished)))
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (killed / "adapter" / name).read_bytes() == (finished / "adapter" / name).read_bytes()


def test_a_finished_training_of_adapters_can_be_continued_and_its_checkpoint_cannot(finished):
    model = initial_model(continued(finished, "none", "out"))
    assert_equal_tensors(model.state_dict(), SynCLRForPreTraining.from_pretrained(finished).state_dict())
    with pytest.raises(UserInputError, match="a checkpoint of a training with adapters cannot be continued"):
        initial_model(continued(finished / "checkpoint-2", "none", "out"))


def test_unusable_settings_are_one_line(trained):
    with pytest.raises(UserInputError, match="rank: 0 cannot be used; allowed: a whole number, 1 or more"):
        continued(trained, "none", "out", lora={"rank": 0})
    with pytest.raises(UserInputError, match="unknown target of LoRA 'query'.*q_proj"):
        continued(trained, "none", "out", lora={"target": ["query"]})
    with pytest.raises(UserInputError, match="unknown entry of section 'lora' 'r'"):
        continued(trained, "none", "out", lora={"r": 4})
    with pytest.raises(UserInputError, match="alpha: -1 cannot be used"):
        LoraSettings(alpha=-1)
    with pytest.raises(UserInputError, match="lora adapts trained weights: type initial_weights"):
        PretrainingConfig(output_dir="out", images="none", lora=LORA)
