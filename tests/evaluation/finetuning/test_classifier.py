import copy

import pytest
import torch
from tiny_evaluation import tiny_encoder, tiny_model
from transformers import CLIPVisionConfig, CLIPVisionModel, ViTConfig, ViTModel

from synclr_hf.evaluation.encoding.encoders import picture_tokens
from synclr_hf.evaluation.finetuning.classifier import AveragedClassifier, Classifier, classification_loss
from synclr_hf.models import SynCLRConfig, SynCLRModel

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}


def pixels(count=2, size=32):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "make",
    [
        tiny_model,
        lambda: SynCLRModel(SynCLRConfig(**SIZES)),
        lambda: ViTModel(ViTConfig(**SIZES, intermediate_size=16)),
        lambda: CLIPVisionModel(CLIPVisionConfig(**SIZES, intermediate_size=16)),
    ],
    ids=["dinov2", "synclr", "vit", "clip"],
)
def test_feature_is_that_of_the_frozen_encoder_and_has_gradients(make):
    model = make().eval()
    classifier = Classifier(tiny_encoder(model=model), 5).eval()
    feature = classifier.feature(pixels())
    assert torch.allclose(feature.detach(), picture_tokens(model, pixels()), atol=1e-6)
    assert classifier(pixels()).shape == (2, 5)
    feature.sum().backward()
    assert any(parameter.grad is not None for parameter in classifier.trunk.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_poolings_and_other_sizes():
    model = tiny_model()
    with torch.no_grad():
        tokens = model(pixels(size=48)).last_hidden_state
    mean = tokens[:, 1:].mean(dim=1)
    expected = {"cls": tokens[:, 0], "mean_patch": mean, "cls_mean_patch": torch.cat([tokens[:, 0], mean], dim=1)}
    for pooling, feature in expected.items():
        classifier = Classifier(tiny_encoder(model=model, pooling=pooling), 5).eval()
        assert torch.allclose(classifier.feature(pixels(size=48)), feature, atol=1e-6), pooling
        assert classifier.head.in_features == feature.shape[1]


def test_the_copy_is_float32_and_starts_with_a_small_head():
    model = tiny_model().bfloat16()
    classifier = Classifier(tiny_encoder(model=model), 5)
    assert {parameter.dtype for parameter in classifier.parameters()} == {torch.float32}
    assert next(model.parameters()).dtype == torch.bfloat16
    assert 0 < classifier.head.weight.abs().max() < 1e-4 and not classifier.head.bias.any()


def test_stochastic_depth_grows_linearly_where_the_architecture_knows_it():
    for model, attribute in (
        (tiny_model(num_hidden_layers=3), "drop_prob"),
        (SynCLRModel(SynCLRConfig(**SIZES)), "rate"),
    ):
        classifier = Classifier(tiny_encoder(model=model), 5, drop_path_rate=0.1)
        paths = [module for name, module in classifier.trunk.named_modules() if name.endswith("drop_path")]
        assert [getattr(path, attribute) for path in paths] == pytest.approx([0, 0.05, 0.1])
        assert classifier.drop_path_rate == 0.1
        same = classifier.eval().feature(pixels())
        assert torch.allclose(same, picture_tokens(model.eval(), pixels()), atol=1e-6)
    vit = ViTModel(ViTConfig(**SIZES, intermediate_size=16))
    assert Classifier(tiny_encoder(model=vit), 5, drop_path_rate=0.1).drop_path_rate == 0


def test_average_is_the_plain_formula():
    model = AveragedClassifier(Classifier(tiny_encoder(), 3), 0.9)
    expected = copy.deepcopy(model.classifier.state_dict())
    for _ in range(3):
        with torch.no_grad():
            for parameter in model.classifier.parameters():
                parameter.add_(torch.ones_like(parameter))
        for name, value in model.classifier.state_dict().items():
            expected[name] = 0.9 * expected[name] + 0.1 * value
        model.update_average()
    for name, value in model.average.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-5), name
    model.train()
    assert model.classifier.training and not model.average.training
    assert not any(parameter.requires_grad for parameter in model.average.parameters())
    assert AveragedClassifier(Classifier(tiny_encoder(), 3), 0.0).average is None


def test_losses_by_hand():
    logits = torch.tensor([[2.0, 0.0]])
    log = torch.log_softmax(logits, dim=1)[0]
    loss = classification_loss(logits, torch.tensor([[0.7, 0.3]]), multi_label=False)
    assert loss.item() == pytest.approx(-(0.7 * log[0] + 0.3 * log[1]).item())
    loss = classification_loss(logits, torch.tensor([[1.0, 1.0]]), multi_label=True)
    assert loss.item() == pytest.approx(-torch.sigmoid(logits).log().mean().item())
    unknown = classification_loss(logits, torch.tensor([[1.0, torch.nan]]), multi_label=True)
    assert unknown.item() == pytest.approx(-torch.sigmoid(logits[0, 0]).log().item())
    assert classification_loss(logits, torch.full((1, 2), torch.nan), multi_label=True).item() == 0
