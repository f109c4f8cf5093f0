"""The whole street, run as a user runs it, and everything that it leaves behind."""

import hashlib
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from commands import RECIPE, command
from datasets import load_dataset

import synclr_hf  # noqa: F401  (registers the encoder)


def checksums(folder, pattern):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob(pattern))
    }


def numbers(folder):
    evaluation = json.loads((folder / "report.json").read_text())["evaluation"]
    return {metric: evaluation[metric] for metric in ("knn_top1", "linear_top1")}


def test_report_json_has_what_it_promises(minute_run):
    report = json.loads((minute_run / "report.json").read_text())
    for metric in ("knn_top1", "linear_top1"):
        values = report["evaluation"][metric]
        assert {"trained", "student", "untrained", "pixels"} == set(values)
        assert all(0 <= value <= 1 for value in values.values())
    assert set(report["seconds"]) == {"captions", "images", "held-out pictures", "pretraining", "evaluation"}
    assert all(seconds > 0 for seconds in report["seconds"].values())
    assert 0.1 < report["peak_memory_gib"] < 4
    assert report["seed"] == 3 and report["config"]["captions"]["num_captions"] == 64
    assert report["machine"]["cores"] and report["versions"]["torch"]


def test_report_html_stands_alone_and_shows_every_section(minute_run):
    page = (minute_run / "report.html").read_text()
    loaded = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)|url\(([^)]*)\)""", page)
    assert loaded and not [link for pair in loaded for link in pair if link.startswith(("http", "//"))]
    for part in (
        "Contrastive, global crops",
        "Contrastive, local crops",
        "iBOT, masked patches",
        "Learning rate",
        "EMA decay",
        "Teacher temperature",
    ):
        assert part.lower() in page.lower(), part
    assert page.count("data:image/") > 4 * 12


def test_datasets_load_with_their_pictures(minute_run, tmp_path):
    captions = load_dataset(str(minute_run / "captions"), split="train", cache_dir=str(tmp_path))
    images = load_dataset(str(minute_run / "images"), split="train", cache_dir=str(tmp_path))
    assert len(captions) == len(images) == 64
    assert captions["caption_id"][:] == images["caption_id"][:] == list(range(64))
    row = images[5]
    assert row["caption"] == captions[5]["caption"] and len(row["images"]) == len(row["seeds"]) == 4
    assert {picture.size for picture in row["images"]} == {(64, 64)}
    for stage in ("captions", "images"):
        assert (minute_run / stage / "README.md").read_text().startswith("---\n")


def test_training_logged_every_part_and_left_a_whole_model(minute_run):
    history = json.loads((minute_run / "pretraining" / "history.json").read_text())
    logged = [entry for entry in history if "loss" in entry]
    assert [entry["step"] for entry in logged] == [4, 8, 12, 16, 20, 24]
    wanted = {"contrastive_global", "contrastive_local", "ibot", "ema_decay", "teacher_temperature", "learning_rate"}
    assert all(wanted <= set(entry) for entry in logged)
    assert (minute_run / "pretraining" / "model.safetensors").is_file()


LOAD_REMOTE = """
import sys, torch
from transformers import AutoImageProcessor, AutoModel
from PIL import Image
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
processor = AutoImageProcessor.from_pretrained(sys.argv[1], backend="pil")
assert "synclr_hf" not in sys.modules
picture = Image.linear_gradient("L").convert("RGB")
features = model(**processor(picture, return_tensors="pt")).pooler_output
print(type(model).__name__, features.shape[1], repr(features.sum().item()))
"""


def test_encoder_loads_with_the_package_and_without_it(minute_run, environment, tmp_path):
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModel

    from synclr_hf.models import SynCLRModel

    encoder = minute_run / "encoder"
    model = AutoModel.from_pretrained(encoder)
    assert type(model) is SynCLRModel
    pixels = AutoImageProcessor.from_pretrained(encoder, backend="pil")(
        Image.linear_gradient("L").convert("RGB"), return_tensors="pt"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOAD_REMOTE, str(encoder)],
        env={**environment, "HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    name, width, total = done.stdout.split()
    assert (name, width) == ("SynCLRModel", "32")
    assert float(total) == pytest.approx(model(**pixels).pooler_output.sum().item(), abs=1e-4)


def test_started_again_it_does_nothing_over(minute_run, synclr):
    before = checksums(minute_run, "*.parquet") | checksums(minute_run / "pretraining", "*.safetensors")
    kept, stamps = numbers(minute_run), {p: p.stat().st_mtime_ns for p in minute_run.rglob("*.parquet")}
    done = synclr("run", RECIPE, "--output-dir", minute_run)
    assert done.returncode == 0, done.stderr[-2000:]
    assert before == checksums(minute_run, "*.parquet") | checksums(minute_run / "pretraining", "*.safetensors")
    assert stamps == {p: p.stat().st_mtime_ns for p in minute_run.rglob("*.parquet")}
    assert numbers(minute_run) == kept


def test_killed_again_and_again_it_ends_with_the_same(minute_run, environment, tmp_path):
    """SIGKILL at random moments of every stage (seed 0): the same captions, pictures, weights and numbers."""
    folder, moments = tmp_path / "run", random.Random(0)
    for _ in range(4):
        running = subprocess.Popen(
            command("run", RECIPE, "--output-dir", folder),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(moments.uniform(8, 22))
        running.send_signal(signal.SIGKILL)
        running.wait()
    done = subprocess.run(
        command("run", RECIPE, "--output-dir", folder), env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for stage in ("captions", "images", "held_out"):
        assert checksums(folder / stage, "*.parquet") == checksums(minute_run / stage, "*.parquet"), stage
    assert checksums(folder / "encoder", "*.safetensors") == checksums(minute_run / "encoder", "*.safetensors")
    assert numbers(folder) == numbers(minute_run)


def test_killed_after_the_last_checkpoint_trains_no_step_more(minute_run, synclr, tmp_path):
    folder = tmp_path / "pretraining"
    shutil.copytree(minute_run / "pretraining", folder)
    for name in ("history.json", "model.safetensors"):
        (folder / name).unlink()
    done = synclr("pretrain", "--config", RECIPE, "--images", minute_run / "images", "--output-dir", folder)
    assert done.returncode == 0, done.stderr[-2000:]
    wanted = checksums(minute_run / "pretraining", "model.safetensors")["model.safetensors"]
    assert checksums(folder, "model.safetensors")["model.safetensors"] == wanted
    assert {path.name for path in folder.glob("checkpoint-*")} == {"checkpoint-16", "checkpoint-24"}


def test_accelerate_launch_is_the_same_training(minute_run, environment, tmp_path):
    script = RECIPE.parents[2] / "scripts" / "pretrain.py"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", script]
    options = ["--config", RECIPE, "--images", minute_run / "images", "--output-dir", tmp_path / "pretraining"]
    done = subprocess.run(
        list(map(str, [*launch, *options])), env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    files = [
        checksums(folder, "model.safetensors")["model.safetensors"]
        for folder in (tmp_path / "pretraining", minute_run / "pretraining")
    ]
    assert files[0] == files[1]


def test_evaluate_command_on_a_labelled_set(minute_run, synclr, tmp_path):
    encoder = minute_run / "encoder"
    models = ("--model", encoder, "--model", f"untrained:{encoder}", "--model", "pixels")
    options = (
        "--dataset",
        minute_run / "held_out" / "images",
        "--protocols",
        "knn",
        "--seed",
        3,
        "--output",
        tmp_path,
    )
    done = synclr("evaluate", *models, *options)
    assert done.returncode == 0, done.stderr[-2000:]
    results = [json.loads(file.read_text()) for file in sorted(tmp_path.rglob("knn.json"))]
    found = {result["model"]["name"]: result["metrics"]["accuracy"] for result in results}
    expected = numbers(minute_run)["knn_top1"]
    assert found == {
        str(encoder): expected["trained"],
        f"untrained:{encoder}": expected["untrained"],
        "pixels": expected["pixels"],
    }
    assert all(result["dataset"]["is_toy"] for result in results)
    assert f"| {100 * expected['trained']:.1f} [" in done.stdout and "not to be compared" in done.stdout
    compared = synclr("compare", tmp_path)
    assert compared.returncode == 0 and "not to be compared" in compared.stdout
    assert all(f" {100 * value:.1f} [" in compared.stdout for value in found.values())


def test_export_of_the_student(minute_run, synclr, tmp_path):
    done = synclr(
        "export", "--pretraining", minute_run / "pretraining", "--output-dir", tmp_path / "s", "--weights", "student"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert checksums(tmp_path / "s", "*.safetensors") != checksums(minute_run / "encoder", "*.safetensors")
    shutil.rmtree(tmp_path / "s")
    done = synclr(
        "export", "--pretraining", minute_run / "pretraining", "--output-dir", tmp_path / "s", "--weights", "both"
    )
    assert done.returncode == 2 and "weights 'both'; allowed: teacher, student" in done.stderr
    assert not (tmp_path / "s").exists()
