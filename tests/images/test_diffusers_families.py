"""Every family draws what its own pipeline draws, with each caption encoded once."""

import inspect
import json

import numpy as np
import pytest
import tiny_diffusion
from test_diffusers_generator import pixels

from synclr_hf.errors import UserInputError
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.diffusers_loading import quiet
from synclr_hf.images.families import (
    FAMILIES,
    FamilyDefaults,
    call_parameters,
    check_text_to_image,
    family_defaults,
)
from synclr_hf.images.fast_path import lay_out
from synclr_hf.images.generators import ImageGeneratorOptions, create_image_generator

PROMPTS = ["a cat", "a cat", "a dog"]
SAVED = {
    "StableDiffusionPipeline": tiny_diffusion.save_tiny_stable_diffusion,
    "StableDiffusionXLPipeline": tiny_diffusion.save_tiny_sdxl,
    "StableDiffusion3Pipeline": tiny_diffusion.save_tiny_sd3,
    "FluxPipeline": tiny_diffusion.save_tiny_flux,
    "PixArtSigmaPipeline": tiny_diffusion.save_tiny_pixart,
    "SanaPipeline": tiny_diffusion.save_tiny_sana,
}
SIZE = {"FluxPipeline": 32}  # its own size is not that of its parts


def drawn_plainly(folder, guidance_scale):
    """Draw the pictures one by one with the pipeline of diffusers itself."""
    import torch
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    name = type(pipeline).__name__
    size = SIZE.get(name, 64 if name == "SanaPipeline" else 32)
    settings = {"num_inference_steps": 2, "guidance_scale": guidance_scale, "height": size, "width": size}
    if "use_resolution_binning" in inspect.signature(pipeline.__call__).parameters:
        settings["use_resolution_binning"] = False
    with quiet():
        return [
            pipeline(prompt=prompt, generator=torch.Generator().manual_seed(seed), **settings).images[0]
            for seed, prompt in enumerate(PROMPTS)
        ]


@pytest.mark.parametrize("name", SAVED)
def test_a_batch_with_captions_encoded_once_is_what_the_pipeline_draws_one_by_one(name, tmp_path):
    folder = SAVED[name](tmp_path)
    own_scheduler = json.loads((tmp_path / "pipeline" / "model_index.json").read_text())["scheduler"][1]
    options = ImageGeneratorOptions(scheduler=own_scheduler, size_drawn=SIZE.get(name))
    generator = create_image_generator(folder, options)
    encoded = []
    generator._pipeline.text_encoder.register_forward_pre_hook(lambda _, args: encoded.append(len(args[0])))
    settings = {"num_inference_steps": 2, "size": 32}
    no_empty_text = ("FluxPipeline", "StableDiffusionXLPipeline")  # distilled; zeros stand for it
    for guidance_scale, texts in ((2.5, 2 if name in no_empty_text else 4), (1.0, 2)):
        encoded.clear()
        ours = pixels(generator.generate(PROMPTS, seeds=range(3), guidance_scale=guidance_scale, **settings))
        assert sum(encoded) == texts
        assert abs(ours - pixels(drawn_plainly(folder, guidance_scale))).max() <= 1
    assert abs(ours[0] - ours[1]).max() > 10, "another seed, another picture"
    assert generator.provenance["size_drawn"] == ours.shape[1]
    alone = pixels(generator.generate(["a dog"], seeds=[2], guidance_scale=1.0, **settings))
    assert np.abs(alone - ours[2:]).max() <= 1
    lay_out(generator._pipeline)
    guided = pixels(generator.generate(PROMPTS, seeds=range(3), guidance_scale=2.5, **settings))
    assert abs(guided - pixels(drawn_plainly(folder, 2.5))).max() <= 1, "laid out as for a GPU"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_table_agrees_with_diffusers(name):
    family, call = FAMILIES[name], call_parameters(name)
    assert {one for one in family.encoded if one} <= call.keys()
    if name != "StableDiffusionPipeline":
        assert family.defaults.guidance_scale == call["guidance_scale"].default
        assert family.defaults.num_inference_steps == call["num_inference_steps"].default


def model_index(folder, class_name):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": class_name}))
    return str(folder)


def test_what_suits_a_model_is_read_without_its_weights(tmp_path):
    plain = model_index(tmp_path / "sd", "StableDiffusionPipeline")
    assert family_defaults("toy") == FamilyDefaults(2.5, 50)
    assert family_defaults(plain) == FamilyDefaults(2.5, 50, "DDIMScheduler")
    assert (
        family_defaults(f"diffusers:{model_index(tmp_path / 'xl', 'StableDiffusionXLPipeline')}").guidance_scale == 5
    )
    turbo = model_index(tmp_path / "sd-turbo", "StableDiffusionPipeline")
    assert family_defaults(turbo) == FamilyDefaults(1.0, 4)
    assert family_defaults(model_index(tmp_path / "FLUX.1-schnell", "FluxPipeline")).num_inference_steps == 4
    assert family_defaults(model_index(tmp_path / "Z-Image-Turbo", "ZImagePipeline")).num_inference_steps == 9
    distilled = model_index(tmp_path / "LCM_Dreamshaper_v7", "LatentConsistencyModelPipeline")
    assert family_defaults(distilled) == FamilyDefaults(8.5, 4)
    assert family_defaults(model_index(tmp_path / "cog", "CogView4Pipeline")) == FamilyDefaults(5.0, 50)
    assert family_defaults("no-such-org/no-such-model") == FamilyDefaults(2.5, 50)
    lora = "latent-consistency/lcm-lora-sdv1-5"
    assert family_defaults(plain, lora) == FamilyDefaults(1.0, 4, "LCMScheduler")
    lightning = family_defaults(plain, "ByteDance/SDXL-Lightning/sdxl_lightning_8step_lora.safetensors")
    assert lightning == FamilyDefaults(1.0, 8, "EulerDiscreteScheduler", trailing=True)
    assert family_defaults(plain, "org/watercolour") == family_defaults(plain)
    config = ImagesConfig("out", "captions", plain, adapter=lora).resolved()
    assert (config.guidance_scale, config.num_inference_steps) == (1.0, 4)


@pytest.mark.parametrize(
    "class_name",
    "StableDiffusionImg2ImgPipeline StableDiffusionControlNetPipeline TextToVideoSDPipeline WanPipeline "
    "AudioLDM2Pipeline DDPMPipeline DiTPipeline MarigoldDepthPipeline StableAudioPipeline ShapEPipeline".split(),
)
def test_a_pipeline_of_another_task_is_refused_before_its_weights_are_loaded(class_name, tmp_path):
    with pytest.raises(UserInputError, match=f"is a {class_name}, which does not draw pictures from texts"):
        create_image_generator(model_index(tmp_path, class_name))
    with pytest.raises(UserInputError, match=f"is a {class_name}, which"):
        ImagesConfig("out", "captions", str(tmp_path)).resolved()


def test_a_model_that_is_no_pipeline_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserInputError, match="is a single model, not a pipeline of diffusers, which does not draw"):
        create_image_generator(str(tmp_path))


@pytest.mark.parametrize(
    "class_name", [*FAMILIES, "Flux2Pipeline", "QwenImagePipeline", "KandinskyV22CombinedPipeline", "IFPipeline"]
)
def test_pipelines_that_draw_from_texts_pass(class_name):
    assert call_parameters(class_name)
    check_text_to_image("org/name", {"_class_name": class_name})
