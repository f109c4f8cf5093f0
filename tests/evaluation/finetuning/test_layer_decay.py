import pytest
from tiny_evaluation import tiny_model
from torch import nn

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.finetuning.layer_decay import layer_numbers, parameter_groups
from synclr_hf.models import SynCLRConfig, SynCLRModel

FAMILIES = {
    "synclr": {
        "embeddings.cls_token": 0,
        "embeddings.projection.weight": 0,
        "layers.0.norm1.weight": 1,
        "layers.1.mlp.fc1.weight": 2,
        "norm.weight": 3,
    },
    "dinov3": {
        "embeddings.register_tokens": 0,
        "embeddings.patch_embeddings.weight": 0,
        "model.layer.0.attention.q_proj.weight": 1,
        "model.layer.1.layer_scale1.lambda1": 2,
        "norm.weight": 3,
    },
    "clip": {
        "embeddings.class_embedding": 0,
        "pre_layrnorm.weight": 0,
        "encoder.layers.0.layer_norm1.weight": 1,
        "encoder.layers.1.mlp.fc1.weight": 2,
        "post_layernorm.weight": 3,
    },
    "siglip": {
        "embeddings.position_embedding.weight": 0,
        "encoder.layers.0.self_attn.k_proj.weight": 1,
        "encoder.layers.1.self_attn.k_proj.weight": 2,
        "head.layernorm.weight": 3,
        "head.attention.in_proj_weight": 3,
    },
    "timm": {
        "timm_model.patch_embed.proj.weight": 0,
        "timm_model.pos_embed": 0,
        "timm_model.reg_token": 0,
        "timm_model.blocks.0.attn.qkv.weight": 1,
        "timm_model.blocks.1.attn.qkv.weight": 2,
        "timm_model.norm.weight": 3,
    },
    "vit of transformers 4": {
        "embeddings.position_embeddings": 0,
        "encoder.layer.0.attention.attention.query.weight": 1,
        "encoder.layer.1.output.dense.bias": 2,
        "layernorm.bias": 3,
        "pooler.dense.weight": 3,
    },
}


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_by_name(family):
    assert layer_numbers(FAMILIES[family]) == FAMILIES[family]


@pytest.mark.parametrize(
    "model",
    [
        tiny_model(),
        SynCLRModel(
            SynCLRConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, patch_size=8, image_size=32)
        ),
    ],
    ids=["dinov2", "synclr"],
)
def test_groups_follow_the_rule_of_the_reference(model):
    """0.65 ** (layers + 1 - number), no decay of vectors, tokens and positions; every parameter once."""
    head = nn.Linear(16, 3)
    groups = parameter_groups(model, head, learning_rate=1.0, layer_decay=0.65, weight_decay=0.05)
    found = {id(parameter): group for group in groups for parameter in group["params"]}
    assert len(found) == sum(len(group["params"]) for group in groups) == len(list(model.parameters())) + 2
    numbers = layer_numbers(name for name, _ in model.named_parameters())
    for name, parameter in model.named_parameters():
        group = found[id(parameter)]
        assert group["lr"] == pytest.approx(0.65 ** (3 - numbers[name])), name
        decays = parameter.ndim > 1 and not name.endswith(("token", "position_embeddings"))
        assert group["weight_decay"] == (0.05 if decays else 0), name
    assert {numbers[name] for name in numbers} == {0, 1, 2, 3}
    assert found[id(head.weight)]["lr"] == 1 and found[id(head.weight)]["weight_decay"] == 0.05
    assert found[id(head.bias)]["weight_decay"] == 0


def test_frozen_parameters_are_left_out():
    model = tiny_model().requires_grad_(False)
    groups = parameter_groups(model, nn.Linear(16, 3), learning_rate=1.0, layer_decay=1, weight_decay=0.0)
    assert sum(len(group["params"]) for group in groups) == 2


def test_an_encoder_without_one_row_of_blocks_is_refused():
    stages = nn.ModuleDict({"stages": nn.ModuleList()})
    stages["stages"].append(nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2)])}))
    stages["stages"].append(nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2)])}))
    for model, told in ((stages, r"several rows of them \(stages.0.layers"), (nn.Linear(2, 2), "no numbered blocks")):
        arguments = {"learning_rate": 1.0, "weight_decay": 0.0}
        with pytest.raises(UserInputError, match=f"finetune.layer_decay needs .*{told}.*finetune.layer_decay=1"):
            parameter_groups(model, nn.Linear(2, 2), layer_decay=0.65, **arguments)
        assert parameter_groups(model, nn.Linear(2, 2), layer_decay=1, **arguments)
