"""The fast path draws the same pictures, fits the memory, and waits for nothing in the loop."""

import logging

import pytest
from pretend_device import OnDevice, Waits, moved
from test_diffusers_generator import OPTIONS, pixels
from tiny_diffusion import save_tiny_stable_diffusion

from synclr_hf.errors import UserInputError
from synclr_hf.images import fast_path
from synclr_hf.images.batching import fitting_batch
from synclr_hf.images.diffusers_loading import quiet
from synclr_hf.images.fast_path import CompiledBlocks, HostTimesteps, SlicedDecoder, lay_out
from synclr_hf.images.generators import ImageGeneratorOptions, create_image_generator

PROMPTS = [f"a cat on mat {number // 4}" for number in range(10)]
SEEDS = list(range(10))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_stable_diffusion(tmp_path_factory.mktemp("diffusion"))


def built(folder, batch_size=4):
    return create_image_generator(folder, ImageGeneratorOptions(batch_size=batch_size))


def drawn(generator):
    return pixels(generator.generate(PROMPTS, seeds=SEEDS, **OPTIONS))


@pytest.fixture(scope="module")
def one_by_one(folder):
    return drawn(built(folder, batch_size=1))


def limited(module, rows):
    """Let a module run out of memory with more than so many rows, and keep the rows that it was called with."""
    import torch

    calls = []

    def check(_, args):
        calls.append(len(args[0]))
        if len(args[0]) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    module.register_forward_pre_hook(check)
    return calls


def test_a_batch_of_32_is_what_single_pictures_are(folder, one_by_one):
    generator = built(folder, batch_size=32)
    calls = limited(generator._pipeline.unet, 1000)
    assert abs(drawn(generator) - one_by_one).max() <= 1
    assert calls == [20] * OPTIONS["num_inference_steps"], "ten pictures, conditional and unconditional at once"


def test_the_next_batch_is_drawn_when_its_first_picture_is_asked_for(folder):
    generator = built(folder)
    calls = limited(generator._pipeline.unet, 1000)
    pictures = generator.generate(PROMPTS, seeds=SEEDS, **OPTIONS)
    assert calls == []
    for _ in range(4):
        next(pictures)
    assert calls == [8, 8]
    next(pictures)
    assert calls == [8] * 4


def test_out_of_memory_halves_the_batch_for_good_and_draws_the_same(folder, one_by_one, caplog):
    generator = built(folder, batch_size=32)
    calls = limited(generator._pipeline.unet, 4)
    with caplog.at_level(logging.WARNING):
        assert abs(drawn(generator) - one_by_one).max() <= 1
    assert calls == [20, 10, *[4] * 10], "32 holds ten; then five; then two, kept"
    told = [record.getMessage() for record in caplog.records if "out of memory" in record.getMessage()]
    assert told == [
        "out of memory: 5 pictures at once from here on, not 10",
        "out of memory: 2 pictures at once from here on, not 5",
    ]


def test_a_device_that_does_not_hold_one_picture(folder):
    generator = built(folder)
    limited(generator._pipeline.unet, 1)
    with pytest.raises(UserInputError, match=r"the memory of cpu does not hold .* with one picture; type a smaller"):
        drawn(generator)


def test_the_vae_decodes_in_slices_that_fit(folder, one_by_one, monkeypatch):
    generator = built(folder, batch_size=10)
    calls = limited(generator._pipeline.vae.decoder, 5)
    assert abs(drawn(generator) - one_by_one).max() <= 1
    assert calls == [10, 5, 5]
    assert abs(drawn(generator) - one_by_one).max() <= 1
    assert calls == [10, 5, 5, 5, 5], "it remembers"
    monkeypatch.setattr(fast_path, "ELEMENTS_AT_ONCE", 256 * 32 * 32 * 3)
    smaller = built(folder, batch_size=10)
    calls = limited(smaller._pipeline.vae.decoder, 1000)
    assert abs(drawn(smaller) - one_by_one).max() <= 1
    assert calls == [3, 3, 3, 1]


def test_slices_of_both_kinds_of_output():
    import torch
    from diffusers.models.autoencoders.vae import DecoderOutput

    def decode(latents, return_dict=True):
        if len(latents) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return DecoderOutput(sample=2 * latents) if return_dict else (2 * latents,)

    latents = torch.randn(5, 4, 2, 2)
    assert torch.equal(SlicedDecoder(decode, 8)(latents).sample, 2 * latents)
    assert torch.equal(SlicedDecoder(decode, 8)(latents, return_dict=False)[0], 2 * latents)


def test_the_batch_that_fits():
    gib = 2**30
    assert fitting_batch(one=5 * gib, four=8 * gib, held=4 * gib, free=76 * gib) == 64, "the largest"
    assert fitting_batch(one=5 * gib, four=8 * gib, held=4 * gib, free=20 * gib) == 16, "17, in steps of 8"
    assert fitting_batch(one=5 * gib, four=8 * gib, held=4 * gib, free=6 * gib) == 5
    assert fitting_batch(one=5 * gib, four=8 * gib, held=4 * gib, free=0) == 1


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_the_denoising_loop_does_not_wait_for_the_device(folder, scheduler):
    import torch

    pipeline = create_image_generator(folder, ImageGeneratorOptions(scheduler=scheduler))._pipeline
    texts = pipeline.encode_prompt(["a cat", "a dog"], "cpu", 1, True)

    def run(**settings):
        generator = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        settings = {"guidance_scale": 2.5, "num_inference_steps": 3, "output_type": "latent", **settings}
        names = ("prompt_embeds", "negative_prompt_embeds")
        with quiet():
            return pipeline(generator=generator, **dict(zip(names, texts, strict=True)), **settings).images

    expected = run()
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        moved(part)
    texts = [OnDevice(text) for text in texts]

    def waits():
        seen = []

        def note(_, step, timestep, named):
            seen.append(len(watch.seen))
            return named

        with torch.no_grad(), Waits() as watch:
            latents = run(callback_on_step_end=note)
        assert (latents.held - expected).abs().max() < 1e-3
        return seen

    if scheduler == "DDIMScheduler":
        plain = waits()
        assert plain[-1] - plain[0] >= 4 * 2, "what it is for"
    HostTimesteps(pipeline.scheduler, pipeline.unet)
    assert len(set(waits())) == 1, "before the loop only"


def compiling(generator, seconds=0.0):
    generator._blocks = fast_path.CompiledBlocks(generator._pipeline.unet, seconds)
    return generator._blocks


def test_blocks_are_compiled_only_once_that_pays(folder):
    generator = built(folder)
    blocks = compiling(generator, seconds=600.0)
    blocks.consider(drawn=4, seconds=1.0, left=100)
    assert not blocks.active
    blocks.consider(drawn=0, seconds=0.0, left=10**9)
    assert not blocks.active
    blocks.consider(drawn=4, seconds=1.0, left=2396)
    assert blocks.active
    compiled = [one for one in generator._pipeline.unet.modules() if one._compiled_call_impl is not None]
    assert {type(one).__name__ for one in compiled} == {"BasicTransformerBlock", "ResnetBlock2D"}


def test_a_model_that_cannot_be_compiled_goes_on(folder, one_by_one, caplog):
    import torch

    generator = built(folder)
    first = generator._pipeline.unet.down_blocks[0].resnets[0]
    first.norm1.register_forward_pre_hook(lambda *_: torch._dynamo.graph_break())
    blocks = compiling(generator)
    with caplog.at_level(logging.WARNING, "synclr_hf"):
        assert abs(drawn(generator) - one_by_one).max() <= 1
    assert not blocks.active
    told = [record.getMessage() for record in caplog.records if record.name.startswith("synclr_hf")]
    assert len(told) == 1 and told[0].startswith("the model cannot be compiled and goes on as it is: ")


@pytest.mark.slow
def test_compiled_blocks_draw_the_same_in_batches_of_one_size(folder, one_by_one):
    generator = built(folder)
    lay_out(generator._pipeline)
    blocks = compiling(generator)
    calls = limited(generator._pipeline.unet, 1000)
    assert abs(drawn(generator) - one_by_one).max() <= 1
    assert blocks.active
    assert calls == [8] * 6, "the last two pictures travel with two more"
    calls.clear()
    alone = pixels(generator.generate(PROMPTS[:1], seeds=SEEDS[:1], **OPTIONS))
    assert abs(alone - one_by_one[:1]).max() <= 1 and calls == [2, 2], "a batch much smaller is not padded"


def test_a_net_whose_blocks_cannot_be_compiled_goes_on_as_it_is(caplog):
    from diffusers import UNet2DConditionModel

    net = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=8,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        mid_block_type=None,
    )
    blocks = CompiledBlocks(net)
    blocks.consider(1, 1e9, 0)
    assert not blocks.active and "cannot be compiled and goes on as it is" in caplog.text
