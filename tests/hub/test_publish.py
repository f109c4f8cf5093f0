"""`synclr publish` against a Hub over HTTP, and what users then load from it in fresh processes."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard
from small_run import RECIPE, SMALLER, synclr

from synclr_hf.errors import UserInputError
from synclr_hf.hub.publication import PublishConfig, plan_publication
from synclr_hf.hub.publish import publish
from synclr_hf.hub.repository import check_repo_id
from synclr_hf.hub.wheel import build_wheel

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's LFS upload

ROOT = Path(__file__).parents[2]
TO = "ada/synclr-toy"


@pytest.fixture
def send(hub, monkeypatch):
    """Publish from this process, by LFS; the commands in fresh processes send by Xet."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("synclr_hf.hub.patience.WAITS", (0.05, 0.1, 0.2))

    def send(run, *parts, token=hub.token, to=TO, **settings):
        return publish(run, PublishConfig(to, parts=parts, **settings), api=HfApi(hub.url, token=token))

    return send


def typed(hub, *arguments, token=None):
    """Type `synclr publish ...`; return the finished process."""
    return synclr("publish", *arguments, env=hub.environment(token or hub.token), cwd=hub.folder)


def code_blocks(card):
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


def test_a_run_is_published_and_its_cards_code_works_for_others(hub, run_folder):
    done = typed(hub, run_folder, "--to", TO, "--private")
    assert done.returncode == 0, done.stderr[-3000:]
    assert [url.rpartition("/")[2] for url in done.stdout.splitlines()] == [
        "synclr-toy-captions",
        "synclr-toy-images",
        "synclr-toy-index",
        "synclr-toy",
    ]
    files = hub.files(TO)
    own = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json", "modeling_synclr.py"}
    whole = {f"pretraining/{name}" for name in ("config.json", "model.safetensors", "history.json")}
    assert own | whole | {"report.json", "report.html", "curves.svg", "publication.json"} <= files.keys()
    assert any(name.endswith(".whl") for name in files) and not any("training_args" in name for name in files)
    index = json.loads(hub.files(f"{TO}-index", "dataset")["index.json"])
    assert [one["name"] for one in index["encoders"]] == [TO, f"untrained:{TO}", "pixels"]
    assert hub.repository(TO).private and hub.repository(f"{TO}-images", "dataset").private

    card = files["README.md"].decode()
    blocks = code_blocks(card)
    assert len(blocks) == 3
    picture = "from PIL import Image; Image.new('RGB', (50, 40), 'red').save('picture.jpg')\n"
    checks = (
        "assert outputs.pooler_output.shape == (1, 32) and outputs.last_hidden_state.shape == (1, 17, 32)\n"
        "assert type(model).__module__.startswith('transformers_modules')\n",
        "assert classifier.config.num_labels == 10 and len(backbone.out_indices) == 2\n",
        "assert pretraining.student is not None and 'ibot' in pretraining.objectives\n",
    )
    hub.python(picture + "".join(block + check for block, check in zip(blocks[:2], checks, strict=False)))
    hub.python(blocks[2] + checks[2])
    for part, column in (("captions", "caption"), ("images", "images")):
        (block,) = code_blocks(hub.files(f"{TO}-{part}", "dataset")["README.md"].decode())
        told = hub.python(block + f"print(len(rows), '{column}' in rows.column_names)")
        assert told.split() == ["24", "True"]
    refused_to_strangers = hub.try_python(blocks[0], token=hub.stranger_token)
    assert refused_to_strangers.returncode != 0 and "synclr-toy" in refused_to_strangers.stderr


def test_the_card_tells_the_run_and_no_path_of_this_machine(hub, send, run_folder):
    send(run_folder)
    report = json.loads((run_folder / "report.json").read_text())
    for repo_id, repo_type in ((TO, "model"), (f"{TO}-captions", "dataset"), (f"{TO}-images", "dataset")):
        for name, content in hub.files(repo_id, repo_type).items():
            if name.endswith((".md", ".json", ".html", ".svg")):
                assert str(run_folder.parent) not in content.decode(), (repo_id, name)
    card = ModelCard(hub.files(TO)["README.md"].decode())
    assert card.data.license == "apache-2.0" and set(card.data.datasets) == {f"{TO}-captions", f"{TO}-images"}
    results = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert results["kNN top-1"] == pytest.approx(report["evaluation"]["knn_top1"]["trained"], abs=1e-4)
    assert f"{100 * report['evaluation']['linear_top1']['pixels']:.1f} %" in card.text
    assert f"{report['seconds']['pretraining'] / 3600:.2f} device-hours" in card.text
    for words in (
        "96 generated pictures, 4 of each of 24 captions",
        "inherits the biases",
        "max_steps: 6",
        "](curves.svg)",
        "bibtex",
    ):
        assert words in card.text


def test_published_again_nothing_is_sent_twice(hub, send, run_folder):
    send(run_folder)
    before, commits = len(hub.uploads()), hub.history(TO)
    send(run_folder)
    assert before > 5 and len(hub.uploads()) == before and hub.history(TO) == commits


@pytest.mark.parametrize("fault", [{"status": 503, "times": 2}, {"close": True}, {"status": 503, "after": True}])
def test_a_busy_hub_and_a_cut_connection_are_waited_out(hub, send, run_folder, fault):
    rule = hub.fail("POST", "/commit/", **fault)
    send(run_folder, "encoder")
    assert rule.met == rule.times
    assert "model.safetensors" in hub.files(TO) and len(hub.history(TO)) == 2


def test_stopped_in_the_middle_the_same_command_goes_on(hub, send, run_folder):
    rule = hub.fail("POST", "/commit/", status=503, times=1000)
    with pytest.raises(UserInputError, match="answered 503.*same command again"):
        send(run_folder, "images")
    sent = [request.path for request in hub.uploads()]
    rule.times = 0
    send(run_folder, "images")
    again = [request.path for request in hub.uploads()][len(sent) :]
    assert len(sent) == 3 and not set(sent) & set(again), "the shards arrived the first time"
    assert "data/train-00002.parquet" in hub.files(f"{TO}-images", "dataset")


def test_other_peoples_repositories_are_left_alone(hub, send, run_folder):
    hub.add(f"{TO}-captions", {"thesis.txt": b"mine"}, "dataset")
    with pytest.raises(UserInputError, match=r"holds other things \(thesis.txt\).*--replace"):
        send(run_folder)
    assert hub.files(f"{TO}-captions", "dataset").keys() == {".gitattributes", "thesis.txt"}
    with pytest.raises(KeyError):
        hub.repository(TO)
    send(run_folder, "captions", replace=True)
    files = hub.files(f"{TO}-captions", "dataset")
    assert "thesis.txt" not in files and "data/train-00000.parquet" in files


def test_another_run_is_not_written_over(hub, send, run_folder):
    hub.add(TO, {"publication.json": b'{"run": "another"}', "config.json": b"{}"})
    with pytest.raises(UserInputError, match="holds another run; nothing was written"):
        send(run_folder, "encoder")


def test_a_public_repository_does_not_become_a_private_one_in_silence(send, run_folder):
    send(run_folder, "captions")
    with pytest.raises(UserInputError, match="is public already"):
        send(run_folder, "captions", private=True)


@pytest.mark.parametrize(
    ("token", "to", "reason"),
    [
        ("token-reader", TO, "no right to write"),
        ("token-writer", "strangers/toy", "no right to write"),
        ("wrong", TO, "missing or not valid"),
    ],
)
def test_tokens_that_may_not_write(send, run_folder, token, to, reason):
    with pytest.raises(UserInputError, match=f"{reason}.*hf auth login"):
        send(run_folder, "captions", token=token, to=to)


def test_with_optimizer_the_training_state_is_there(hub, send, run_folder):
    send(run_folder, "encoder", with_optimizer=True)
    names = {name for name in hub.files(TO) if name.startswith("pretraining/checkpoint-6/")}
    assert {Path(name).name for name in names} >= {"optimizer.pt", "scheduler.pt", "trainer_state.json"}
    assert not any(name.endswith("training_args.bin") for name in names)


def test_a_dry_run_lists_and_sends_nothing(hub, run_folder):
    done = typed(hub, run_folder, "--to", TO, "--dry-run")
    assert done.returncode == 0 and hub.requests == []
    (model,) = [line for line in done.stdout.splitlines() if line.startswith("model ")]
    assert re.fullmatch(rf"model {TO}: \d+ files, [\d.]+ [kM]B", model)
    assert any(re.fullmatch(r" +[\d.]+ kB  model.safetensors", line) for line in done.stdout.splitlines())


def test_an_encoder_alone(hub, send, run_folder):
    send(run_folder / "encoder")
    assert not any(name.startswith("pretraining/") for name in hub.files(TO))
    card = hub.files(TO)["README.md"].decode()
    assert f'AutoModel.from_pretrained("{TO}"' in card and "96 generated pictures" in card


@pytest.mark.parametrize("name", ["toy", "a/b/c", "org/na me", "org/", "-org/x", "org/x" + "y" * 100, "org/ü"])
def test_names_that_are_none(name):
    with pytest.raises(UserInputError, match="no name for a repository.*type --to my-name/"):
        check_repo_id("--to", name)


def test_folders_with_nothing_to_publish(tmp_path, run_folder):
    with pytest.raises(UserInputError, match="holds nothing to publish"):
        plan_publication(tmp_path, PublishConfig(TO))
    with pytest.raises(UserInputError, match="holds no captions"):
        plan_publication(run_folder / "encoder", PublishConfig(TO, parts=["captions"]))
    with pytest.raises(UserInputError, match="unknown part 'model'"):
        PublishConfig(TO, parts=["model"])
    with pytest.raises(UserInputError, match="leave --with-optimizer out"):
        plan_publication(run_folder / "encoder", PublishConfig(TO, with_optimizer=True))


def test_the_wheel_installs_and_is_the_same_every_time(tmp_path):
    name, content = build_wheel()
    assert build_wheel() == (name, content)
    (tmp_path / name).write_bytes(content)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*install, str(tmp_path / "site"), str(tmp_path / name)], check=True, capture_output=True)
    code = "import synclr_hf, sys; from synclr_hf.models import SynCLRConfig; print(synclr_hf.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(tmp_path / "site"))
    assert (tmp_path / "site" / "synclr_hf" / "recipes" / "toyworld.yaml").is_file()


def test_the_readmes_lines_about_the_hub_run_as_written(hub, run_folder):
    """The four lines under "From the Hub", with the names that they show."""
    readme = (ROOT / "README.md").read_text()
    (block,) = [block for block in code_blocks(readme) if "org/synclr-vitb16" in block]
    lines = [line for line in block.splitlines() if "org/" in line]
    assert len(lines) == 4 and ast.parse(block)
    options = ("--captions-to", "org/synclr-captions", "--images-to", "org/synclr-images")
    assert typed(hub, run_folder, "--to", "org/synclr-vitb16", *options).returncode == 0
    told = hub.python(block + "\nprint(type(model).__name__, len(captions), len(features[0]))")
    assert told.split() == ["SynCLRModel", "24", "32"]


def test_a_recipe_publishes_at_its_end(hub, run_folder):
    """The finished run goes through its stages again, finds them done, and publishes."""
    entries = ("publish.to=ada/from-recipe", "publish.parts=[encoder]", "publish.private=true")
    done = synclr("run", RECIPE, "--output-dir", run_folder, *SMALLER, *entries, env=hub.environment())
    assert done.returncode == 0, done.stderr[-3000:]
    first, last = done.stdout.splitlines()[-2:]
    assert first.endswith("ada/from-recipe") and last == f"report: {run_folder}/report.html"
    assert hub.repository("ada/from-recipe").private and "README.md" in hub.files("ada/from-recipe")
