"""`synclr continue` as a user types it."""

import json
import shutil

import pytest
import yaml
from commands import RECIPE
from safetensors import safe_open
from test_bad_input import refused

SHORT = ("pretraining.training_arguments.max_steps=2", "pretraining.training_arguments.use_cpu=true")


@pytest.fixture
def continue_here(synclr_here, minute_run, tmp_path):
    """Continue the small run in this process with `--output-dir` tmp_path / "out"."""

    def run(*arguments, source=None):
        options = (
            "--from",
            source or minute_run,
            "--dataset",
            minute_run / "images",
            "--output-dir",
            tmp_path / "out",
        )
        return synclr_here("continue", *options, *arguments, *SHORT)

    return run


def configuration(folder):
    return json.loads((folder / "run.json").read_text())["configuration"]


def test_a_run_is_continued_with_its_own_views(continue_here, minute_run, tmp_path):
    done = continue_here("--seed", "5")
    assert done.returncode == 0, done.stderr[-2000:]
    told, last = done.stdout.splitlines()[-2:]
    assert told == f"continuing {minute_run}: learning rate 0.0001, EMA decay from 0.994, crops of 32 and 16 px"
    assert last == f"pretraining: {tmp_path}/out"
    settings = configuration(tmp_path / "out")
    assert settings["seed"] == 5 and settings["views"] == configuration(minute_run / "pretraining")["views"]
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert history[-1]["step"] == 2 and settings["training_arguments"]["per_device_train_batch_size"] == 8
    keys = []
    for folder in (tmp_path / "out", minute_run / "pretraining"):
        with safe_open(folder / "model.safetensors", framework="pt") as stored:
            keys.append(set(stored.keys()))
    assert keys[0] == keys[1]


def test_a_recipe_changes_the_settings_but_warms_no_temperature_up(continue_here, tmp_path):
    recipe = yaml.safe_load(RECIPE.read_text())
    recipe["pretraining"]["objectives"][1]["teacher_temperature_warmup_steps"] = 20
    recipe["pretraining"]["objectives"][0]["temperature"] = 0.3
    recipe["pretraining"]["views"]["num_local_crops"] = 1
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = continue_here("--config", tmp_path / "recipe.yaml", "pretraining.training_arguments.logging_steps=1")
    assert done.returncode == 0, done.stderr[-2000:]
    settings = configuration(tmp_path / "out")
    assert settings["objectives"][0]["temperature"] == 0.3 and settings["views"]["num_local_crops"] == 1
    assert settings["objectives"][1]["teacher_temperature_warmup_steps"] == 0 and settings["seed"] == 3
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert history[0]["teacher_temperature"] == pytest.approx(0.07)


def test_with_adapters(continue_here, tmp_path):
    done = continue_here("--lora-rank", "2")
    assert done.returncode == 0, done.stderr[-2000:]
    assert configuration(tmp_path / "out")["lora"] == {"rank": 2}
    assert json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())["r"] == 2


def test_mistakes_are_one_line(continue_here, minute_run, tmp_path):
    line = refused(continue_here(source=tmp_path / "nothing"))
    assert "nothing" in line and "synclr pretrain" in line
    line = refused(continue_here(source=minute_run / "encoder"))
    assert "holds an encoder only; heads and teacher are needed: look for pretraining/" in line
    line = refused(continue_here("pretraining.encoder.hidden_size=64", "pretraining.views.local_crop_size=8"))
    assert "encoder.hidden_size 32 there, 64 here" in line
    line = refused(continue_here("pretraining.views.local_crop_size=20"))
    assert "local_crop_size 20 is not divisible by patch_size 8" in line
    line = refused(continue_here("--lora-rank", "0"))
    assert "rank: 0" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        ("objectives=[multi_positive]", ["objectives ['multi_positive']", "a list", "type objectives: [{name: "]),
        ("objectives=[{weight: 1}]", ["objectives", "[None]", "`name`", "type objectives: [{name: "]),
        ("objectives=5", ["objectives 5", "a list", "type objectives: [{name: "]),
        ("objectives={}", ["objectives {}", "a list", "type objectives: [{name: "]),
        ("lora.target=5", ["target 5", "a text or a list", "type target: "]),
        ("lora.target=[]", ["target []", "one or more of q_proj", "type target: [q_proj, v_proj]"]),
        ("training_arguments=5", ["training_arguments 5", "entries of the form", "type training_arguments: "]),
        ("views=5", ["views 5", "entries of the form", "type views: "]),
    ],
)
def test_entries_of_a_wrong_type_are_one_line(synclr_here, minute_run, tmp_path, entry, parts):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"pretraining": dict([_nested(entry)])}))
    options = ("--from", minute_run, "--dataset", minute_run / "images", "--output-dir", tmp_path / "out")
    for typed in ([f"pretraining.{entry}"], ["--config", tmp_path / "recipe.yaml"]):
        line = refused(synclr_here("continue", *options, *typed))
        for part in parts:
            assert part in line
    assert not (tmp_path / "out").exists()


def _nested(entry):
    """Return name and value of an entry as they stand in a recipe."""
    path, _, value = entry.partition("=")
    name, _, inner = path.partition(".")
    value = yaml.safe_load(value)
    return name, {inner: value} if inner else value


def test_a_rank_does_not_hide_adapters_of_a_wrong_type(continue_here, tmp_path):
    for value in ("3", "[]", "''"):
        line = refused(continue_here("--lora-rank", "2", f"pretraining.lora={value}"))
        assert "section 'pretraining': lora " in line and "entries of the form" in line and "type lora: " in line
    assert not (tmp_path / "out").exists()


def test_a_dataset_without_the_columns(synclr_here, minute_run, tmp_path):
    options = ("--from", minute_run, "--dataset", minute_run / "captions", "--output-dir", tmp_path / "out")
    assert "holds captions, not images" in refused(synclr_here("continue", *options))
    shutil.copytree(minute_run / "captions" / "data", tmp_path / "bare" / "data")
    options = ("--from", minute_run, "--dataset", tmp_path / "bare", "--output-dir", tmp_path / "out")
    line = refused(synclr_here("continue", *options))
    assert "has no column images" in line and "it has caption_id" in line


def test_help_tells_the_defaults(synclr_here):
    done = synclr_here("continue", "--help")
    assert done.returncode == 0 and "usage: synclr continue" in done.stdout and "a tenth" in done.stdout
