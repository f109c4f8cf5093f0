"""An exported encoder: the right weights, its processor, its card, and never half of one."""

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from synclr_hf.data.pictures import IMAGENET_MEAN, IMAGENET_STD
from synclr_hf.errors import UserInputError
from synclr_hf.hub import export_encoder, image_processor
from synclr_hf.models import SynCLRModel
from synclr_hf.training import SynCLRForPreTraining, SynCLRPreTrainingConfig


@pytest.fixture
def pretraining(tmp_path):
    encoder = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    objectives = [{"name": "multi_positive", "head_hidden_size": 16, "head_output_size": 8}]
    torch.manual_seed(0)
    model = SynCLRForPreTraining(SynCLRPreTrainingConfig(encoder_config=encoder, objectives=objectives))
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter += 0.5
    model.save_pretrained(tmp_path / "pretraining")
    return model, tmp_path / "pretraining"


@pytest.mark.parametrize("weights", ["teacher", "student"])
def test_the_asked_weights_are_written(pretraining, tmp_path, weights):
    model, folder = pretraining
    export_encoder(folder, tmp_path / "encoder", weights=weights)
    wanted = model.synclr if weights == "teacher" else model.student
    loaded = SynCLRModel.from_pretrained(tmp_path / "encoder")
    for mine, theirs in zip(wanted.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    card = ModelCard.load(tmp_path / "encoder" / "README.md")
    assert card.data.library_name == "transformers" and card.data.pipeline_tag == "image-feature-extraction"
    named = {"teacher": "the EMA teacher", "student": "the student"}[weights]
    assert f"These are the weights of {named}." in card.text and "were not checked" in card.text
    assert loaded.config.exported_weights == weights


def test_a_second_export_replaces_the_first_whole(pretraining, tmp_path):
    _, folder = pretraining
    export_encoder(folder, tmp_path / "encoder")
    (tmp_path / "encoder" / "left_over.bin").write_text("x")
    (tmp_path / ".encoder.unfinished").mkdir()
    (tmp_path / ".encoder.unfinished" / "half.safetensors").write_text("x")
    export_encoder(folder, tmp_path / "encoder")
    names = {path.name for path in (tmp_path / "encoder").iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "README.md", "modeling_synclr.py"} <= names
    assert "left_over.bin" not in names and "half.safetensors" not in names
    assert not (tmp_path / ".encoder.unfinished").exists()


def test_other_peoples_folders_are_left_alone(pretraining, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("x")
    for folder in (tmp_path / "thesis", pretraining[1]):
        before = sorted(path.name for path in folder.iterdir())
        with pytest.raises(UserInputError, match="holds other things"):
            export_encoder(pretraining[1], folder)
        assert sorted(path.name for path in folder.iterdir()) == before
    with pytest.raises(UserInputError, match="holds no finished pre-training model"):
        export_encoder(tmp_path / "thesis", tmp_path / "encoder")


def test_unknown_weights_are_refused_and_nothing_is_touched(pretraining, tmp_path):
    with pytest.raises(UserInputError, match="weights 'ema'; allowed: teacher, student; type --weights teacher"):
        export_encoder(pretraining[1], tmp_path / "encoder", weights="ema")
    assert not (tmp_path / "encoder").exists()


def test_the_processor_normalises_as_training_does():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    pixels = image_processor(32)(picture, return_tensors="pt").pixel_values[0]
    plain = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    expected = (plain - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=1e-5)
    assert image_processor(32)(Image.new("RGB", (50, 80)), return_tensors="pt").pixel_values.shape == (1, 3, 32, 32)
