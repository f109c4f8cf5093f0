import json

import numpy as np
import pytest
from datasets import load_dataset

from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.errors import UserInputError
from synclr_hf.images.generators import IMAGE_GENERATORS, create_image_generator, find_image_generator
from synclr_hf.images.stage import ImagesConfig, write_images

OPTIONS = {"guidance_scale": 2.5, "num_inference_steps": 2, "size": 24}


def tokenizer_files(folder):
    """Write the files of a CLIP tokenizer that knows single bytes only."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return vocabulary


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny random Stable Diffusion, saved to disk."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    path = tmp_path_factory.mktemp("diffusion")
    vocabulary = tokenizer_files(path)
    tokenizer = CLIPTokenizer(vocab=str(path / "vocab.json"), merges=str(path / "merges.txt"), model_max_length=77)
    blocks = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            cross_attention_dim=32,
            attention_head_dim=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            **blocks,
        )
        vae = AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
            latent_channels=4,
            sample_size=32,
            **blocks,
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(vocabulary),
                hidden_size=32,
                intermediate_size=37,
                num_hidden_layers=2,
                num_attention_heads=4,
                bos_token_id=vocabulary["<|startoftext|>"],
                eos_token_id=vocabulary["<|endoftext|>"],
            )
        )
    scheduler = DDIMScheduler(clip_sample=False, steps_offset=1)
    pipeline = StableDiffusionPipeline(
        vae, text, tokenizer, unet, scheduler, safety_checker=None, feature_extractor=None
    )
    pipeline.save_pretrained(path / "pipeline")
    return str(path / "pipeline")


@pytest.fixture(scope="module")
def generator(folder):
    return create_image_generator(f"diffusers:{folder}")


def pixels(pictures):
    return np.stack([np.asarray(picture, dtype=int) for picture in pictures])


def test_pictures_have_the_size_asked_for_and_say_what_drew_them(generator, folder):
    pictures = generator.generate(["a cat", "a dog"], seeds=[1, 2], **OPTIONS)
    assert [(picture.mode, picture.size) for picture in pictures] == [("RGB", (24, 24))] * 2
    assert generator.provenance == {
        "generator": folder,
        "revision": None,
        "adapter": None,
        "scheduler": "DDIMScheduler",
        "size_drawn": 32,
        "dtype": "float32",
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
