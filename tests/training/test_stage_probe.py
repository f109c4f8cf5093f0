"""The entry `probe` of a pre-training, from a data set of its own or from the pictures that a run held out."""

import json

import pytest
from tiny_pretraining import ENCODER, OBJECTIVES

from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.labelled.data import labelled_splits
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.stage import write_images
from synclr_hf.report.curves import curves
from synclr_hf.training import SynCLRForPreTraining
from synclr_hf.training.stage import HISTORY_FILE, PretrainingConfig, pretrain


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    toy = {"concepts": "toyworld", "language_model": "toy", "num_captions": 80, "rows_per_shard": 80}
    write_captions(CaptionsConfig(output_dir=str(folder / "captions"), **toy))
    drawn = {"image_generator": "toy", "images_per_caption": 2, "size": 32, "rows_per_shard": 80}
    write_images(ImagesConfig(captions=str(folder / "captions"), output_dir=str(folder / "images"), **drawn))
    return str(folder / "images")


def config_of(images, folder, **changes):
    training = {"max_steps": 4, "per_device_train_batch_size": 4, "save_steps": 2, "logging_steps": 1}
    training |= {"use_cpu": True, "disable_tqdm": True, **changes.pop("training", {})}
    return PretrainingConfig(
        output_dir=str(folder),
        images=images,
        encoder={name: value for name, value in ENCODER.items() if name != "image_size"},
        objectives=OBJECTIVES,
        views={"global_crop_size": 32, "local_crop_size": 16, "num_local_crops": 1},
        training_arguments=training,
        **changes,
    )


def told(folder):
    return [entry for entry in json.loads((folder / HISTORY_FILE).read_text()) if "eval_knn_top1" in entry]


def test_a_data_set_of_its_own_is_probed_whenever_a_checkpoint_is_saved(images, tmp_path):
    folder = pretrain(config_of(images, tmp_path, probe={"dataset": images, "train_pictures": 40}))
    assert [entry["step"] for entry in told(folder)] == [2, 4]
    drawn = {curve.key: curve.title for curve in curves(json.loads((folder / HISTORY_FILE).read_text()))}
    assert drawn["eval_knn_top1"] == "Live kNN probe, teacher" and drawn["rankme"].startswith("RankMe")


def test_pictures_of_the_run_are_taken_where_none_are_named(images, tmp_path):
    (side, _) = labelled_splits(images, seed=0)
    settings = {"training": {"eval_steps": 1, "save_steps": 4, "load_best_model_at_end": True}}
    folder = pretrain(config_of(images, tmp_path, probe={}, **settings), probe_pictures=side)
    assert [entry["step"] for entry in told(folder)] == [1, 2, 3, 4]
    with pytest.raises(UserInputError, match="probe names no data set.*type pretraining.probe.dataset="):
        pretrain(config_of(images, tmp_path / "other", probe={}))


def test_killed_after_the_last_checkpoint_the_best_one_is_saved(images, tmp_path, monkeypatch):
    accuracies = iter([0.9, 0.1])
    monkeypatch.setattr(
        "synclr_hf.training.trainer.knn_top1", lambda *_: {"knn_top1": next(accuracies), "knn_top1_student": 0.0}
    )
    config = config_of(
        images, tmp_path, probe={"dataset": images}, training={"load_best_model_at_end": True, "save_total_limit": 2}
    )
    pretrain(config)
    first = (tmp_path / "model.safetensors").read_bytes()
    assert first == (tmp_path / "checkpoint-2" / "model.safetensors").read_bytes()
    for file in ("model.safetensors", HISTORY_FILE):
        (tmp_path / file).unlink()
    pretrain(config)
    assert (tmp_path / "model.safetensors").read_bytes() == first
    assert SynCLRForPreTraining.from_pretrained(tmp_path).requires


def test_without_the_entry_nothing_is_probed(images, tmp_path):
    assert told(pretrain(config_of(images, tmp_path))) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"eval_strategy": "steps"}}, "eval_strategy steps needs labelled pictures.*type probe:"),
        ({"probe": {"pictures": 3}}, "unknown entry of section 'probe' 'pictures'"),
        (
            {"probe": {"dataset": 3}},
            "section 'probe': dataset 3 cannot be used; allowed: a text; type dataset: org/name",
        ),
        ({"probe": 7}, "probe 7 cannot be used; allowed: entries"),
        ({"training": {"per_device_train_batch_size": 1}}, "one caption an optimizer step"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_made(images, tmp_path, changes, message):
    with pytest.raises(UserInputError, match=message):
        config_of(images, tmp_path, **changes)
