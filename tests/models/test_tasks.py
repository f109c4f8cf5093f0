"""The encoder at work in the library: backbone, classifier, pipelines, LoRA, 8-bit weights, ONNX, compilation."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForPreTraining,
    UperNetConfig,
    UperNetForSemanticSegmentation,
    pipeline,
)

from synclr_hf.hub import image_processor
from synclr_hf.models import SynCLRBackbone, SynCLRConfig, SynCLRForImageClassification, SynCLRModel
from synclr_hf.training import SynCLRForPreTraining, SynCLRPreTrainingConfig

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}


def seeded(model_class, config):
    torch.manual_seed(0)
    return model_class(config).eval()


@pytest.fixture
def encoder():
    return seeded(SynCLRModel, SynCLRConfig(**SIZES, initializer_range=0.1))


@pytest.fixture
def folder(encoder, tmp_path):
    encoder.save_pretrained(tmp_path / "encoder")
    image_processor(32).save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


@pytest.fixture
def pictures():
    return torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def equal_weights(first, second):
    """Whether all weights but the mask token, which is left out where nothing masks, are the same."""
    both = [
        {name: value for name, value in model.state_dict().items() if not name.endswith("mask_token")}
        for model in (first, second)
    ]
    return both[0].keys() == both[1].keys() and all(torch.equal(both[0][name], both[1][name]) for name in both[0])


def test_one_checkpoint_serves_every_class(folder, encoder):
    torch.manual_seed(1)
    backbone = SynCLRBackbone.from_pretrained(folder, out_indices=[1, 3])
    classifier, report = AutoModelForImageClassification.from_pretrained(
        folder, num_labels=5, output_loading_info=True
    )
    assert isinstance(classifier, SynCLRForImageClassification)
    assert set(report["missing_keys"]) == {"classifier.weight", "classifier.bias"} and not report["unexpected_keys"]
    assert all(model.synclr.embeddings.mask_token is None for model in (backbone, classifier))  # else DDP would stop
    assert equal_weights(backbone.synclr, encoder) and equal_weights(classifier.synclr, encoder)
    assert isinstance(AutoModel.from_pretrained(folder), SynCLRModel)


def test_a_pretraining_checkpoint_serves_them_too(tmp_path):
    head = {"head_hidden_size": 16, "head_output_size": 8}
    config = SynCLRPreTrainingConfig(encoder_config=SIZES, objectives=[{"name": "multi_positive", **head}])
    whole = seeded(SynCLRForPreTraining, config)
    with torch.no_grad():
        whole.student.norm.bias += 1
    whole.save_pretrained(tmp_path)
    loaded = AutoModelForPreTraining.from_pretrained(tmp_path)
    assert isinstance(loaded, SynCLRForPreTraining) and equal_weights(loaded, whole)
    sizes = SynCLRConfig(**SIZES, use_mask_token=False)
    for model_class in (SynCLRModel, SynCLRBackbone, SynCLRForImageClassification):
        model, report = model_class.from_pretrained(tmp_path, config=sizes, output_loading_info=True)
        assert equal_weights(getattr(model, "synclr", model), whole.synclr)
        assert not report["unexpected_keys"]


def test_feature_maps_are_the_normed_patches_of_the_chosen_blocks(encoder, folder, pictures):
    backbone = SynCLRBackbone.from_pretrained(folder, out_features=["stem", "stage2", "stage3"]).eval()
    outputs = backbone(pictures)
    states = encoder(pictures, output_hidden_states=True).hidden_states
    assert backbone.out_indices == [0, 2, 3] and backbone.channels == [32, 32, 32]
    assert outputs.hidden_states is None and [map_.shape for map_ in outputs.feature_maps] == [(2, 32, 4, 6)] * 3
    for index, feature_map in zip((0, 2, 3), outputs.feature_maps, strict=True):
        patches = encoder.norm(states[index])[:, 1:]
        assert torch.equal(feature_map.flatten(2).transpose(1, 2), patches)
    last = encoder(pictures).last_hidden_state[:, 1:]
    assert torch.equal(outputs.feature_maps[-1].flatten(2).transpose(1, 2), last)


def test_tokens_as_they_are(folder, encoder, pictures):
    backbone = SynCLRBackbone.from_pretrained(folder, reshape_hidden_states=False, apply_layernorm=False).eval()
    (tokens,) = backbone(pictures, output_hidden_states=True).feature_maps
    assert torch.equal(tokens, encoder(pictures, output_hidden_states=True).hidden_states[-1])


def test_upernet_takes_the_backbone_and_trains_it(folder):
    settings = SynCLRConfig.from_pretrained(folder, out_indices=[0, 1, 2, 3])
    sizes = {"hidden_size": 16, "auxiliary_in_channels": 32, "auxiliary_channels": 8, "num_labels": 4}
    model = UperNetForSemanticSegmentation(UperNetConfig(backbone_config=settings, **sizes))
    assert isinstance(model.backbone, SynCLRBackbone)
    model.backbone.load_state_dict(SynCLRBackbone.from_pretrained(folder).state_dict())
    outputs = model(torch.randn(2, 3, 32, 32), labels=torch.randint(0, 4, (2, 32, 32)))
    outputs.loss.backward()
    assert outputs.logits.shape == (2, 4, 32, 32)
    assert all(p.grad is not None for p in model.backbone.synclr.layers.parameters())


def test_dpt_takes_the_backbone(folder):
    from transformers import DPTConfig, DPTForDepthEstimation

    settings = SynCLRConfig.from_pretrained(folder, out_indices=[0, 1, 2, 3], reshape_hidden_states=False)
    sizes = {"neck_hidden_sizes": [8, 8, 8, 8], "fusion_hidden_size": 8, "reassemble_factors": [4, 2, 1, 0.5]}
    torch.manual_seed(0)
    model = DPTForDepthEstimation(DPTConfig(backbone_config=settings, **sizes)).eval()
    depth = model(torch.randn(1, 3, 32, 32)).predicted_depth
    assert depth.shape[0] == 1 and torch.isfinite(depth).all()


def test_the_classifier_learns_and_knows_its_losses(folder):
    torch.manual_seed(0)
    model = SynCLRForImageClassification.from_pretrained(folder, num_labels=3)
    pixels, labels = torch.randn(6, 3, 32, 32), torch.arange(6) % 3
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        outputs = model(pixels, labels=labels)
        outputs.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(outputs.loss.item())
    assert losses[-1] < 0.2 * losses[0]
    expected = torch.nn.functional.cross_entropy(outputs.logits, labels)
    torch.testing.assert_close(outputs.loss, expected)
    several = SynCLRForImageClassification.from_pretrained(
        folder, num_labels=3, problem_type="multi_label_classification"
    )
    targets = torch.eye(3).repeat(2, 1)
    outputs = several(pixels, labels=targets)
    torch.testing.assert_close(
        outputs.loss, torch.nn.functional.binary_cross_entropy_with_logits(outputs.logits, targets)
    )


def test_pipelines(folder, encoder, tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    processor = image_processor(32)
    extract = pipeline("image-feature-extraction", model=str(folder), image_processor=processor)
    pooled = extract(picture, pool=True, return_tensors=True)
    wanted = encoder(**processor(picture, return_tensors="pt")).pooler_output
    torch.testing.assert_close(pooled, wanted)
    classifier = SynCLRForImageClassification.from_pretrained(
        folder, id2label={0: "owl", 1: "kite"}, label2id={"owl": 0, "kite": 1}
    )
    classifier.save_pretrained(tmp_path / "classifier")
    classify = pipeline("image-classification", model=str(tmp_path / "classifier"), image_processor=processor)
    answers = classify(picture)
    assert {answer["label"] for answer in answers} == {"owl", "kite"}
    assert sum(answer["score"] for answer in answers) == pytest.approx(1)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # peft 0.21 asks by the old name
def test_lora_trains_the_named_projections_and_merges(folder, tmp_path):
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(0)
    base = SynCLRForImageClassification.from_pretrained(folder, num_labels=3)
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"])
    adapted = get_peft_model(base, config)
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert len([name for name in trained if "lora_" in name]) == 3 * 2 * 2
    assert all("lora_" in name or "classifier" in name for name in trained)
    pixels = torch.randn(4, 3, 32, 32)
    optimizer = torch.optim.AdamW((p for p in adapted.parameters() if p.requires_grad), lr=0.05)
    for _ in range(3):
        adapted(pixel_values=pixels, labels=torch.arange(4) % 3).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.eval()
    wanted = adapted(pixel_values=pixels).logits
    adapted.save_pretrained(tmp_path / "adapter")
    fresh = SynCLRForImageClassification.from_pretrained(folder, num_labels=3)
    loaded = PeftModel.from_pretrained(fresh, tmp_path / "adapter").eval()
    torch.testing.assert_close(loaded(pixel_values=pixels).logits, wanted)
    merged = loaded.merge_and_unload()
    torch.testing.assert_close(merged(pixels).logits, wanted, atol=1e-5, rtol=1e-5)
    merged.save_pretrained(tmp_path / "merged")
    again = SynCLRForImageClassification.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(again(pixels).logits, wanted, atol=1e-5, rtol=1e-5)


def test_gradient_checkpointing_changes_no_gradient(encoder, pictures):
    gradients = []
    for checkpointed in (False, True):
        if checkpointed:
            # its name from transformers 5.2x on
            getattr(encoder, "activation_checkpointing_enable", encoder.gradient_checkpointing_enable)()
        encoder.train().zero_grad()
        encoder(pictures).pooler_output.square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in encoder.parameters() if parameter.grad is not None])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_compiles_without_graph_breaks(encoder, pictures):
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(pictures).last_hidden_state, encoder(pictures).last_hidden_state)
    masks = torch.zeros(2, 24, dtype=torch.bool)
    masks[:, ::2] = True
    with torch.no_grad():
        torch.testing.assert_close(
            compiled(pictures, bool_masked_pos=masks).pooler_output,
            encoder(pictures, bool_masked_pos=masks).pooler_output,
        )


def test_half_precision_keeps_the_features(encoder, pictures):
    full = encoder(pictures).pooler_output
    half = encoder.to(torch.bfloat16)(pictures.to(torch.bfloat16)).pooler_output
    assert half.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(full, half.float()).min() > 0.99


# torch's exporter warns about its own internals
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_onnx_export_takes_batches_of_any_size(encoder, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    batch = torch.export.Dim("batch")
    names = {"input_names": ["pixel_values"], "output_names": ["last_hidden_state", "pooler_output"]}
    example = (torch.randn(2, 3, 32, 32),)
    torch.onnx.export(
        encoder, example, tmp_path / "encoder.onnx", dynamo=True, dynamic_shapes=({0: batch},), verbose=False, **names
    )
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
    for count in (1, 5):
        pixels = torch.randn(count, 3, 32, 32)
        tokens, pooled = session.run(None, {"pixel_values": pixels.numpy()})
        wanted = encoder(pixels)
        torch.testing.assert_close(torch.from_numpy(tokens), wanted.last_hidden_state, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(torch.from_numpy(pooled), wanted.pooler_output, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:MatMul8bitLt:UserWarning")
def test_8_bit_weights_give_nearly_the_same_features(folder, encoder, pictures):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    small = SynCLRModel.from_pretrained(folder, quantization_config=BitsAndBytesConfig(load_in_8bit=True))
    assert isinstance(small.layers[0].attention.q_proj, bitsandbytes.nn.Linear8bitLt)
    with torch.no_grad():
        features, wanted = small(pictures).pooler_output, encoder(pictures).pooler_output
    assert torch.nn.functional.cosine_similarity(features.float(), wanted).min() > 0.99
    assert not torch.equal(features.float(), wanted)
