"""Mistakes of a user: one line that says what is allowed and what to type, no traceback."""

import pytest
import yaml
from commands import RECIPE


def refused(done):
    """Return the one line of a refused command."""
    assert done.returncode == 2, (done.returncode, done.stderr[-2000:])
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.startswith("synclr: error:")]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("captions.language_model=lama", ["unknown language model 'lama'", "toy", "type --language-model"]),
        ("images.image_generator=sd", ["unknown image generator 'sd'", "toy", "type --image-generator"]),
        ("captions.concepts=toyworlds", ["unknown concept bank 'toyworlds'", "did you mean 'toyworld'", "--concepts"]),
        ("images.images_per_caption=1", ["1", "positives", "2 or more", "--images-per-caption 4"]),
        ("captions.num_captions=-3", ["--num-captions -3", "whole number", "--num-captions 1000"]),
        ("captions.nmu=3", ["unknown entry of section 'captions' 'nmu'", "num_captions"]),
        ("captoins.num_captions=3", ["unknown entry of section 'recipe' 'captoins'", "did you mean 'captions'"]),
        ("pretraining.encoder.patch_size=7", ["size 32", "patch_size 7", "multiples of 7"]),
        ("pretraining.encoder.hidden_size=33", ["hidden_size 33", "num_attention_heads 2"]),
        ("pretraining.objectives=[{name: dino}]", ["unknown objective 'dino'", "multi_positive, ibot"]),
        (
            "pretraining.training_arguments.load_best_model_at_end=true",
            ["load_best_model_at_end", "type probe: {dataset"],
        ),
        ("pretraining.training_arguments.ema_decay=3", ["ema_decay 3", "0 to 1"]),
        ("pretraining.training_arguments.max_step=3", ["unknown entry", "'max_step'", "did you mean 'max_steps'"]),
        ("evaluation.datasets=[no/where/at/all]", ["no/where/at/all"]),
        ("pretraining.encoder.num_layers=9", ["'num_layers'", "section 'encoder'", "num_hidden_layers"]),
        ("pretraining.encoder.patch_size=0", ["patch_size: 0", "whole number"]),
        ("pretraining.objectives=[{name: ibot}, {name: ibot}]", ["'ibot', 'ibot'", "once"]),
        ("pretraining.training_arguments.max_steps=many", ["max_steps 'many'", "a whole number", "type max_steps: "]),
        ("pretraining.views.color_jitter=[0.4]", ["color_jitter [0.4]", "four numbers"]),
        ("evaluation.datasets=outputs/x", ["datasets 'outputs/x'", "a list"]),
        ("evaluation.held_out_images_per_caption=1", ["held_out_images_per_caption: 1"]),
        ("evaluation.held_out_captions=0", ["held_out_captions: 0", "whole number"]),
        ("captions.seed=3", ["section 'captions': seed is set by the run itself", "seed: at the top"]),
        ("images.captions=org/captions", ["section 'images': captions is set by the run itself", "synclr images"]),
        ("pretraining.images=org/images", ["section 'pretraining': images is set by the run", "synclr pretrain"]),
        ("publish.to=toy", ["--to 'toy' is no name for a repository", "org/name"]),
        ("publish.private=true", ["section 'publish'", "to"]),
        ("seed=-1", ["seed -1", "0 to 4294967295"]),
        ("output_dir=5", ["output_dir 5", "a text", "type output_dir: "]),
        ("seed=abc", ["seed 'abc'", "a whole number", "type seed: 0"]),
        ("captions=5", ["section 'recipe': captions 5", "entries of the form", "type captions: "]),
        (
            "pretraining.objectives=[multi_positive]",
            ["objectives ['multi_positive']", "a list", "type objectives: [{"],
        ),
        ("pretraining.objectives=[{weight: 1}]", ["objectives", "[None]", "`name`", "type objectives: [{name: "]),
        ("pretraining.objectives=[{name: 3}]", ["objectives", "[3]", "`name`", "type objectives: [{name: "]),
        ("pretraining.objectives=[]", ["objectives", "names []", "`name`", "type objectives: [{name: "]),
        ("pretraining.objectives=5", ["objectives 5", "a list", "type objectives: [{name: "]),
        ("pretraining.objectives={}", ["objectives {}", "a list", "type objectives: [{name: "]),
        ("pretraining.streaming=maybe", ["streaming 'maybe'", "true or false", "type streaming: false"]),
        ("pretraining.streaming=3", ["streaming 3", "true or false", "type streaming: false"]),
        ("pretraining.streaming='false'", ["streaming 'false'", "true or false", "type streaming: false"]),
        (
            "pretraining.training_arguments.learning_rate=true",
            ["learning_rate True", "a number", "type learning_rate"],
        ),
        ("pretraining.training_arguments.learning_rate=[1]", ["learning_rate [1]", "a number", "type learning_rate"]),
        ("pretraining.training_arguments.report_to=5", ["report_to 5", "a text or a list", "type report_to"]),
        ("pretraining.class_names=[]", ["class_names []", "different texts", "type class_names: [bird, cat]"]),
        ("pretraining.class_names=[a, a]", ["class_names ['a', 'a']", "different texts", "type class_names: ["]),
        ("pretraining.class_names=[a, '']", ["class_names ['a', '']", "different texts", "type class_names: ["]),
        ("pretraining.class_names=[a, 3]", ["class_names ['a', 3]", "each item a text", "type class_names: ["]),
        ("pretraining.initial_weights=5", ["initial_weights 5", "a text", "type initial_weights: FOLDER"]),
        ("pretraining.lora=3", ["lora 3", "entries of the form", "type lora: "]),
        ("pretraining.views=5", ["views 5", "entries of the form", "type views: "]),
        ("pretraining.encoder=5", ["encoder 5", "entries of the form", "type encoder: "]),
        ("pretraining.training_arguments=5", ["training_arguments 5", "entries of the form", "type training_arg"]),
        ("pretraining.student_drop_path_rate=x", ["student_drop_path_rate 'x'", "a number", "type student_drop_pa"]),
        ("pretraining.views.global_crop_scale=0.5", ["global_crop_scale 0.5", "a list", "scale: [0.32, 1.0]"]),
        ("pretraining.views.global_crop_scale=[0.5]", ["global_crop_scale [0.5]", "least", "scale: [0.32, 1.0]"]),
        ("pretraining.views.downsample_sizes=[a]", ["downsample_sizes ['a']", "a whole number", "sizes: [64, 128]"]),
        (
            "pretraining.training_arguments.gradient_accumulation_steps=0",
            ["gradient_accumulation_steps: 0", "1 or more", "type gradient_accumulation_steps: 1"],
        ),
        (
            "pretraining.training_arguments.per_device_train_batch_size=0",
            ["per_device_train_batch_size: 0", "1 or more", "type per_device_train_batch_size: 8"],
        ),
        ("nonsense", ["'nonsense' is no override", "captions.num_captions=200"]),
    ],
)
def test_a_bad_entry_is_refused_before_anything_is_made(synclr_here, tmp_path, override, parts):
    output = () if override.startswith("output_dir") else ("--output-dir", tmp_path / "run")
    line = refused(synclr_here("run", RECIPE, *output, override))
    for part in parts:
        assert part in line
    assert not (tmp_path / "run" / "images").exists()


@pytest.mark.parametrize("stage", ["captions", "images"])
def test_options_that_a_stage_does_not_have(synclr_here, tmp_path, stage):
    folders = ("--output-dir", tmp_path / "out", *(("--captions", "x") if stage == "images" else ()))
    assert "unknown option '--colour'" in refused(synclr_here(stage, *folders, "--colour", "10"))
    assert "unknown option 'stray'" in refused(synclr_here(stage, *folders, "stray"))
    assert not (tmp_path / "out").exists()


def test_concept_files_of_rubbish(synclr_here, tmp_path):
    (tmp_path / "empty.txt").write_text("\n# nothing\n")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 4)
    for name in ("empty.txt", "binary.txt", "missing.txt"):
        line = refused(synclr_here("captions", "--output-dir", tmp_path / "out", "--concepts", tmp_path / name))
        assert name in line
    assert not (tmp_path / "out").exists()


def test_a_concept_that_the_toy_world_cannot_draw(synclr_here, tmp_path):
    (tmp_path / "birds.txt").write_text("blue jay\nkingfisher\n")
    line = refused(synclr_here("captions", "--output-dir", tmp_path / "out", "--concepts", tmp_path / "birds.txt"))
    assert "blue jay" in line or "kingfisher" in line


def test_an_output_folder_of_another_configuration(synclr_here, minute_run):
    line = refused(synclr_here("run", RECIPE, "--output-dir", minute_run, "--seed", "4"))
    assert "another configuration" in line and "seed 3 there, 4 now" in line and "--output-dir" in line
    line = refused(
        synclr_here("run", RECIPE, "--output-dir", minute_run, "pretraining.training_arguments.learning_rate=0.5")
    )
    assert "another configuration" in line and "learning_rate" in line


def test_folders_that_cannot_be_written(synclr, tmp_path):
    (tmp_path / "file").write_text("x")
    line = refused(synclr("run", RECIPE, "--output-dir", tmp_path / "file"))
    assert "file" in line and "type" in line
    line = refused(synclr("run", RECIPE, "--output-dir", "/proc/nothing/here"))
    assert "/proc/nothing/here" in line


def test_recipes_that_are_none(synclr_here, tmp_path):
    assert "did you mean 'toyworld'" in refused(synclr_here("run", "toywrold"))
    (tmp_path / "broken.yaml").write_text("captions: [")
    assert "is not YAML" in refused(synclr_here("run", tmp_path / "broken.yaml"))
    assert "cannot be read" in refused(synclr_here("run", tmp_path / "missing.yaml"))
    (tmp_path / "list.yaml").write_text(yaml.safe_dump(["captions"]))
    assert "holds no sections" in refused(synclr_here("run", tmp_path / "list.yaml"))


def test_pretraining_without_images_or_too_few(synclr_here, tmp_path, minute_run):
    options = ("pretrain", "--config", RECIPE, "--output-dir", tmp_path / "out")
    line = refused(synclr_here(*options, "--images", tmp_path / "nothing"))
    assert "nothing" in line and "synclr images" in line
    line = refused(
        synclr_here(
            *options,
            "--images",
            minute_run / "images",
            "pretraining.training_arguments.per_device_train_batch_size=1000",
        )
    )
    assert "per_device_train_batch_size 1000" in line and "64 captions" in line
    assert not (tmp_path / "out").exists(), "the same command with a smaller batch must not meet an old configuration"


def test_help_of_every_command_and_unknown_ones(synclr):
    for arguments in (
        ["--help"],
        ["run", "--help"],
        ["captions", "--help"],
        ["images", "--help"],
        ["pretrain", "--help"],
    ):
        done = synclr(*arguments)
        assert done.returncode == 0 and "usage: synclr" in done.stdout
    assert "unknown command 'capitons'" in refused(synclr("capitons"))
