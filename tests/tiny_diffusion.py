"""Tiny random text-to-image pipelines, saved to disk."""

import json
from pathlib import Path

BLOCKS = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}


def tokenizer_files(folder):
    """Write the files of a CLIP tokenizer that knows single bytes only."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return vocabulary


def save_tiny_stable_diffusion(path, *, flags_everything=None):
    """Save a tiny random Stable Diffusion 1.x of 32 pixels in a folder, and return its path.

    With `flags_everything` it has a safety checker, which blocks all pictures, or none.
    """
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    path = _made(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet, vae = _unet(cross_attention_dim=32), _autoencoder()
        text = _clip(path)
        checker = None if flags_everything is None else _safety_checker(flags_everything)
    pipeline = StableDiffusionPipeline(
        vae,
        text,
        _clip_tokenizer(path),
        unet,
        DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=checker,
        feature_extractor=None if checker is None else _feature_extractor(),
        requires_safety_checker=checker is not None,
    )
    return _saved(pipeline, path)


def save_tiny_sdxl(path):
    """Save a tiny random Stable Diffusion XL of 32 pixels in a folder, and return its path."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    path = _made(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = _unet(
            cross_attention_dim=64,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=80,
            use_linear_projection=True,
        )
        parts = [_autoencoder(), _clip(path), _clip(path, projected=True)]
    tokenizer = _clip_tokenizer(path)
    pipeline = StableDiffusionXLPipeline(
        *parts, tokenizer, tokenizer, unet, EulerDiscreteScheduler(), add_watermarker=False
    )
    return _saved(pipeline, path)


def save_tiny_sd3(path):
    """Save a tiny random Stable Diffusion 3 of 32 pixels in a folder, and return its path."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    path = _made(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=64,
            caption_projection_dim=32,
            pooled_projection_dim=64,
            pos_embed_max_size=16,
        )
        vae = _autoencoder(shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False)
        one, two, three = _clip(path, projected=True), _clip(path, projected=True), _t5(width=64)
    clip, t5 = _clip_tokenizer(path), _t5_tokenizer()
    scheduler = FlowMatchEulerDiscreteScheduler()
    pipeline = StableDiffusion3Pipeline(transformer, scheduler, vae, one, clip, two, clip, three, t5)
    return _saved(pipeline, path)


def save_tiny_flux(path):
    """Save a tiny random Flux dev, which takes the guidance as an input, in a folder, and return its path."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    path = _made(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=[4, 4, 8],
            guidance_embeds=True,
        )
        vae = _autoencoder(shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False)
        clip, t5 = _clip(path), _t5()
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    pipeline = FluxPipeline(scheduler, vae, clip, _clip_tokenizer(path), t5, _t5_tokenizer(), transformer)
    return _saved(pipeline, path)


def save_tiny_pixart(path):
    """Save a tiny random PixArt-Sigma of 32 pixels in a folder, and return its path."""
    import torch
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    path = _made(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = PixArtTransformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=4,
            out_channels=8,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            cross_attention_dim=32,
            caption_channels=32,
            use_additional_conditions=False,
        )
        vae, t5 = _autoencoder(), _t5()
    pipeline = PixArtSigmaPipeline(_t5_tokenizer(), t5, vae, transformer, DPMSolverMultistepScheduler())
    return _saved(pipeline, path)


def save_tiny_sana(path):
    """Save a tiny random Sana of 64 pixels in a folder, and return its path."""
    import torch
    from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SanaPipeline, SanaTransformer2DModel
    from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

    path = _made(path)
    blocks = {"block_types": ("ResBlock", "EfficientViTBlock"), "block_out_channels": (8, 8)}
    blocks |= {"layers_per_block": (1, 1), "qkv_multiscales": ((), (5,))}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = SanaTransformer2DModel(
            sample_size=32,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=8,
        )
        vae = AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            downsample_block_type="conv",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            **{f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in blocks.items()},
        )
        tokenizer = GemmaTokenizer(vocab={piece: number for number, piece in enumerate(_PIECES)}, merges=[])
        gemma = Gemma2Model(
            Gemma2Config(
                vocab_size=len(tokenizer),
                hidden_size=8,
                intermediate_size=16,
                head_dim=8,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=2,
                attn_implementation="eager",
            )
        )
    pipeline = SanaPipeline(tokenizer, gemma, vae, transformer, FlowMatchEulerDiscreteScheduler())
    return _saved(pipeline, path)


def save_tiny_lora(pipeline_folder, path, *, scale=0.5):
    """Save random LoRA weights for the UNet of a tiny Stable Diffusion, and return the folder."""
    import torch
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    unet = UNet2DConditionModel.from_pretrained(pipeline_folder, subfolder="unet")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
        weights = {name: scale * torch.randn_like(one) for name, one in get_peft_model_state_dict(unet).items()}
    StableDiffusionPipeline.save_lora_weights(str(path), unet_lora_layers=weights)
    return str(path)


def _made(path):
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


def _saved(pipeline, path):
    pipeline.save_pretrained(path / "pipeline")
    return str(path / "pipeline")


def _unet(**options):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        attention_head_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **BLOCKS,
        **options,
    )


def _autoencoder(**options):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=4,
        sample_size=32,
        **BLOCKS,
        **options,
    )


def _clip_tokenizer(path):
    from transformers import CLIPTokenizer

    tokenizer_files(path)
    return CLIPTokenizer(vocab=str(path / "vocab.json"), merges=str(path / "merges.txt"), model_max_length=77)


def _clip(path, *, projected=False):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    vocabulary = tokenizer_files(path)
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=32,
        bos_token_id=vocabulary["<|startoftext|>"],
        eos_token_id=vocabulary["<|endoftext|>"],
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


_PIECES = ["<pad>", "</s>", "<unk>", "\u2581", *"abcdefghijklmnopqrstuvwxyz"]


def _t5_tokenizer():
    from transformers import T5Tokenizer

    return T5Tokenizer(vocab=[(piece, 0.0) for piece in _PIECES], extra_ids=0, model_max_length=512)


def _t5(width=32):
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=len(_PIECES), d_model=width, d_kv=8, d_ff=37, num_layers=1, num_heads=4)
    return T5EncoderModel(config)


def _safety_checker(flags_everything):
    """Return a safety checker whose thresholds lie below, or above, every similarity."""
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(vision_config={**vision, "image_size": 16, "patch_size": 8}, projection_dim=16)
    checker = StableDiffusionSafetyChecker(config)
    with torch.no_grad():
        checker.concept_embeds_weights.fill_(-2.0 if flags_everything else 2.0)
        checker.special_care_embeds_weights.fill_(2.0)
    return checker


def _feature_extractor():
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=16)
