"""The rows of Tables 4 and 5: what each has, and steps that cost as much as the whole loss."""

import pytest

from synclr_hf.errors import UserInputError
from synclr_hf.training.ablation import FULL_ROW, ablation_rows, flops_per_crop, with_steps
from synclr_hf.training.stage import PretrainingConfig

SECTION = {
    "encoder": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8},
    "objectives": [
        {"name": "multi_positive", "head_hidden_size": 16, "head_output_size": 8, "temperature": 0.2},
        {"name": "ibot", "weight": 0.5, "num_prototypes": 16, "teacher_temperature_warmup_steps": 10},
    ],
    "views": {"global_crop_size": 32, "local_crop_size": 16, "num_local_crops": 2},
    "training_arguments": {"max_steps": 100, "warmup_steps": 10, "per_device_train_batch_size": 6, "use_cpu": True},
}


def config_of(**changes):
    return PretrainingConfig(output_dir="unused", images="unused", **{**SECTION, **changes})


@pytest.fixture(scope="module")
def rows():
    return {row.name: row.config for row in ablation_rows(config_of(), images_per_caption=4)}


def test_rows_of_the_tables(rows):
    parts = {
        name: (
            [(entry["name"], entry.get("teacher", True), entry.get("ids")) for entry in config.objectives],
            config.views_config().num_local_crops,
        )
        for name, config in rows.items()
    }
    contrast, alone = ("multi_positive", True, None), ("multi_positive", False, None)
    ibot = ("ibot", True, None)
    assert parts == {
        "multi-positive": ([alone], 0),
        "+EMA": ([contrast], 0),
        "+EMA +iBOT": ([contrast, ibot], 0),
        "+EMA +multi-crop": ([contrast], 2),
        "+EMA +iBOT +multi-crop": ([contrast, ibot], 2),
        "supervised": ([("cross_entropy", True, None)], 0),
        "SimCLR": ([("multi_positive", False, "images")], 0),
        "supervised contrast": ([("multi_positive", False, "classes")], 0),
    }
    assert SECTION["views"]["num_local_crops"] == 2 and "teacher" not in SECTION["objectives"][0], "left as it was"


def test_all_rows_see_as_many_global_crops_in_a_step(rows):
    for name, config in rows.items():
        views = config.views_config()
        pictures = (views.images_per_caption or 4) * views.num_global_crops
        assert config.trainer_arguments().per_device_train_batch_size * pictures == 24, name


def test_equal_compute_counts_every_pass(rows):
    cost = {name: flops_per_crop(config) for name, config in rows.items()}
    assert cost["multi-positive"] < cost["+EMA"] < cost["+EMA +iBOT"] < cost[FULL_ROW]
    assert cost["+EMA"] < cost["+EMA +multi-crop"] < cost[FULL_ROW]
    assert cost["SimCLR"] == cost["multi-positive"] == cost["supervised contrast"]
    # The pass over T tokens of width D: a block 2 T (12 D^2 + 2 T D), the patch layer 2 P D 3 p^2.
    tokens, width = 17, 32
    forward = 2 * (2 * tokens * (12 * width**2 + 2 * tokens * width)) + 2 * 16 * width * 3 * 64
    teacher = cost["+EMA"] - cost["multi-positive"]
    heads = 2 * (width * 16 + 16 * 16 + 16 * 8)  # the teacher's projector
    predictor = 3 * 2 * (8 * 16 + 16 * 8)  # forward, and backward to weights and to inputs
    assert teacher == pytest.approx(forward + heads + predictor, rel=0.01)


def test_steps_scale_with_their_warm_ups():
    changed = with_steps(config_of(), 2.5)
    assert changed.training_arguments["max_steps"] == 250 and changed.training_arguments["warmup_steps"] == 25
    assert changed.objectives[1]["teacher_temperature_warmup_steps"] == 25
    assert SECTION["training_arguments"]["max_steps"] == 100
    share = {**SECTION["training_arguments"], "warmup_steps": 0.1}
    without = [SECTION["objectives"][0], {"name": "ibot", "num_prototypes": 16}]
    changed = with_steps(config_of(training_arguments=share, objectives=without), 2.5)
    assert changed.training_arguments["warmup_steps"] == 0.1, "a share of the steps stays one"
    assert changed.objectives[1]["teacher_temperature_warmup_steps"] == 10_000, "the default of 4,000 as well"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": [{"name": "multi_positive"}]}, "starts from the whole loss"),
        ({"views": {**SECTION["views"], "num_local_crops": 0}}, "starts from the whole loss"),
        ({"training_arguments": {"num_train_epochs": 2, "use_cpu": True}}, "needs a number of steps"),
        (
            {"training_arguments": {"per_device_train_batch_size": 3, "max_steps": 1, "use_cpu": True}},
            "an even number",
        ),
    ],
)
def test_what_cannot_be_ablated_is_one_line(changes, message):
    with pytest.raises(UserInputError, match=message):
        ablation_rows(config_of(**changes), images_per_caption=3)


def test_without_named_objectives_it_is_the_papers_loss():
    config = config_of(objectives=None)
    assert [entry["name"] for entry in ablation_rows(config, 4)[4].config.objectives] == ["multi_positive", "ibot"]
