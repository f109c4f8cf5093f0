"""`synclr continue` from a repository that `synclr publish` made, over HTTP and in fresh processes."""

import json
import re

from small_run import synclr

TO = "ada/synclr-toy"


def test_a_published_model_is_continued_by_others(hub, run_folder, tmp_path):
    done = synclr("publish", run_folder, "--to", TO, "--parts", "encoder", env=hub.environment(), cwd=hub.folder)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(hub.files(TO)["pretraining/run.json"])["configuration"]
    assert told["views"]["global_crop_size"] == 32 and set(told) == {"views", "training_arguments"}
    short = ("pretraining.training_arguments.max_steps=2", "pretraining.training_arguments.use_cpu=true")
    folders = ("--dataset", run_folder / "images", "--output-dir", tmp_path / "out")
    done = synclr("continue", "--from", TO, *folders, *short, env=hub.environment(), cwd=hub.folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"continuing {TO}: learning rate 0.0001" in done.stdout and "crops of 32 and 16 px" in done.stdout
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["initial_weights"] == TO
    local = synclr("continue", "--from", run_folder, *folders, *short, env=hub.environment(), cwd=hub.folder)
    assert local.returncode == 0, local.stderr[-3000:]  # the same weights and settings: that run is finished
    assert (tmp_path / "out" / "history.json").is_file()
    read = {re.sub(r"^.*/resolve/[^/]+/", "", request.path) for request in hub.calls("(GET|HEAD)", "/resolve/")}
    assert "model.safetensors" not in read, "the encoder at the root is not needed"


def test_repositories_with_nothing_to_continue(hub, tmp_path):
    hub.add("ada/encoder", {"config.json": b'{"model_type": "synclr"}', "model.safetensors": b"x"})
    for name, words in {
        "ada/encoder": "holds an encoder only; heads and teacher are needed: look for pretraining/",
        "ada/nothing": "cannot be loaded from the Hub (RepositoryNotFoundError",
    }.items():
        options = ("--from", name, "--dataset", "none", "--output-dir", tmp_path / "out")
        done = synclr("continue", *options, env=hub.environment(), cwd=hub.folder)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
