import io
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image

from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.data.reading import read_captions, read_images
from synclr_hf.data.schemas import image_features
from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError
from synclr_hf.images import generators
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.stage import write_images

ROOT = Path(__file__).parents[2]


def shards(folder):
    return {path.name: path.read_bytes() for path in sorted((Path(folder) / "data").iterdir())}


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    return str(write_captions(CaptionsConfig(tmp_path_factory.mktemp("toy") / "captions", num_captions=40), workers=1))


@pytest.fixture(scope="module")
def config(captions, tmp_path_factory):
    return ImagesConfig(str(tmp_path_factory.mktemp("toy") / "images"), captions, size=64, rows_per_shard=12)


@pytest.fixture(scope="module")
def toy(config):
    return write_images(config, workers=1)


def test_rows_follow_the_schema_and_carry_their_caption(toy, captions):
    rows = load_dataset(str(toy), split="train")
    assert rows.features == image_features() and len(shards(toy)) == 4
    for name in ("caption_id", "caption", "concept", "source"):
        assert rows[name][:] == read_captions(captions)[name][:]
    pictures = rows[17]["images"]
    assert [(picture.format, picture.mode, picture.size) for picture in pictures] == [("JPEG", "RGB", (64, 64))] * 4


def test_the_pictures_of_one_caption_are_different(toy):
    rows = load_dataset(str(toy), split="train")
    arrays = [np.asarray(picture, dtype=float) for picture in rows[3]["images"]]
    distances = [abs(a - b).mean() for i, a in enumerate(arrays) for b in arrays[:i]]
    assert len(distances) == 6 and min(distances) > 5


def test_any_picture_can_be_made_again_from_its_row(toy):
    row = read_images(toy)[21]
    provenance = json.loads(row["provenance"])
    assert row["seeds"] == [seed_for(0, "image", row["caption_id"], number) for number in range(4)]
    assert (row["guidance_scale"], provenance["num_inference_steps"], provenance["quality"]) == (2.5, 50, 95)
    again = list(
        generators.create_image_generator("toy").generate(
            [row["caption"]],
            seeds=[row["seeds"][2]],
            guidance_scale=row["guidance_scale"],
            num_inference_steps=provenance["num_inference_steps"],
            size=provenance["size"],
        )
    )
    file = io.BytesIO()
    again[0].save(file, provenance["format"], quality=provenance["quality"])
    assert file.getvalue() == row["images"][2]["bytes"]


@pytest.mark.parametrize(("workers", "batch_size"), [(2, 32), (1, 5)])
def test_same_seed_same_bytes(tmp_path, config, toy, workers, batch_size):
    again = replace(config, output_dir=str(tmp_path / "images"), batch_size=batch_size)
    assert shards(write_images(again, workers=workers)) == shards(toy)


def test_another_seed_other_pictures(tmp_path, config, toy):
    other = write_images(replace(config, output_dir=str(tmp_path / "images"), seed=1), workers=1)
    assert read_images(other)[0]["images"] != read_images(toy)[0]["images"]


def test_a_batch_size_may_change_while_a_run_is_taken_up_again(tmp_path, config, toy):
    changed = replace(config, output_dir=str(tmp_path / "images"))
    folder = write_images(changed, workers=1)
    (folder / "data/train-00001.parquet").unlink()
    assert shards(write_images(replace(changed, batch_size=9), workers=1)) == shards(toy)


@pytest.mark.parametrize(("workers", "finished"), [(2, 1)])
def test_killed_and_started_again_the_pictures_are_the_same(tmp_path, config, toy, workers, finished):
    settings = replace(config, output_dir=str(tmp_path / "images"))
    program = (
        "from synclr_hf.images.stage import *\nfrom synclr_hf.images.config import *\nif __name__ == '__main__':\n"
        f"  write_images({settings!r}, workers={workers})"
    )
    (tmp_path / "program.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, tmp_path / "program.py"], env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(tmp_path.glob("images/shards/*.json"))) < finished:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert shards(write_images(settings, workers=1)) == shards(toy)


def test_no_torch_for_the_toy_world(tmp_path):
    program = (
        "import sys; from synclr_hf.captions.stage import *; from synclr_hf.images.stage import *; "
        "from synclr_hf.images.config import *; "
        f"captions = write_captions(CaptionsConfig({str(tmp_path / 'captions')!r}, num_captions=10)); "
        f"write_images(ImagesConfig({str(tmp_path / 'images')!r}, captions, size=32)); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_changed_captions_are_refused(tmp_path, config, captions):
    settings = replace(config, output_dir=str(tmp_path / "images"), images_per_caption=2)
    write_images(settings, workers=1)
    other = write_captions(CaptionsConfig(tmp_path / "captions", num_captions=40, seed=1), workers=1)
    with pytest.raises(UserInputError, match=r"another configuration: captions_fingerprint \w+ there, \w+ now; type"):
        write_images(replace(settings, captions=str(other)), workers=1)
    with pytest.raises(UserInputError, match="images_per_caption 2 there, 3 now; type --extend to add"):
        write_images(replace(settings, images_per_caption=3), workers=1)


def test_moved_captions_are_the_same_captions(tmp_path, config, captions):
    settings = replace(config, output_dir=str(tmp_path / "images"), images_per_caption=2)
    write_images(settings, workers=1)
    (tmp_path / "moved").symlink_to(captions)
    assert write_images(replace(settings, captions=str(tmp_path / "moved")), workers=1) == tmp_path / "images"


def test_unfinished_captions_are_refused(tmp_path, config):
    unfinished = write_captions(CaptionsConfig(tmp_path / "captions", num_captions=9, rows_per_shard=3), workers=1)
    (unfinished / "shards/00001.json").unlink()
    with pytest.raises(UserInputError, match="is not finished: 2 of 3 shards; finish it first: type synclr captions"):
        write_images(replace(config, output_dir=str(tmp_path / "images"), captions=str(unfinished)))
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize("count", [0, 1])
def test_one_picture_has_no_positive(config, count):
    with pytest.raises(UserInputError) as caught:
        replace(config, images_per_caption=count)
    assert str(caught.value) == (
        f"--images-per-caption {count} cannot be used: the pictures of one caption are each other's positives; "
        "allowed: 2 or more; type --images-per-caption 4"
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"images_per_caption": 1001}, "--images-per-caption 1001 cannot be used; allowed: a whole number, 2 to 1000"),
        ({"size": 8}, "--size 8 cannot be used"),
        ({"guidance_scale": float("nan")}, "--guidance-scale nan cannot be used"),
        ({"num_inference_steps": 0}, "--num-inference-steps 0 cannot be used"),
        ({"rows_per_shard": 0}, "--rows-per-shard 0 cannot be used"),
        ({"seed": True}, "--seed True cannot be used"),
        ({"batch_size": -4}, "--batch-size -4 cannot be used"),
        ({"image_quality": 101}, "--image-quality 101 cannot be used; allowed: a whole number, 1 to 100"),
    ],
)
def test_settings_that_cannot_be_used(config, settings, said):
    with pytest.raises(UserInputError) as caught:
        replace(config, **settings)
    assert str(caught.value).startswith(said)


def test_an_unknown_generator_leaves_no_folder_behind(tmp_path, config):
    with pytest.raises(UserInputError, match="unknown image generator 'dalle'.*type --image-generator toy"):
        write_images(replace(config, output_dir=str(tmp_path / "images"), image_generator="dalle"))
    assert not (tmp_path / "images").exists()


class SmallPictures:
    """Draws at its own size, whatever it is asked for."""

    provenance = {"generator": "small"}

    def generate(self, prompts, *, seeds, guidance_scale, num_inference_steps, size):
        yield from [Image.new("RGB", (8, 8)) for _ in prompts]


def test_a_generator_that_breaks_its_promise_is_told(tmp_path, config, monkeypatch):
    monkeypatch.setitem(generators.IMAGE_GENERATORS, "small", f"{__name__}:SmallPictures")
    with pytest.raises(RuntimeError, match=r"drew RGB \(8, 8\), not RGB \(64, 64\)"):
        write_images(replace(config, output_dir=str(tmp_path / "images"), image_generator="small"))


def test_the_card_names_the_terms_of_both_models(toy):
    card = (toy / "README.md").read_text()
    assert "license: apache-2.0" in card and "- **Pictures**: " in card and "- **Captions**: " in card
    assert "synclr images --output-dir" in card and "--size 64 --rows-per-shard 12" in card


def test_the_card_shows_samples_and_numbers_of_the_run(toy):
    card = (toy / "README.md").read_text()
    assert "160 pictures of 40 captions: 4 of each." in card and "| generator | `toyworld-renderer` |" in card
    assert "![captions with their pictures](card/samples.png)" in card and "licence of the generator | a part" in card
    assert sorted(path.name for path in (toy / "card").iterdir()) == ["samples.png", "sizes.png", "variety.png"]
