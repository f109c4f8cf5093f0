"""Options of the diffusers back end, and what it says of those that cannot be used."""

import shutil

import pytest
from test_diffusers_generator import OPTIONS, pixels
from tiny_diffusion import save_tiny_lora, save_tiny_stable_diffusion

from synclr_hf.errors import UserInputError
from synclr_hf.images.generators import ImageGeneratorOptions, create_image_generator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_stable_diffusion(tmp_path_factory.mktemp("diffusion"))


@pytest.fixture(scope="module")
def lora(folder, tmp_path_factory):
    return save_tiny_lora(folder, tmp_path_factory.mktemp("lora") / "lcm-lora")


def built(folder, **options):
    return create_image_generator(folder, ImageGeneratorOptions(**options))


def drawn(generator, **options):
    return pixels(generator.generate(["a cat", "a dog"], seeds=[1, 2], **{**OPTIONS, **options}))


def refusal(folder, **options):
    with pytest.raises(UserInputError) as caught:
        built(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_schedulers_are_found_by_name(folder):
    for name, chosen in (
        ("ddim", "DDIMScheduler"),
        ("EulerDiscreteScheduler", "EulerDiscreteScheduler"),
        ("euler", "EulerDiscreteScheduler"),
        ("dpmsolverMULTISTEP", "DPMSolverMultistepScheduler"),
        ("lcm", "LCMScheduler"),
    ):
        generator = built(folder, scheduler=name)
        assert generator.provenance["scheduler"] == chosen == type(generator._pipeline.scheduler).__name__
        assert generator._pipeline.scheduler.config.clip_sample is False, "the model's own configuration is kept"
    assert abs(drawn(generator) - drawn(built(folder))).max() > 1


def test_a_scheduler_that_does_not_fit_is_refused(folder):
    told = refusal(folder, scheduler="DDIMSchedular")
    assert "unknown scheduler 'DDIMSchedular' (did you mean 'DDIMScheduler'?); allowed: DDIMScheduler, " in told
    assert told.endswith("type --scheduler DDIMScheduler, the model's own")
    assert "unknown scheduler 'FlowMatchLCMScheduler'" in refusal(folder, scheduler="FlowMatchLCMScheduler")


def test_size_drawn(folder):
    generator = built(folder, size_drawn=48)
    assert drawn(generator).shape == (2, 48, 48, 3)
    assert generator.provenance["size_drawn"] == 48
    assert "multiples of 8; type --size-drawn 56" in refusal(folder, size_drawn=50)
    with pytest.raises(UserInputError, match=r"draws pictures of 48 px, smaller than --size 64; type --size 48, or"):
        drawn(generator, size=64)


def test_more_steps_than_the_model_was_trained_with(folder):
    with pytest.raises(UserInputError, match="--num-inference-steps 1001 is more than the 1000 that"):
        drawn(built(folder), num_inference_steps=1001)


def test_dtype(folder):
    generator = built(folder, dtype="bfloat16")
    assert generator.provenance["dtype"] == "bfloat16"
    difference = abs(drawn(generator) - drawn(built(folder)))
    assert 0 < difference.mean() < 4


def test_lora_weights_change_the_pictures_and_the_defaults(folder, lora):
    generator = built(folder, adapter=lora)
    assert generator.provenance["adapter"] == lora
    assert generator.provenance["scheduler"] == "LCMScheduler", "by the name of the weights"
    as_before = built(folder, adapter=f"{lora}/pytorch_lora_weights.safetensors", scheduler="ddim")
    assert abs(drawn(as_before) - drawn(built(folder))).max() > 10
    assert not hasattr(generator._pipeline.unet, "peft_config"), "nothing is left that would cost time"


def test_lora_weights_that_are_missing_or_do_not_fit(folder, lora, tmp_path):
    from safetensors.torch import load_file, save_file

    assert "'nowhere' cannot be used (there is no such file or folder); type --adapter" in refusal(
        folder, adapter="nowhere"
    )
    assert "found none); type --adapter" in refusal(folder, adapter=str(tmp_path))
    assert "'no-org/no-lora' cannot be used (" in refusal(folder, adapter="no-org/no-lora")
    weights = load_file(f"{lora}/pytorch_lora_weights.safetensors")
    for name, spoilt in (
        ("wide", {name: one.repeat(1, 2) for name, one in weights.items()}),
        ("other", {name.replace("unet.", "transformer."): one for name, one in weights.items()}),
        ("elsewhere", {name.replace("attn1", "attn7"): one for name, one in weights.items() if "attn1" in name}),
    ):
        save_file(spoilt, tmp_path / f"{name}.safetensors")
        told = refusal(folder, adapter=str(tmp_path / f"{name}.safetensors"))
        assert f"{name}.safetensors' cannot be used (" in told and "type --adapter" in told
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    assert "cannot be used (" in refusal(folder, adapter=str(tmp_path / "broken.safetensors"))
    assert "and found several: broken" in refusal(folder, adapter=str(tmp_path))


@pytest.mark.parametrize("flags_everything", [True, False])
def test_a_safety_checker_blocks_or_is_left_out(flags_everything, tmp_path):
    folder = save_tiny_stable_diffusion(tmp_path, flags_everything=flags_everything)
    generator = built(folder)
    pictures = list(generator.generate(["a cat", "a dog"], seeds=[1, 2], **OPTIONS))
    assert [picture is None for picture in pictures] == [flags_everything] * 2
    assert generator.provenance["size_drawn"] == 32
    unchecked = built(folder, safety_checker=False)
    assert unchecked._pipeline.safety_checker is None
    if not flags_everything:
        assert abs(pixels(pictures) - drawn(unchecked)).max() <= 1


def test_captions_that_are_longer_than_the_text_encoder_reads(folder):
    generator = built(folder)
    assert not generator.is_cut("a cat")
    assert not generator.is_cut("a" * 75), "the tokenizer knows single letters; 75 and two marks are read"
    assert generator.is_cut("a" * 76)
    assert generator.is_cut("a cat on a mat, " * 30)


def test_nothing_is_printed_while_it_loads_and_draws(folder, capfd):
    built(folder)  # what the libraries remark when they are imported
    capfd.readouterr()
    generator = built(folder)
    assert generator.is_cut("word " * 200)
    drawn(generator)
    list(generator.generate(["word " * 200], seeds=[1], **OPTIONS))
    assert capfd.readouterr() == ("", "")


def test_a_model_whose_output_is_no_picture_is_refused(folder):
    generator = built(folder)
    processor = generator._pipeline.image_processor
    processor.postprocess = lambda image, **_: image[:, :, None]
    with pytest.raises(UserInputError, match=r"returned \(2, 3, 1, 32, 32\), not 2 RGB pictures; type"):
        drawn(generator)


def test_a_pipeline_that_lacks_weights(folder, tmp_path):
    shutil.copy(f"{folder}/model_index.json", tmp_path)
    assert "cannot be loaded (" in refusal(str(tmp_path))
