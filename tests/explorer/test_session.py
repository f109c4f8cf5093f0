"""Loading in the background: what is there when, and what is said when something is not."""

import json
import shutil
import threading
import time

import pytest
from image_sets import write_images
from tiny_index import save_tiny_encoder, write_tiny_index

from synclr_hf.cli.main import main
from synclr_hf.errors import UserInputError
from synclr_hf.explorer.config import ExplorerConfig, run_config, run_index_config, space_config
from synclr_hf.explorer.index.stage import build_index
from synclr_hf.explorer.page.wording import heading, status
from synclr_hf.explorer.session import Explorer


def started(config):
    explorer = Explorer(config)
    explorer.start()
    explorer.wait(60)
    return explorer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with an encoder and pictures, without an index."""
    folder = tmp_path_factory.mktemp("run")
    save_tiny_encoder(folder / "encoder")
    write_images(folder / "images", rows=6, rows_per_shard=6)
    return folder


def test_ready_with_model_and_index(explorer, tiny_index_folder):
    state = explorer.state
    assert state.stage == "ready" and "36 pictures" in state.text and state.no_index is None
    assert explorer.encoder_names[1] == "pixels" and explorer.encoder(1).model is None
    assert 'role="status" aria-live="polite"' in status(explorer, state)
    assert tiny_index_folder not in heading(explorer) + status(explorer, state)


def test_the_first_second_says_that_it_is_loading(tiny_encoder_folder):
    explorer = Explorer(ExplorerConfig(tiny_encoder_folder))
    assert explorer.state.stage == "loading" and "pulse" in status(explorer, explorer.state)
    with pytest.raises(UserInputError, match="loading .*encoder; try again in a moment"):
        explorer.wait(0.01)
    explorer.start()
    explorer.start()
    explorer.wait(60)
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("explorer loading") <= 1 and explorer.state.stage == "ready"


def test_a_model_that_is_not_there_fails_for_everybody(tmp_path):
    explorer = Explorer(ExplorerConfig(str(tmp_path / "nothing")))
    explorer.start()
    for ask in (lambda: explorer.wait(60), lambda: explorer.encoder(), lambda: explorer.index):
        with pytest.raises(UserInputError, match="cannot be loaded"):
            ask()
    assert explorer.state.stage == "failed"


def test_an_index_of_another_model_is_refused_and_maps_still_work(tmp_path, tiny_index_folder):
    from tiny_evaluation import tiny_model

    other = save_tiny_encoder(tmp_path / "other")
    tiny_model(num_hidden_layers=1).save_pretrained(other)
    explorer = started(ExplorerConfig(other, tiny_index_folder))
    assert explorer.encoder().model is not None
    with pytest.raises(UserInputError, match="was made with 'encoder|was made with .*'pixels', not with .*other"):
        _ = explorer.index


def test_the_shown_encoder_is_the_first_of_the_index(tmp_path, tiny_encoder_folder):
    index = write_tiny_index(tmp_path / "i", "pixels", captions=2, others=(tiny_encoder_folder,))
    with pytest.raises(UserInputError, match="shows 'pixels' first, not"):
        _ = started(ExplorerConfig(tiny_encoder_folder, index)).index


def test_a_run_says_what_is_shown(run, tmp_path, tiny_encoder_folder):
    config = run_config(str(run))
    assert (config.model, config.index) == (str(run / "encoder"), None)
    assert config.may_build.model == [str(run / "encoder"), f"untrained:{run}/encoder", "pixels"]
    assert run_config(tiny_encoder_folder).may_build is None
    assert run_config("org/name", find=lambda name: name == "org/name-index").index == "org/name-index"
    assert run_config("org/name", find=lambda _: False).index is None
    for name, words in ((str(tmp_path), "holds no encoder"), ("./nowhere", "there is no folder './nowhere'")):
        with pytest.raises(UserInputError, match=words):
            run_config(name)


def test_a_missing_index_is_built_from_the_page(run):
    explorer = started(run_config(str(run)))
    with pytest.raises(UserInputError, match="no index of pictures here; build one: type synclr index --output-dir"):
        _ = explorer.index
    explorer.build()
    texts, end = [], time.monotonic() + 60
    state = explorer.state
    while state.stage == "building" and time.monotonic() < end:
        texts.append(state.text)
        state = explorer.wait_for_news(state, 1)
    assert state.stage == "ready" and state.no_index is None and len(explorer.index) == 12
    assert explorer.encoder_names == ["encoder", "untrained:encoder", "pixels"]
    assert explorer.encoder(1).name == f"untrained:{run}/encoder"
    assert run_config(str(run)).index == str(run / "index")
    assert started(run_config(str(run))).encoder(2).name == "pixels"
    explorer.build()  # nothing to do


def test_what_cannot_be_built_is_told(tmp_path, tiny_encoder_folder):
    explorer = started(ExplorerConfig(tiny_encoder_folder))
    with pytest.raises(UserInputError, match="give it with --index FOLDER"):
        explorer.build()
    (tmp_path / "images").mkdir()
    config = run_index_config(tmp_path, {"model": [tiny_encoder_folder]})
    explorer = started(ExplorerConfig(tiny_encoder_folder, may_build=config))
    explorer.build()
    state = explorer.wait_for_news(explorer.state, 30)
    while state.stage == "building":
        state = explorer.wait_for_news(state, 30)
    assert "there are no pictures in" in state.no_index and state.stage == "ready"


def test_an_encoder_that_has_changed_is_told_and_the_others_work(tmp_path):
    model = save_tiny_encoder(tmp_path / "encoder")
    (tmp_path / "images").mkdir()
    for k in range(3):
        from tiny_index import picture

        picture(k).save(tmp_path / "images" / f"{k}.png")
    other = save_tiny_encoder(tmp_path / "other")
    from tiny_evaluation import tiny_model

    tiny_model(num_hidden_layers=1).save_pretrained(other)
    from synclr_hf.explorer.index.stage import IndexConfig

    build_index(IndexConfig(str(tmp_path / "index"), [model, other], str(tmp_path / "images")))
    explorer = started(ExplorerConfig(model, str(tmp_path / "index")))
    with pytest.raises(UserInputError, match="'other' cannot be compared here"):  # a name, no folder any more
        explorer.encoder(1)
    assert explorer.encoder(0).model is not None
    with pytest.raises(UserInputError, match="there is no encoder 2"):
        explorer.encoder(2)


def test_an_encoder_with_other_weights_than_the_index_is_told(tmp_path, tiny_encoder_folder, tiny_index_folder):
    shutil.copytree(tiny_index_folder, tmp_path / "index")
    told = json.loads((tmp_path / "index" / "index.json").read_text())
    told["encoders"][1]["fingerprint"] = "of yesterday"
    (tmp_path / "index" / "index.json").write_text(json.dumps(told))
    explorer = started(ExplorerConfig(tiny_encoder_folder, str(tmp_path / "index")))
    with pytest.raises(UserInputError, match="'pixels' is not what the index was made with"):
        explorer.encoder(1)


def test_a_space_reads_its_file_or_its_variables(tmp_path, monkeypatch):
    monkeypatch.delenv("MODEL", raising=False)
    monkeypatch.delenv("INDEX", raising=False)
    with pytest.raises(UserInputError, match="no model is named; write explorer.json"):
        space_config(tmp_path)
    (tmp_path / "explorer.json").write_text('{"model": "org/a", "index": "org/a-index"}')
    assert space_config(tmp_path) == ExplorerConfig("org/a", "org/a-index")
    monkeypatch.setenv("MODEL", "org/b")
    assert space_config(tmp_path) == ExplorerConfig("org/b", None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere/at/all"], "there is no folder 'nowhere/at/all'"),
        (["{encoder}", "--port", "0"], "--port 0 cannot be used; allowed: 1 to 65535"),
    ],
)
def test_what_the_command_refuses(tiny_encoder_folder, capsys, arguments, words):
    with pytest.raises(SystemExit) as ended:
        main(["demo", *(word.format(encoder=tiny_encoder_folder) for word in arguments)])
    assert ended.value.code == 2 and words in capsys.readouterr().err


def test_without_gradio_the_command_says_what_to_install(tiny_encoder_folder, monkeypatch, capsys):
    monkeypatch.setattr("synclr_hf.cli.demo.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main(["demo", tiny_encoder_folder])
    assert 'pip install "synclr-hf[space]"' in capsys.readouterr().err
