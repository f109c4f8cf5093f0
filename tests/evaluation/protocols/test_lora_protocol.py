import pytest
import torch
from tiny_evaluation import tiny_context, tiny_encoder, tiny_model
from torch import nn

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.finetuning import run
from synclr_hf.evaluation.finetuning.adapters import add_adapters, merge_adapters, projection_names
from synclr_hf.evaluation.finetuning.classifier import Classifier
from synclr_hf.evaluation.protocols.lora import Config, evaluate


def test_learns_with_few_parameters_and_frozen_weights(monkeypatch):
    seen = {}
    outcome_of = run._outcome

    def kept(context, predictions, trainer, config):
        seen["trunk"] = trainer.model.classifier.trunk
        return outcome_of(context, predictions, trainer, config)

    monkeypatch.setattr(run, "_outcome", kept)
    context = tiny_context()
    outcome = evaluate(context, Config(rank=4, epochs=10, batch_size=20, base_learning_rate=8e-2, warmup_epochs=1))
    assert outcome.metrics["accuracy"] > 0.8 and "accuracy_ema" not in outcome.metrics
    # 2 layers x 2 projections x rank 4 x (16 in + 16 out), and the head
    assert outcome.details["trained_parameters"] == 2 * 2 * 4 * (16 + 16) + 16 * 3 + 3
    assert outcome.details["trained_parameters"] < outcome.details["parameters"] / 15
    assert outcome.config["target_modules"] in (["q_proj", "v_proj"], ["query", "value"])  # by transformers' version
    before, after = context.encoder.model.state_dict(), seen["trunk"].state_dict()
    assert before.keys() == after.keys()  # the adapters are gone
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{name}.weight" for name in projection_names(context.encoder.model)}


def test_merged_weights_give_the_same_predictions():
    classifier = Classifier(tiny_encoder(), 3).eval()
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain = classifier(pixels)
    names = add_adapters(classifier.trunk, rank=4, alpha=8.0, dropout=0.1)
    assert torch.allclose(classifier.eval()(pixels), plain)  # the product starts at zero
    learning = {name for name, parameter in classifier.trunk.named_parameters() if parameter.requires_grad}
    assert len(names) == 4 and len(learning) == 8 and all("lora_" in name for name in learning)
    with torch.no_grad():
        classifier.head.weight.normal_(generator=torch.Generator().manual_seed(1))
        for name, parameter in classifier.trunk.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(2))
    adapted = classifier(pixels)
    merge_adapters(classifier.trunk)
    assert torch.allclose(classifier(pixels), adapted, atol=1e-5)
    assert not torch.allclose(adapted, plain, atol=1e-2)
    assert type(classifier.trunk) is type(tiny_model())


def test_projections_of_older_names_and_fused_ones():
    old = nn.ModuleDict({"query": nn.Linear(2, 2), "key": nn.Linear(2, 2), "value": nn.Linear(2, 2)})
    assert projection_names(nn.ModuleDict({"attention": old})) == ["attention.query", "attention.value"]
    fused = nn.ModuleDict({"attn": nn.ModuleDict({"qkv": nn.Linear(2, 6)})})
    with pytest.raises(UserInputError, match=r"keys and values are one layer there \(attn.qkv\); leave lora out"):
        projection_names(fused)
    with pytest.raises(UserInputError, match="it has no such layers"):
        projection_names(nn.ModuleDict({"fc": nn.Linear(2, 2)}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rank": 0}, "lora.rank=0 cannot be used; allowed: a whole number from 1; type lora.rank=16"),
        ({"alpha": -1.0}, "type lora.alpha=32"),
        ({"dropout": 1.0}, "type lora.dropout=0.1"),
        ({"batch_size": 0}, "lora.batch_size=0 cannot be used"),
    ],
)
def test_settings_that_mean_nothing(changes, told):
    with pytest.raises(UserInputError) as caught:
        evaluate(tiny_context(), Config(**changes))
    assert told in str(caught.value)
