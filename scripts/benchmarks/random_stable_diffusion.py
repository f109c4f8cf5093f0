"""Stable Diffusion with random weights: the cost of the real one, without its pictures.

The tokenizer knows single bytes only; the text encoder reads 77 tokens all the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SIZES: dict[str, dict[str, Any]] = {
    "stable-diffusion-1.5": {
        "unet": {"sample_size": 64, "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768},
        "vae": {"sample_size": 512, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
        "text": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    },
    "small": {
        "unet": {"sample_size": 16, "block_out_channels": (64, 128, 128), "cross_attention_dim": 64},
        "vae": {"sample_size": 128, "block_out_channels": (32, 64, 64, 64), "layers_per_block": 1},
        "text": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4},
    },
}
"""`stable-diffusion-1.5`: 860 million weights in the UNet, 512 px; `small`: for a CPU, 128 px."""

VOCABULARY = 49408


def save_random_stable_diffusion(folder: str | Path, size: str) -> str:
    """Save a pipeline of one of `SIZES` in a folder, and return it.

    Args:
        folder: where to; the weights of `stable-diffusion-1.5` take 2 GB, in bfloat16.
        size: key of `SIZES`.
    """
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    shapes, cuda = SIZES[size], torch.cuda.is_available()
    levels, sizes = len(shapes["unet"]["block_out_channels"]), len(shapes["vae"]["block_out_channels"])
    torch.manual_seed(0)
    with torch.device("cuda" if cuda else "cpu"):
        unet = UNet2DConditionModel(
            **shapes["unet"],
            attention_head_dim=8,
            down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
        )
        vae = AutoencoderKL(
            **shapes["vae"],
            down_block_types=("DownEncoderBlock2D",) * sizes,
            up_block_types=("UpDecoderBlock2D",) * sizes,
            latent_channels=4,
        )
        text = CLIPTextModel(CLIPTextConfig(**shapes["text"], vocab_size=VOCABULARY, eos_token_id=VOCABULARY - 1))
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    tokenizer = _tokenizer(Path(folder))
    pipeline = StableDiffusionPipeline(
        vae, text, tokenizer, unet, scheduler, safety_checker=None, feature_extractor=None
    )
    if cuda:
        pipeline.to(torch.bfloat16)
    pipeline.save_pretrained(Path(folder) / "pipeline")
    return str(Path(folder) / "pipeline")


def _tokenizer(folder: Path) -> Any:
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    fillers = [f"<|{number}|>" for number in range(VOCABULARY - len(tokens) - 2)]
    tokens += [*fillers, "<|startoftext|>", "<|endoftext|>"]
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    merges.write_text("#version: 0.2\n")
    return CLIPTokenizer(vocab=str(vocabulary), merges=str(merges), model_max_length=77)
