"""Results of protocols as files: nothing is asked twice or written over, one failure does not stop the rest."""

import json
from dataclasses import replace

import pytest
import torch
from tiny_evaluation import coloured, masked, tiny_encoder

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.context import EvaluationData
from synclr_hf.evaluation.protocols import PROTOCOLS, linear_probe, protocol
from synclr_hf.evaluation.protocols.knn import Config
from synclr_hf.evaluation.results import find_results, read_result
from synclr_hf.evaluation.stage import EvaluationPlan, Job, run_evaluations


def load_data(name):
    if name == "absent":
        raise UserInputError("no data set at 'absent'")
    if name == "masks":
        return EvaluationData(name, masked(4, 0), masked(2, 1), metric="mean_iou")
    return EvaluationData(name, coloured(60, 0), coloured(30, 1), is_toy=True)


@pytest.fixture(scope="module")
def encoders():
    return {"org/tiny": replace(tiny_encoder(), name="org/tiny"), "pixels": tiny_encoder(model=None)}


@pytest.fixture
def plan(encoders, tmp_path):
    jobs = [Job("coloured", ("knn",))]
    return EvaluationPlan(["org/tiny", "pixels"], jobs, tmp_path, encoders.__getitem__, load_data, seed=3)


def test_one_file_a_question_with_all_that_decides_the_answer(plan, tmp_path):
    answers = list(run_evaluations(plan))
    files = [tmp_path / "org--tiny" / "coloured" / "knn.json", tmp_path / "pixels" / "coloured" / "knn.json"]
    assert [answer.file for answer in answers] == files and not any(answer.failure for answer in answers)
    pixels = json.loads(files[1].read_text())
    assert pixels["metrics"]["accuracy"] == 1.0 == pixels["metrics"][pixels["primary"]]
    assert pixels["dataset"]["num_pictures"] == {"train": 60, "test": 30} and pixels["dataset"]["is_toy"]
    assert (pixels["seed"], pixels["config"]["temperature"], pixels["model"]["architecture"]) == (3, 0.07, None)
    tiny = read_result(files[0])
    low, high = tiny.intervals["accuracy"]
    assert 0 <= low <= tiny.value <= high <= 1
    assert tiny.model["settings"]["pooling"] == "cls" and tiny.model["num_parameters"] > 0
    assert [result.model["name"] for result in find_results([tmp_path])] == ["org/tiny", "pixels"]


def test_the_same_question_is_read_and_another_one_is_refused(plan, tmp_path):
    first = {answer.file: answer.result for answer in run_evaluations(plan)}
    marks = {file: file.stat().st_mtime_ns for file in first}
    assert {answer.file: answer.result for answer in run_evaluations(plan)} == first
    assert {file: file.stat().st_mtime_ns for file in first} == marks
    other = replace(plan, settings={"knn": Config(temperature=0.5)})
    told = "another question (temperature 0.07, now 0.5); type another --output"
    assert all(told in answer.failure for answer in run_evaluations(other))
    assert "(seed 3, now 4)" in next(run_evaluations(replace(plan, seed=4))).failure
    replaced = next(run_evaluations(replace(other, replace=True)))
    assert replaced.result.config["temperature"] == 0.5 and read_result(replaced.file) == replaced.result


def test_what_fails_does_not_stop_the_rest(plan):
    jobs = [Job("absent", ("knn",)), Job("masks", ("knn",)), Job("coloured", ("finetune", "segment_knn", "knn"))]
    answers = list(run_evaluations(replace(plan, models=["pixels"], jobs=jobs)))
    assert [answer.failure for answer in answers] == [
        "no data set at 'absent'",
        "protocol 'knn' needs a class a picture, which 'masks' does not have",
        "protocol 'finetune' needs a model; 'pixels' is none",
        "protocol 'segment_knn' needs a class a pixel, which 'coloured' does not have",
        "",
    ]
    assert answers[-1].result.value == 1.0


def test_one_of_several_models_that_cannot_be_loaded_does_not_stop_the_rest(plan, encoders):
    def load_encoder(name):
        if name == "absent":
            raise UserInputError("no model at 'absent'")
        return encoders["pixels"]

    with_absent = replace(plan, models=["absent", "pixels"], load_encoder=load_encoder)
    assert [answer.failure for answer in run_evaluations(with_absent)] == ["no model at 'absent'", ""]
    with pytest.raises(UserInputError, match="no model at 'absent'"):
        list(run_evaluations(replace(with_absent, models=["absent"])))


def test_no_protocol_at_all_is_refused():
    from synclr_hf.cli.evaluate import main

    with pytest.raises(UserInputError, match="--protocols ',' names none; type --protocols knn,linear"):
        main(["--model", "pixels", "--dataset", "any", "--protocols", ","])


def test_long_names_of_folders_are_no_trouble(plan, encoders, tmp_path):
    output = tmp_path / ("o" * 120)
    model, data = "m" * 120, "d" * 120
    jobs = [Job(data, ("linear",))]
    settings = {"linear": linear_probe.Config(base_learning_rates=(0.1,), epochs=6, augmented=True)}
    long = replace(plan, models=[model], jobs=jobs, output_dir=output, settings=settings)
    (answer,) = run_evaluations(replace(long, load_encoder=lambda name: replace(encoders["pixels"], name=name)))
    assert not answer.failure and answer.result.value == 1.0
    assert not (output / "work").exists()


def test_a_device_without_memory_is_one_failure_among_others(plan, encoders, monkeypatch):
    def full(**inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    encoder = encoders["org/tiny"]
    monkeypatch.setattr(encoder.model, "forward", full)
    first, second = run_evaluations(plan)
    assert first.failure.startswith("the memory of cpu is not enough; type a smaller --batch-size than 64")
    assert second.result.value == 1.0


def test_names_that_share_a_folder_and_unknown_protocols_are_refused(plan):
    with pytest.raises(
        UserInputError, match="--model org/tiny and --model org--tiny would both be written to org--tiny"
    ):
        replace(plan, models=["org/tiny", "org--tiny"])
    with pytest.raises(UserInputError, match=r"unknown protocol 'knm' \(did you mean 'knn'\?\)"):
        replace(plan, jobs=[Job("coloured", ("knm",))])


def test_damaged_and_foreign_files_are_told(plan, tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserInputError, match="no evaluation in"):
        find_results([tmp_path])
    with pytest.raises(UserInputError, match="is no evaluation of this version"):
        find_results([tmp_path / "other.json"])
    with pytest.raises(UserInputError, match="No such file"):
        find_results([tmp_path / "absent.json"])
    file = next(run_evaluations(plan)).file
    file.write_text(file.read_text()[:-30])
    with pytest.raises(UserInputError, match="not JSON"):
        find_results([tmp_path])


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_there_and_its_settings_are_documented(name):
    from synclr_hf.cli.evaluate import explained

    entry = protocol(name)
    config = entry.config_class()()
    told = explained(name)
    for setting in vars(config):
        assert f"  {name}.{setting}=" in told, setting
