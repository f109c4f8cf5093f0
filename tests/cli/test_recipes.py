"""The packaged recipes: what the paper says, and what they take from each other."""

import pytest
import yaml

from synclr_hf.cli.pretrain import pretraining_config
from synclr_hf.cli.recipe import load_recipe, packaged_recipes
from synclr_hf.errors import UserInputError

ON_A_CPU = "pretraining.training_arguments.use_cpu=true"


def stage_of(name):
    return pretraining_config(load_recipe(name, [ON_A_CPU]))


def test_these_come_with_the_package():
    wanted = (
        "ablation_toyworld ablation_vitb16 simclr single_gpu stablerep supcon synclr_vitb16 synclr_vitl14 toyworld"
    )
    assert packaged_recipes() == wanted.split()


@pytest.mark.parametrize("name", packaged_recipes())
def test_every_recipe_is_a_valid_configuration(name):
    config = stage_of(name)
    assert config.trainer_arguments().max_steps > 0
    assert config.model_config().objectives


@pytest.mark.parametrize(
    ("name", "encoder", "drop_path", "base_rate", "local_size", "parameters"),
    [
        ("synclr_vitb16", (768, 12, 12, 16), 0.1, 2e-3, 96, 85.8),
        ("synclr_vitl14", (1024, 24, 16, 14), 0.4, 1.5e-3, 98, 303.3),
    ],
)
def test_recipes_of_the_paper_say_what_table_12_says(name, encoder, drop_path, base_rate, local_size, parameters):
    import torch

    from synclr_hf.models import SynCLRModel

    config = stage_of(name)
    arguments, views, model = config.trainer_arguments(), config.views_config(), config.model_config()
    vit = model.encoder_config
    assert (vit.hidden_size, vit.num_hidden_layers, vit.num_attention_heads, vit.patch_size) == encoder
    assert model.student_drop_path_rate == drop_path
    assert (arguments.max_steps, arguments.warmup_steps, arguments.base_learning_rate) == (500_000, 80_000, base_rate)
    assert arguments.learning_rate is None, "it follows from the batch"
    assert (arguments.adam_beta1, arguments.adam_beta2) == (0.9, 0.999)
    assert (arguments.weight_decay, arguments.weight_decay_end) == (0.04, 0.2)
    assert (arguments.ema_decay, arguments.ema_decay_end) == (0.994, 1.0)
    assert arguments.lr_scheduler_type == "cosine" and arguments.bf16
    assert (views.global_crop_size, views.local_crop_size, views.num_local_crops) == (224, local_size, 4)
    assert (views.masked_image_fraction, views.masked_patch_fraction) == (0.5, 0.5)
    with torch.device("meta"):
        assert SynCLRModel(vit).num_parameters() / 1e6 == pytest.approx(parameters, abs=0.15)


def test_the_loss_of_the_paper_is_the_default_of_the_objectives():
    from synclr_hf.objectives import build_objective

    contrast, ibot = (build_objective(entry, 16) for entry in stage_of("synclr_vitb16").objectives)
    assert contrast.temperature == 0.08 and contrast.ids == "caption_ids" and contrast.predictor is not None
    assert ibot.head.weight_v.shape == (65536, 256) and ibot.student_temperature == 0.1
    assert [ibot.temperature_at(step) for step in (0, 2000, 4000, 9000)] == pytest.approx([0.04, 0.055, 0.07, 0.07])


@pytest.mark.parametrize(
    ("name", "requires", "global_crops"),
    [
        ("stablerep", {"global", "local"}, 1),
        ("simclr", {"global", "local"}, 2),
        ("supcon", {"global", "local", "classes"}, 1),
        ("ablation_vitb16", {"global", "local", "masked", "teacher"}, 1),
    ],
)
def test_relatives_are_settings(name, requires, global_crops):
    import torch

    from synclr_hf.training import SynCLRForPreTraining

    config = stage_of(name)
    with torch.device("meta"):
        model = SynCLRForPreTraining(config.model_config())
    assert model.requires == requires
    assert config.views_config().num_global_crops == global_crops
    assert (config.views_config().num_local_crops > 0) == ("masked" in requires)


def test_a_recipe_takes_what_it_does_not_say_from_the_one_it_extends(tmp_path):
    base = {
        "seed": 5,
        "captions": {"num_captions": 7, "top_p": 0.5},
        "pretraining": {"objectives": [{"name": "ibot"}]},
    }
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    changes = {"extends": "base.yaml", "captions": {"num_captions": 9}, "pretraining": {"objectives": []}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(changes))
    recipe = load_recipe(str(tmp_path / "mine.yaml"), ["captions.top_p=0.6"])
    assert recipe.seed == 5 and recipe.captions == {"num_captions": 9, "top_p": 0.6}
    assert recipe.pretraining == {"objectives": []}, "lists are taken whole"
    (tmp_path / "packaged.yaml").write_text("extends: toyworld\nseed: 9\n")
    assert load_recipe(str(tmp_path / "packaged.yaml")).captions["num_captions"] == 3000


def test_a_recipe_that_extends_itself_or_nothing_is_one_line(tmp_path):
    for name, base in (("a", "b.yaml"), ("b", "a.yaml"), ("c", "nothing.yaml"), ("d", "toywrold")):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {base}\n")
    for name, message in (
        ("a", "extends itself"),
        ("c", "c.yaml' extends '.*nothing.yaml': recipe .*nothing.yaml' cannot be read"),
        ("d", "did you mean 'toyworld'"),
    ):
        with pytest.raises(UserInputError, match=message):
            load_recipe(str(tmp_path / f"{name}.yaml"))


def test_an_empty_section_says_nothing(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: toyworld\ncaptions:\npretraining:\n  views:\n")
    recipe, base = load_recipe(str(tmp_path / "mine.yaml")), load_recipe("toyworld")
    assert recipe.captions == base.captions and recipe.pretraining == base.pretraining
    (tmp_path / "alone.yaml").write_text("captions:\npretraining:\n  views:\n")
    recipe = load_recipe(str(tmp_path / "alone.yaml"), ["pretraining.encoder=", ON_A_CPU])
    assert recipe.captions == {} and pretraining_config(recipe).views == pretraining_config(recipe).encoder == {}


def test_a_cycle_is_found_in_any_spelling(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yaml").write_text("extends: ./sub/../a.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: sub/c.yaml\n")
    (tmp_path / "sub" / "c.yaml").write_text("extends: ../b.yaml\n")
    for name in ("a.yaml", "b.yaml"):
        with pytest.raises(UserInputError, match="extends itself.*leave one out"):
            load_recipe(str(tmp_path / name))


def test_a_path_is_looked_for_beside_the_recipe_and_a_name_in_the_package(tmp_path, monkeypatch):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "base").write_text("seed: 5\n")
    (tmp_path / "toyworld").write_text("seed: 6\n")
    for name, base, seed in (("a", "parts/base", 5), ("b", "./toyworld", 6), ("c", "toyworld", 0)):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {base}\n")
        for place in (tmp_path, tmp_path / "parts"):
            monkeypatch.chdir(place)
            assert load_recipe(str(tmp_path / f"{name}.yaml")).seed == seed
    (tmp_path / "d.yaml").write_text("extends: [toyworld]\n")
    with pytest.raises(UserInputError, match=r"extends \['toyworld'\]; allowed: .* type extends: "):
        load_recipe(str(tmp_path / "d.yaml"))


def test_classes_are_kept_only_where_an_objective_needs_them():
    names = "pretraining.class_names=[bird, cat]"
    assert pretraining_config(load_recipe("supcon", [ON_A_CPU, names])).class_names == ["bird", "cat"]
    assert pretraining_config(load_recipe("toyworld", [ON_A_CPU, names])).class_names is None
