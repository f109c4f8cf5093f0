from __future__ import annotations

import hashlib
import subprocess
import sys
import time

import numpy as np
import pytest

from synclr_hf.errors import UserInputError
from synclr_hf.toyworld.bank import load_bank
from synclr_hf.toyworld.image_generator import ToyImageGenerator
from synclr_hf.toyworld.language_model import ToyLanguageModel

SETTINGS = {"guidance_scale": 2.5, "num_inference_steps": 50}


def captions(number=1):
    bank = load_bank()
    prompts = [f"dog => A dog runs.\n{bank[k % len(bank)].name} =>" for k in range(number * len(bank))]
    completed = ToyLanguageModel().complete(
        prompts, seeds=range(len(prompts)), temperature=0.8, top_p=0.9, max_new_tokens=100, stop=("\n",)
    )
    return [caption.strip() for caption in completed]


def digest(pictures):
    return hashlib.sha256(b"".join(picture.tobytes() for picture in pictures)).hexdigest()


def test_pictures_have_the_size_and_mode_that_was_asked_for():
    for size in (32, 50, 64, 96, 160, 224, 512):
        pictures = list(ToyImageGenerator().generate(captions()[::9], seeds=range(8), size=size, **SETTINGS))
        assert {(picture.mode, picture.size) for picture in pictures} == {("RGB", (size, size))}


def test_the_same_caption_and_seed_give_the_same_picture_in_any_batch():
    texts = captions()
    together = ToyImageGenerator().generate(texts, seeds=range(len(texts)), size=64, **SETTINGS)
    backwards = ToyImageGenerator().generate(texts[::-1], seeds=range(len(texts))[::-1], size=64, **SETTINGS)
    alone = [ToyImageGenerator().draw(text, seed, 64)[0] for seed, text in enumerate(texts)]
    assert (
        [p.tobytes() for p in together] == [p.tobytes() for p in list(backwards)[::-1]] == [p.tobytes() for p in alone]
    )


def test_another_process_draws_the_same_bits_without_torch():
    texts = captions()[::5]
    code = (
        "import hashlib, sys\n"
        "from synclr_hf.toyworld.image_generator import ToyImageGenerator\n"
        f"pictures = ToyImageGenerator().generate({texts!r}, seeds=range({len(texts)}), size=96, guidance_scale=2.5,"
        " num_inference_steps=50)\n"
        "print(hashlib.sha256(b''.join(p.tobytes() for p in pictures)).hexdigest())\n"
        "assert not {'torch', 'datasets', 'diffusers', 'transformers'} & set(sys.modules)\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert printed == digest(ToyImageGenerator().generate(texts, seeds=range(len(texts)), size=96, **SETTINGS))


def test_no_two_seeds_give_nearly_the_same_picture():
    for text in captions()[::2]:
        pictures = ToyImageGenerator().generate([text] * 8, seeds=range(8), size=64, **SETTINGS)
        small = np.stack([np.asarray(picture.reduce(4), dtype=float).ravel() for picture in pictures])
        apart = np.sqrt(((small[:, None] - small[None]) ** 2).mean(axis=2))
        assert apart[~np.eye(8, dtype=bool)].min() > 9, text


def test_high_guidance_keeps_nearer_to_the_prototype():
    def turns(scale):
        drawn = [ToyImageGenerator().draw("a key", seed, 32, scale)[1] for seed in range(40)]
        return np.mean([abs(one.turn) for scene in drawn for one in scene.things if one.part == "main"])

    assert turns(10.0) < 0.7 * turns(1.0)
    assert turns(0.0) == turns(1.0)


def test_at_least_a_hundred_pictures_a_second():
    texts = captions(2)
    generator = ToyImageGenerator()
    list(generator.generate(texts[:20], seeds=range(20), size=128, **SETTINGS))
    start = time.process_time()
    list(generator.generate(texts, seeds=range(len(texts)), size=128, **SETTINGS))
    assert len(texts) / (time.process_time() - start) > 100


def test_provenance_names_the_renderer():
    generator = ToyImageGenerator()
    generator.generate(["a mug"], seeds=[0], size=64, **SETTINGS)
    assert generator.provenance["generator"] == "toyworld-renderer"
    assert generator.provenance["size_drawn"] == 64
    assert isinstance(generator.provenance["revision"], str)


@pytest.mark.parametrize("size", [0, -1, 31, 513])
def test_impossible_sizes_get_one_line(size):
    with pytest.raises(UserInputError, match=r"allowed: 32\.\.512; type --size 128"):
        ToyImageGenerator().generate(["a mug"], seeds=[0], size=size, **SETTINGS)


def test_prompts_and_seeds_must_match():
    with pytest.raises(UserInputError, match="1 prompts came with 2 seeds"):
        ToyImageGenerator().generate(["a mug"], seeds=[0, 1], size=64, **SETTINGS)
