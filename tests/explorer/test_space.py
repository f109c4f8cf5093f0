"""The Space: its files, what is sent to the Hub, and its page run out of what was sent."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from image_sets import write_images
from tiny_index import save_tiny_encoder

import synclr_hf
from synclr_hf.cli.main import main
from synclr_hf.explorer.config import run_index_config
from synclr_hf.explorer.index.stage import build_index
from synclr_hf.explorer.space import SpaceConfig, page_files, space_repository
from synclr_hf.hub.dataset_files import index_repository
from synclr_hf.hub.sending import _STALE, stale

ROOT = Path(synclr_hf.__file__).parents[1]
SPACE = SpaceConfig("org/synclr-explorer", "org/synclr-vitb16", "org/synclr-vitb16-index")
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
CALL = """
import sys
from gradio_client import Client
client = Client(sys.argv[1], verbose=False)
print("FOUND", client.predict(3, 2, [], api_name="/search_row")[1])
"""


def front_matter(readme):
    return yaml.safe_load(readme.decode().split("---\n")[1])


def test_the_folder_in_the_repository_is_what_is_published():
    files = page_files(SPACE)
    folder = ROOT / "spaces" / "synclr_explorer"
    assert {path.name for path in folder.iterdir() if path.is_file()} == files.keys()
    for name, content in files.items():
        assert (folder / name).read_bytes() == content, f"write what page_files gives into spaces/: {name}"


def test_its_front_matter_is_what_the_hub_takes():
    told = front_matter(page_files(SPACE)["README.md"])
    assert told["sdk"] == "gradio" and told["app_file"] == "app.py" and told["license"] == "apache-2.0"
    assert {told["colorFrom"], told["colorTo"]} <= COLOURS and len(told["short_description"]) <= 60
    assert told["models"] == ["org/synclr-vitb16"] and told["datasets"] == ["org/synclr-vitb16-index"]
    assert told["preload_from_hub"] == ["org/synclr-vitb16", "org/synclr-vitb16-index"]
    (gradio,) = (line for line in requires("synclr-hf") if line.startswith("gradio") and "space" in line)
    version = re.search(r">=([\d.]+)", gradio)[1]
    assert [*map(int, told["sdk_version"].split("."))] >= [*map(int, version.split("."))]


def test_its_requirements_are_those_of_the_package():
    lines = page_files(SPACE)["requirements.txt"].decode().split()
    names = {re.match(r"[\w-]+", line)[0] for line in lines}
    assert {"torch", "transformers", "datasets", "gradio"} <= names and not names & {"pytest", "ruff", "synclr-hf"}


def test_the_package_lies_in_it_with_its_version():
    files = space_repository(SPACE).files
    assert {"app.py", "synclr_hf/explorer/page/style.css", "synclr_hf/__init__.py"} <= files.keys()
    (metadata,) = (name for name in files if name.endswith(".dist-info/METADATA"))
    assert b"Name: synclr-hf" in files[metadata]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with an encoder that is called ours, pictures and an index."""
    folder = tmp_path_factory.mktemp("space") / "run"
    save_tiny_encoder(folder / "encoder")
    write_images(folder / "images", rows=6, rows_per_shard=6)
    build_index(run_index_config(folder))
    return folder


def test_a_published_index_names_the_encoder_as_the_hub_does(run):
    plan = index_repository(run / "index", "ada/toy-index", "ada/toy", [str(run)])
    told = json.loads(plan.files["index.json"])
    assert [one["name"] for one in told["encoders"]] == ["ada/toy", "untrained:ada/toy", "pixels"]
    card = plan.files["README.md"].decode()
    assert "`ada/toy`" in card and "`untrained:ada/toy`" in card and str(run) not in card
    assert {"cards/images.md", "publication.json"} <= plan.files.keys()


PUBLISH = """
from huggingface_hub import HfApi
from synclr_hf.cli.main import main
from synclr_hf.explorer.space import SpaceConfig, publish_space
from synclr_hf.errors import UserInputError

api = HfApi()
try:
    publish_space(SpaceConfig("ada/explorer", "ada/toy", "ada/toy-index"))
except UserInputError as error:
    print("FIRST", error)
api.create_repo("ada/toy")
api.upload_folder(repo_id="ada/toy", folder_path={encoder!r})
try:
    publish_space(SpaceConfig("ada/explorer", "ada/toy", "ada/toy-index"))
except UserInputError as error:
    print("SECOND", error)
from synclr_hf.hub.dataset_files import index_repository
from synclr_hf.hub.sending import send_all
from pathlib import Path
send_all([index_repository(Path({index!r}), "ada/toy-index", "ada/toy")], None, private=False, replace=False)
for words in ("--space ada/explorer", "--space ada/explorer --dry-run", "--space ada/explorer", "--space ada/taken"):
    try:
        main(["publish", "ada/toy", *words.split()])
    except SystemExit as ended:
        print("ENDED", ended.code, len(api.list_repo_commits("ada/explorer", repo_type="space")))
"""


def test_published_and_run_out_of_what_was_sent(hub, run, tmp_path, free_port):
    hub.add("ada/taken", {"README.md": b"# Of others\n"}, "space")
    done = hub.python(PUBLISH.format(encoder=str(run / "encoder"), index=str(run / "index")))
    assert re.search("FIRST there is no model 'ada/toy' on the Hub for the Space to show; publish it first", done)
    assert re.search("SECOND there is no index 'ada/toy-index' on the Hub .* type synclr index", done)
    assert "published: " in done and "space ada/explorer: " in done
    files = hub.files("ada/explorer", "space")
    assert json.loads(files["explorer.json"]) == {"model": "ada/toy", "index": "ada/toy-index"}
    assert front_matter(files["README.md"])["models"] == ["ada/toy"]
    commits = len(hub.history("ada/explorer", "space"))
    assert re.findall("ENDED .*", done) == [
        f"ENDED {code} {commits}" for code in (0, 0, 0, 2)
    ]  # nothing is sent twice
    assert hub.files("ada/taken", "space").keys() <= {"README.md", ".gitattributes"}
    page_file = "synclr_hf/explorer/page/page.py"
    files[page_file] = files[page_file].replace(b'title="SynCLR explorer"', b'title="Out of the Space"')
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    environment = hub.environment(None, GRADIO_SERVER_PORT=str(free_port), GRADIO_ANALYTICS_ENABLED="False")
    environment.pop("PYTHONPATH", None)
    log = tmp_path / "log.txt"
    with log.open("w") as out:
        page = subprocess.Popen([sys.executable, "app.py"], cwd=tmp_path, env=environment, stdout=out, stderr=out)
    try:
        end = time.monotonic() + 60
        found = ""
        while "FOUND" not in found and time.monotonic() < end and page.poll() is None:
            command = [sys.executable, "-c", CALL, f"http://127.0.0.1:{free_port}"]
            found = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
        assert "'row':" in found, log.read_text()[-2000:]
        with urllib.request.urlopen(f"http://127.0.0.1:{free_port}") as answer:
            assert b"Out of the Space" in answer.read()  # the package that was sent is what runs
    finally:
        page.kill()
        page.wait()


def test_what_another_version_left_in_a_space_goes():
    there = {"synclr_hf-0.0.1.dist-info/METADATA": "a", "synclr_hf/gone.py": "b", "mine.txt": "c", "app.py": "d"}
    gone = stale(there, space_repository(SPACE).files, _STALE["space"])
    assert gone == ["synclr_hf-0.0.1.dist-info/METADATA", "synclr_hf/gone.py"]


def test_a_mistyped_run_is_not_passed_over(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["publish", "outputs/typo", "--to", "org/name", "--space", "org/space", "--dry-run"])
    assert ended.value.code == 2 and "'outputs/typo' holds nothing to publish" in capsys.readouterr().err
