"""`synclr captions --push-to-hub`: the data set goes up when its stage ends, and loads for others by its name."""

import os
import re
import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from llm_server import LanguageServer
from small_run import synclr
from tiny_diffusion import save_tiny_stable_diffusion

ROOT = Path(__file__).parents[2]

NAME = "ada/bird-captions"


def captions(hub, *options, token=None):
    """Type `synclr captions ...` for 40 toy captions in two shards."""
    (hub.folder / "unsafe.txt").write_text("knife\n")
    fixed = ("--num-captions", "40", "--rows-per-shard", "20", "--unsafe-words", hub.folder / "unsafe.txt")
    return synclr("captions", *fixed, *options, env=hub.environment(token or hub.token), cwd=hub.folder)


def test_captions_are_pushed_and_loaded_by_their_name(hub):
    done = captions(hub, "--push-to-hub", NAME, "--private")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[0] == f"published: {hub.url}/datasets/{NAME}"
    assert hub.repository(NAME, "dataset").private
    told = hub.python(
        f"from datasets import load_dataset\nrows = load_dataset('{NAME}', split='train')\n"
        "print(len(rows), rows['caption_id'][:] == list(range(40)), *rows.column_names)"
    )
    assert told.split()[:4] == ["40", "True", "caption_id", "caption"]
    assert list((hub.folder / "outputs").iterdir()) == [hub.folder / "outputs" / "bird-captions"], "named like the set"

    card = hub.files(NAME, "dataset")["README.md"].decode()
    assert "--unsafe-words unsafe.txt" in card and str(hub.folder) not in card, "no path of this machine"

    before = len(hub.uploads())
    again = captions(hub, "--push-to-hub", NAME)
    assert again.returncode == 0 and len(hub.uploads()) == before, "nothing is sent twice"

    shorter = captions(hub, "--output-dir", "shorter", "--rows-per-shard", "40", "--push-to-hub", NAME)
    assert shorter.returncode == 0, "the same captions in other shards"
    assert [name for name in hub.files(NAME, "dataset") if name.startswith("data/")] == ["data/train-00000.parquet"]

    before = len(hub.uploads())
    other = captions(hub, "--seed", "1", "--output-dir", "other", "--push-to-hub", NAME)
    assert (
        other.returncode == 2
        and "holds another run; nothing was written; type another name with --push-to-hub" in (other.stderr)
    )
    assert len(hub.uploads()) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--push-to-hub", "birds"), "--push-to-hub 'birds' is no name for a repository"),
        (("--push-to-hub", NAME), "cannot be written: the token is missing or not valid; type hf auth login"),
    ],
)
def test_what_cannot_be_pushed_is_said_before_anything_is_written(hub, options, said):
    done = captions(hub, *options, token="hf_wrong")
    assert done.returncode == 2 and said in done.stderr
    assert not (hub.folder / "outputs").exists()


@pytest.fixture
def api(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return HfApi(hub.url, token=hub.token)


def test_a_repository_of_others_is_refused_before_anything_is_written(hub, api):
    api.create_repo(NAME, repo_type="dataset")
    api.upload_file(path_or_fileobj=b"mine", path_in_repo="notes.txt", repo_id=NAME, repo_type="dataset")
    done = captions(hub, "--push-to-hub", NAME)
    assert done.returncode == 2 and "holds other things (notes.txt); nothing was written" in done.stderr
    assert not (hub.folder / "outputs").exists()


def test_the_licence_that_a_model_of_the_hub_states_is_told(hub, api):
    api.create_repo("ada/llama")
    card = b"---\nlicense: llama2\n---\n# Llama"
    api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id="ada/llama")
    told = hub.python(
        "from synclr_hf.data.back_ends import fetch_model_card\nfrom synclr_hf.data.cards import licence_fields\n"
        "before = licence_fields('ada/llama')\nfetch_model_card('ada/llama')\nfetch_model_card('ada/nothing')\n"
        "print(before, licence_fields('ada/llama'))"
    )
    assert told.strip() == "{} {'license': 'llama2'}"


@pytest.mark.slow
def test_on_a_cluster_the_job_that_finishes_publishes(hub):
    stand_in = ROOT / "tests" / "sbatch_stand_in"
    (hub.folder / "jobs").mkdir()
    environment = {
        **hub.environment(hub.token),
        "SLURM_STAND_IN": str(hub.folder / "jobs"),
        "PATH": f"{stand_in}{os.pathsep}{os.environ['PATH']}",
    }
    typed = ("--num-captions", "40", "--rows-per-shard", "20", "--push-to-hub", NAME, "--executor", "slurm")
    done = synclr("captions", *typed, "--tasks", "2", env=environment, cwd=hub.folder)
    assert done.returncode == 0 and "is made by the Slurm jobs" in done.stdout, done.stderr
    end = time.monotonic() + 60
    while (hub.folder / "outputs/bird-captions/.cluster/jobs.json").exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    assert sum(name.endswith(".parquet") for name in hub.files(NAME, "dataset")) == 2


def birds(prompt, body):
    """Continue as a base model would: a caption, and lines of its own."""
    query = prompt.splitlines()[-1].removesuffix(" =>").replace(",", " and a")
    return f" A {query} seen from afar, with the number {body['seed']}.\nwren => A wren."


def test_the_readmes_lines_about_birds_run_as_written(hub):
    """Only the models are others, and smaller: fewer captions, steps and pixels."""
    readme = (ROOT / "README.md").read_text()
    blocks = [block for block in re.findall(r"```bash\n(.*?)```", readme, re.DOTALL) if "bird" in block]
    lines = [line.removeprefix("synclr ") for block in blocks for line in block.splitlines()]
    lines = [line for line in lines if not line.startswith("import ")]  # that is tested with pictures of its own
    assert [line.split()[0] for line in lines] == ["concepts", "captions", "captions", "images"]
    lines[-1] += " --num-inference-steps 2 --size 32"
    pipeline = save_tiny_stable_diffusion(hub.folder / "tiny")
    (hub.folder / "my_birds.txt").write_text("owl\nkingfisher\nwren\n")
    with LanguageServer(birds) as server:
        model = f"openai-completions:llama --base-url {server.url}"
        for line in lines:
            line = line.replace("meta-llama/Llama-2-7b-hf", model).replace("1M", "60").replace("org/", "ada/")
            line = line.replace("stable-diffusion-v1-5/stable-diffusion-v1-5", pipeline)
            done = synclr(*line.split(), env=hub.environment(hub.token), cwd=hub.folder)
            assert done.returncode == 0, done.stderr[-2000:]
    told = hub.python(
        "from datasets import load_dataset\nrows = load_dataset('ada/bird-captions', split='train')\n"
        "print(len(rows), *sorted(set(rows['template'])), len(set(rows['concept'])))\n"
        "rows = load_dataset('ada/bird-images', split='train')\n"
        "print(len(rows), {len(row['images']) for row in rows}, rows[0]['images'][0].size)"
    )
    assert told.split("\n")[:2] == ["60 background concept relation 3", "60 {4} (32, 32)"]
    assert (hub.folder / "outputs/bird-captions-unique/README.md").is_file()
    card = hub.files("ada/bird-captions", "dataset")
    assert "card/lengths.png" in card and "| completion tokens | " in card["README.md"].decode()
    assert "card/samples.png" in hub.files("ada/bird-images", "dataset")
