"""The README's lines about evaluation, with small models and pictures of this machine."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_evaluation import tiny_model

import synclr_hf
from synclr_hf.cli.compare import main as compare
from synclr_hf.cli.evaluate import main as evaluate
from synclr_hf.cli.visualize import main as visualize
from synclr_hf.errors import UserInputError

README = (Path(synclr_hf.__file__).parents[1] / "README.md").read_text()
CHAPTER = README[README.index("\n## Evaluation\n") : README.index("\n## Go on from saved weights\n")]


@pytest.fixture
def weeds(tmp_path, monkeypatch):
    """Two models, and a folder of class folders."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("vitb16", 0), ("dinov2", 1)):
        tiny_model(layerscale_value=1.0 + seed).save_pretrained(tmp_path / name)
    for split, count in (("train", 10), ("test", 4)):
        for number, name in enumerate(("dock", "nettle")):
            folder = tmp_path / "my_weeds" / split / name
            folder.mkdir(parents=True)
            for picture in range(count):
                pixels = np.random.default_rng((number, picture)).integers(0, 100, (32, 32, 3))
                Image.fromarray((pixels + 150 * number).astype(np.uint8)).save(folder / f"{split}{picture}.png")


def test_the_lines_run_as_written(weeds, capsys):
    suite, own, compared = re.search(r"```bash\n(.*?)```", CHAPTER, re.DOTALL)[1].splitlines()
    words = {"org/synclr-vitb16": "vitb16", "facebook/dinov2-base": "dinov2"}
    suite, own, compared = (
        [words.get(word, word) for word in shlex.split(line)[2:]] for line in (suite, own, compared)
    )
    with pytest.raises(UserInputError, match="17 of 17 evaluations could not be made"):  # there is no network here
        evaluate(suite)
    evaluate(own)
    assert len(list(Path("outputs/weeds").rglob("*.json"))) == 6
    capsys.readouterr()
    compare(compared)
    assert "| my_weeds, logistic (accuracy) | 100.0 [100.0, 100.0] |" in capsys.readouterr().out


def test_looking_runs_as_written(weeds, capsys):
    line = re.search(r"`synclr (visualize [^`]*)`", CHAPTER)[1]
    line = line.replace("outputs/quickstart/encoder", "vitb16").replace("FOLDER_OR_HUB_ID", "my_weeds")
    visualize(shlex.split(line)[1:])
    assert {file.name for file in Path("outputs/seen").glob("*.png")} >= {"pca.png", "neighbours.png", "map.png"}
