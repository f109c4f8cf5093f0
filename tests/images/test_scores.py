from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_diffusion import tokenizer_files

from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.data.pictures import open_picture
from synclr_hf.data.reading import read_rows
from synclr_hf.data.schemas import image_features
from synclr_hf.errors import UserInputError
from synclr_hf.images import scores as scores_module
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.scores import ImageTextScorer
from synclr_hf.images.stage import write_images

TOWER = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
LONG = "a very long caption of a cat on a sofa, " * 5


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A tiny random CLIP with tokenizer and image processor; reads 30 tokens and pictures of 24 pixels."""
    from transformers import AutoModel, CLIPConfig, CLIPImageProcessorPil, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    vocabulary = tokenizer_files(folder)
    ends = {"bos_token_id": vocabulary["<|startoftext|>"], "eos_token_id": vocabulary["<|endoftext|>"]}
    config = CLIPConfig(
        text_config=TOWER | ends | {"vocab_size": len(vocabulary), "max_position_embeddings": 30},
        vision_config=TOWER | {"image_size": 24, "patch_size": 8},
        projection_dim=16,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder / "model")
    CLIPTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt")).save_pretrained(
        folder / "model"
    )
    square = {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}}
    CLIPImageProcessorPil(**square).save_pretrained(folder / "model")
    return str(folder / "model")


@pytest.fixture(scope="module")
def scorer(clip):
    return ImageTextScorer(clip)


def encoded(seed):
    file = BytesIO()
    levels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    Image.fromarray(levels).save(file, "jpeg")
    return file.getvalue()


def directly(folder, caption, pictures):
    """Return the scores by the model's own forward pass, one caption at a time, without padding."""
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokens = AutoTokenizer.from_pretrained(folder)(caption, truncation=True, max_length=30, return_tensors="pt")
    pixels = processor(images=[open_picture(picture) for picture in pictures], return_tensors="pt")
    with torch.inference_mode():
        return (model(**tokens, **pixels).logits_per_image[:, 0] / model.logit_scale.exp()).tolist()


def test_scores_are_those_of_the_model(scorer, clip, monkeypatch):
    monkeypatch.setattr(scores_module, "SCORED_AT_ONCE", 3)
    captions = ["a cat", LONG, "a blue car in the rain", "nothing"]
    pictures = [[encoded(0), encoded(1)], [encoded(2)] * 2, [encoded(3), encoded(4), encoded(5)], []]
    found = scorer.scores(captions, pictures)
    assert [len(row) for row in found] == [2, 2, 3, 0]
    for caption, row, scores in zip(captions[:3], pictures, found, strict=False):
        assert scores == pytest.approx(directly(clip, caption, row), abs=1e-5)
    assert scorer.scores([], []) == []


def test_bare_features_and_outputs_are_both_understood(scorer, monkeypatch):
    told = scorer.scores(["a cat"], [[encoded(0)]])
    for name in ("get_image_features", "get_text_features"):
        method = getattr(scorer._model, name)

        def bare(method=method, **inputs):
            features = method(**inputs)
            return getattr(features, "pooler_output", features)

        monkeypatch.setattr(scorer._model, name, bare)
    assert scorer.scores(["a cat"], [[encoded(0)]]) == told


def test_the_stage_writes_a_column_of_scores(tmp_path, clip):
    captions = write_captions(CaptionsConfig(tmp_path / "captions", num_captions=3), workers=1)
    config = ImagesConfig(
        tmp_path / "images", captions, images_per_caption=2, size=32, score_model=clip, rows_per_shard=2
    )
    rows = read_rows(write_images(config, workers=1), ["scores"], "images")
    assert rows.features == image_features(scores=True)
    for row in rows:
        stored = []
        for picture in row["images"]:
            file = BytesIO()
            picture.save(file, "png")
            stored.append(file.getvalue())
        assert row["scores"] == pytest.approx(directly(clip, row["caption"], stored), abs=1e-5)


def test_models_that_cannot_compare(tmp_path, clip):
    from transformers import ViTConfig, ViTModel

    ViTModel(ViTConfig(**TOWER, image_size=16, patch_size=8)).save_pretrained(tmp_path / "vit")
    with pytest.raises(UserInputError, match=r"--score-model .*vit cannot be used \(ViTModel has no get_image_feat"):
        ImageTextScorer(str(tmp_path / "vit"))
    with pytest.raises(UserInputError, match="--score-model no/model cannot be used .*type --score-model openai/clip"):
        ImageTextScorer("no/model")
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    for name in ("config.json", "model.safetensors"):
        (lacking / name).symlink_to(f"{clip}/{name}")
    with pytest.raises(UserInputError, match="lacking cannot be used .*with its tokenizer and image processor"):
        ImageTextScorer(str(lacking))
