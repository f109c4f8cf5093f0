import json

import numpy as np
import pytest
from datasets import load_dataset
from tiny_diffusion import save_tiny_stable_diffusion

from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.errors import UserInputError
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.generators import IMAGE_GENERATORS, create_image_generator, find_image_generator
from synclr_hf.images.stage import write_images

OPTIONS = {"guidance_scale": 2.5, "num_inference_steps": 2, "size": 24}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_stable_diffusion(tmp_path_factory.mktemp("diffusion"))


@pytest.fixture(scope="module")
def generator(folder):
    return create_image_generator(f"diffusers:{folder}")


def pixels(pictures):
    return np.stack([np.asarray(picture, dtype=int) for picture in pictures])


def test_pictures_have_the_models_own_size_and_say_what_drew_them(generator, folder):
    pictures = list(generator.generate(["a cat", "a dog"], seeds=[1, 2], **OPTIONS))
    assert [(picture.mode, picture.size) for picture in pictures] == [("RGB", (32, 32))] * 2
    assert generator.provenance == {
        "generator": folder,
        "back_end": "diffusers",
        "revision": None,
        "adapter": None,
        "scheduler": "DDIMScheduler",
        "size_drawn": 32,
        "dtype": "float32",
        "device": "cpu",
    }


def test_a_picture_is_the_same_alone_and_in_a_batch(generator):
    together = pixels(generator.generate(["a cat", "a dog", "a cat"], seeds=[1, 2, 3], **OPTIONS))
    alone = pixels(generator.generate(["a dog"], seeds=[2], **OPTIONS))
    assert abs(together[1] - alone[0]).max() <= 1
    assert abs(together[0] - together[2]).max() > 10, "another seed, another picture"


def test_it_draws_what_the_captions_stage_wrote(tmp_path, folder):
    captions = write_captions(CaptionsConfig(tmp_path / "captions", num_captions=3))
    config = ImagesConfig(tmp_path / "images", captions, folder, images_per_caption=2, **OPTIONS)
    rows = load_dataset(str(write_images(config)), split="train")
    assert len(rows) == 3 and all(len(row["images"]) == 2 for row in rows)
    assert json.loads(rows[0]["provenance"])["scheduler"] == "DDIMScheduler"


def test_names_and_a_pipeline_that_cannot_be_loaded(tmp_path):
    assert find_image_generator("org/name").import_string == IMAGE_GENERATORS["diffusers"]
    (tmp_path / "empty").mkdir()
    for spec in (str(tmp_path / "empty"), "diffusers:no-such-org/no-such-model"):
        with pytest.raises(
            UserInputError, match=r"the image generator '.*' cannot be loaded \(.*--image-generator toy"
        ):
            create_image_generator(spec)
