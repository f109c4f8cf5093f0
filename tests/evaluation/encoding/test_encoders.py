"""Every kind of vision model: picture features, patch maps and preparation are those of transformers itself."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_evaluation import tiny_encoder, tiny_model
from transformers import (
    AutoImageProcessor,
    AutoModel,
    BeitConfig,
    BertConfig,
    BitImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    ConvNextConfig,
    ConvNextImageProcessorPil,
    DeiTConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ViTConfig,
    ResNetConfig,
    Siglip2Config,
    SiglipConfig,
    SiglipImageProcessorPil,
    SwinConfig,
    ViTConfig,
    ViTImageProcessorPil,
    ViTMAEConfig,
)

from synclr_hf.data.pictures import IMAGENET_MEAN, IMAGENET_STD
from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.encoder_loading import (
    NORMALISATIONS,
    load_encoder,
    own_preparation,
    untrained_model,
)
from synclr_hf.evaluation.encoding.encoders import (
    Encoder,
    evaluating,
    patch_maps,
    patch_size,
    picture_tokens,
    pooled_features,
)
from synclr_hf.evaluation.encoding.features import encoder_features
from synclr_hf.evaluation.labelled.labelled_images import labelled_pictures
from synclr_hf.evaluation.labelled.pictures import PLAIN, Resizing
from synclr_hf.models.configuration_synclr import SynCLRConfig

VIT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
MLP = {"intermediate_size": 32}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 64}
TEXT |= {"bos_token_id": 0, "eos_token_id": 1}
STAGES = {"hidden_sizes": [8, 8], "depths": [1, 1]}
ANY_SHAPE = {**{name: value for name, value in VIT.items() if name != "image_size"}, "num_patches": 16}
PLAIN_VITS = {
    "synclr": (SynCLRConfig(**VIT), 1),
    "dinov2": (Dinov2Config(**VIT), 1),
    "registers": (Dinov2WithRegistersConfig(**VIT, num_register_tokens=3), 4),
    "dinov3": (DINOv3ViTConfig(**VIT, **MLP, num_register_tokens=2), 3),
    "clip tower": (CLIPVisionConfig(**VIT, **MLP), 1),
    "clip": (CLIPConfig(vision_config={**VIT, **MLP}, text_config=TEXT), 1),
    "siglip": (SiglipConfig(vision_config={**VIT, **MLP}, text_config=TEXT), 0),
    "siglip2": (Siglip2Config(vision_config={**ANY_SHAPE, **MLP}, text_config=TEXT), 0),
    "vit": (ViTConfig(**VIT, **MLP), 1),
    "beit": (BeitConfig(**VIT, **MLP, use_relative_position_bias=True), 1),
    "deit": (DeiTConfig(**VIT, **MLP), 2),
    "mae": (ViTMAEConfig(**VIT, **MLP, mask_ratio=0.0), 1),
}
"""Configuration and number of special tokens."""


def built(config):
    torch.manual_seed(0)
    return AutoModel.from_config(deepcopy(config)).eval()


def normals(height, width, seed=0):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", PLAIN_VITS)
def test_patch_maps_leave_special_tokens_out(kind):
    config, num_special = PLAIN_VITS[kind]
    encoder = Encoder(kind, built(config), 32)
    assert patch_size(encoder.model) == 8
    part = encoder.model.vision_model if hasattr(config, "vision_config") else encoder.model
    tokens = []
    part.register_forward_hook(lambda _, inputs, output: tokens.append(output.last_hidden_state))
    for height, width in ((32, 32), (32, 48)):
        maps = patch_maps(encoder, normals(height, width))
        assert maps.shape == (2, height // 8, width // 8, 16) and maps.dtype == torch.float32
        assert tokens[-1].shape[1] == num_special + maps[0, ..., 0].numel()
        expected = part.post_layernorm(tokens[-1]) if kind.startswith("clip") else tokens[-1]
        assert torch.equal(maps.flatten(1, 2), expected[:, num_special:])
        assert patch_maps(encoder, normals(height, width), num_layers=2).shape[-1] == 32


def test_siglip2_of_any_shape_is_given_its_patches_in_reading_order():
    convolving, linear = (built(PLAIN_VITS[kind][0]) for kind in ("siglip", "siglip2"))
    weights = convolving.vision_model.state_dict()
    name = next(name for name in weights if name.endswith("patch_embedding.weight"))  # (D, 3, 8, 8)
    weights[name] = weights[name].permute(0, 2, 3, 1).flatten(1)
    linear.vision_model.load_state_dict(weights)
    for pooling in ("cls", "mean_patch"):
        first, second = (Encoder("siglip", model, 32, pooling=pooling) for model in (convolving, linear))
        pixels = normals(32, 32)
        torch.testing.assert_close(
            pooled_features(first, pixels), pooled_features(second, pixels), rtol=1e-4, atol=1e-5
        )
    maps = [patch_maps(Encoder("siglip", model, 32), normals(32, 32)) for model in (convolving, linear)]
    torch.testing.assert_close(*maps, rtol=1e-4, atol=1e-5)


def test_mae_hides_no_patches_and_leaves_them_in_their_order(tmp_path):
    built(ViTMAEConfig(**VIT, **MLP)).save_pretrained(tmp_path)
    encoder = load_encoder(str(tmp_path), device="cpu")
    tokens = []
    encoder.model.embeddings.register_forward_hook(lambda _, inputs, output: tokens.append(output[0]))
    pixels = normals(32, 32)
    first = patch_maps(encoder, pixels)
    assert torch.equal(first, patch_maps(encoder, pixels))
    pixels[:, :, 16:24, 8:16] += 1  # row 2, column 1
    patch_maps(encoder, pixels)
    assert (tokens[2] - tokens[0]).abs().sum(dim=(0, 2)).nonzero().flatten().tolist() == [1 + 2 * 4 + 1]


@pytest.mark.parametrize("kind", [kind for kind in PLAIN_VITS if kind != "mae"])
def test_inner_layers_are_what_a_shorter_model_gives(kind):
    config, _ = PLAIN_VITS[kind]
    model = built(config)
    both = pooled_features(Encoder(kind, model, 32, num_layers=2, pooling="cls_mean_patch"), normals(32, 32))
    maps = patch_maps(Encoder(kind, model, 32), normals(32, 32), num_layers=2)
    part = model.vision_model if hasattr(config, "vision_config") else model
    holder = next(module for module in part.modules() if len(getattr(module, _layers_name(module), ())) == 3)
    layers = getattr(holder, _layers_name(holder))
    setattr(holder, _layers_name(holder), layers[:2])
    part.config.num_hidden_layers = 2
    short = Encoder(kind, model, 32, pooling="cls_mean_patch")
    torch.testing.assert_close(both[:, :32], pooled_features(short, normals(32, 32)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(maps[..., :16], patch_maps(short, normals(32, 32)), rtol=1e-5, atol=1e-6)


def _layers_name(module):
    return next(
        (name for name in ("layers", "layer") if isinstance(getattr(module, name, None), torch.nn.ModuleList)), ""
    )


def test_poolings_are_made_of_class_token_and_patches():
    encoder = tiny_encoder()
    pixels = normals(32, 32)
    with torch.no_grad():
        tokens = encoder.model(pixels).last_hidden_state
    cls, mean = tokens[:, 0], tokens[:, 1:].mean(dim=1)
    for pooling, expected in (("cls", cls), ("mean_patch", mean), ("cls_mean_patch", torch.cat([cls, mean], dim=1))):
        found = pooled_features(tiny_encoder(pooling=pooling), pixels)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    with evaluating(encoder.model):
        torch.testing.assert_close(picture_tokens(encoder.model, pixels), cls, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("config", [ConvNextConfig(**STAGES, num_stages=2), ResNetConfig(**STAGES, embedding_size=8)])
def test_convolutional_networks_have_the_mean_of_their_map_and_no_patches(config):
    encoder = Encoder("a network", built(config), 32)
    with torch.no_grad():
        expected = encoder.model(normals(32, 48)).last_hidden_state.mean(dim=(2, 3))
    torch.testing.assert_close(pooled_features(encoder, normals(32, 48)), expected)
    for needs_patches in (
        lambda: patch_maps(encoder, normals(32, 32)),
        lambda: pooled_features(Encoder("a network", encoder.model, 32, pooling="mean_patch"), normals(32, 32)),
    ):
        with pytest.raises(UserInputError, match="'a network' .* has no patch tokens; allowed: a plain vision trans"):
            needs_patches()
    with pytest.raises(UserInputError, match="has no patch tokens"):
        patch_size(encoder.model)
    with pytest.raises(UserInputError, match="cannot give its last 2 layers; allowed: 1 to 1"):
        pooled_features(Encoder("a network", encoder.model, 32, num_layers=2), normals(32, 32))


def test_stages_of_windows_have_the_mean_of_their_tokens():
    swin = SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 1], window_size=2)
    encoder = Encoder("swin", built(swin), 32)
    with torch.no_grad():
        expected = encoder.model(normals(32, 32)).pooler_output
    torch.testing.assert_close(pooled_features(encoder, normals(32, 32)), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(UserInputError, match="'swin' .* has no patch tokens"):
        patch_maps(encoder, normals(32, 32))


def test_what_does_not_fit_is_told():
    with pytest.raises(UserInputError, match=r"'pixels' \(raw pixels\) has no patch tokens"):
        patch_maps(tiny_encoder(model=None), normals(32, 32))
    with pytest.raises(UserInputError, match="'tiny' has patches of 8 pixels, pictures of 32 x 36 do not divide"):
        patch_maps(tiny_encoder(), normals(32, 36))
    with pytest.raises(UserInputError, match="cannot give its last 3 layers; allowed: 1 to 2"):
        patch_maps(tiny_encoder(), normals(32, 32), num_layers=3)
    with pytest.raises(UserInputError, match="stands for raw pixels"):
        pooled_features(tiny_encoder(model=None), normals(32, 32))


SQUARE = {"height": 32, "width": 32}
OURS = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
PROCESSORS = {
    "synclr": (BitImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE, **OURS), "class"),
    "clip": (CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE), "pooler"),
    "siglip": (SiglipImageProcessorPil(size=SQUARE), "pooler"),
    "dinov2": (BitImageProcessorPil(size={"shortest_edge": 36}, crop_size=SQUARE, **OURS), "class"),
    "vit": (ViTImageProcessorPil(size=SQUARE), "class"),
    "convnext": (ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=0.875), "map"),
}


def photographs():
    generator = np.random.default_rng(0)
    small = [Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8)) for _ in range(5)]
    sizes = ((64, 48), (50, 37), (90, 133), (32, 32), (222, 111))
    return [picture.resize(size, Image.Resampling.BILINEAR) for picture, size in zip(small, sizes, strict=True)]


@pytest.mark.parametrize("kind", PROCESSORS)
def test_features_are_those_of_the_models_own_image_processor(kind, tmp_path):
    processor, where = PROCESSORS[kind]
    config = ConvNextConfig(**STAGES, num_stages=2) if kind == "convnext" else PLAIN_VITS[kind][0]
    built(config).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    data = labelled_pictures(photographs(), [0, 1, 0, 1, 0], ["a", "b"])
    found = encoder_features(load_encoder(str(tmp_path), device="cpu", dtype="float32"), data).features
    model = AutoModel.from_pretrained(tmp_path).eval()
    model = model.vision_model if hasattr(model.config, "vision_config") else model
    inputs = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")(images=photographs(), return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs)
    expected = {
        "class": lambda: output.last_hidden_state[:, 0],
        "pooler": lambda: output.pooler_output,
        "map": lambda: output.last_hidden_state.mean(dim=(2, 3)),
    }[where]()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model saved without an image processor."""
    place = tmp_path_factory.mktemp("tiny")
    tiny_model().save_pretrained(place)
    return str(place)


def test_settings_come_from_the_model_unless_they_are_given(folder, tmp_path):
    plain = load_encoder(folder, device="cpu")
    assert (plain.image_size, plain.image_mean, plain.resizing) == (32, IMAGENET_MEAN, PLAIN)
    clip = load_encoder(folder, device="cpu", normalisation="clip", image_size=48, pooling="mean_patch", num_layers=2)
    assert (clip.image_mean, clip.image_std) == NORMALISATIONS["clip"]
    assert clip.settings()["image_size"] == 48 and clip.settings()["pooling"] == "mean_patch"
    assert len({plain.fingerprint, clip.fingerprint, load_encoder(folder, dtype="bfloat16").fingerprint}) == 3
    assert plain.fingerprint == load_encoder(folder, device="cpu", batch_size=3).fingerprint
    tiny_model().save_pretrained(tmp_path)
    BitImageProcessorPil(size={"shortest_edge": 40}, crop_size=SQUARE, **OURS).save_pretrained(tmp_path)
    own = load_encoder(str(tmp_path), device="cpu")
    assert own.resizing == Resizing(40) and own.settings()["resizing"]["short_side"] == 40
    assert (
        load_encoder(str(tmp_path), device="cpu", image_size=32).resizing == PLAIN
    )  # the paper's B.5 for every model


def test_an_image_processor_that_needs_what_is_missing_is_read_all_the_same(tmp_path):
    built(PLAIN_VITS["dinov3"][0]).save_pretrained(tmp_path)
    facts = (
        '{"image_processor_type": "NobodyHasThisImageProcessor", "size": {"height": 48, "width": 48}, "resample": 2'
    )
    (tmp_path / "preprocessor_config.json").write_text(facts + ', "image_mean": [0.1, 0.2, 0.3]}')
    encoder = load_encoder(str(tmp_path), device="cpu")
    assert (encoder.image_size, encoder.image_mean) == (48, (0.1, 0.2, 0.3))
    assert encoder.resizing == Resizing(48, squashes=True, resample="bilinear")


def test_a_model_in_the_cache_whose_image_processor_is_unknown_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--org--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    tiny_model().save_pretrained(repository / "snapshots" / "abc")
    with pytest.raises(UserInputError, match="'org/name': its image processor is not in the cache.*type both"):
        own_preparation("org/name", tiny_model())
    (tmp_path / "preprocessor_config.json").write_text('{"size": 3')
    with pytest.raises(UserInputError, match="its preprocessor_config.json cannot be read; mend or remove the file"):
        own_preparation(str(tmp_path), tiny_model())
    known = repository / ".no_exist" / "abc"
    known.mkdir(parents=True)
    (known / "preprocessor_config.json").touch()  # the Hub was asked before: there is none
    assert own_preparation("org/name", tiny_model()).image_size == 32


def test_untrained_and_pixels(folder):
    first, same, other = (load_encoder(f"untrained:{folder}", seed=seed, device="cpu") for seed in (3, 3, 4))
    assert first.fingerprint == same.fingerprint and first.fingerprint != other.fingerprint
    assert first.name == f"untrained:{folder}" and first.fingerprint != load_encoder(folder, device="cpu").fingerprint
    state = torch.random.get_rng_state()
    untrained_model(folder, seed=0)
    assert torch.equal(state, torch.random.get_rng_state())
    pixels = load_encoder("pixels")
    assert pixels.model is None and pixels.image_size == 16


def test_models_that_cannot_be_used_are_refused(folder, tmp_path):
    with pytest.raises(UserInputError, match="unknown pooling 'max'; allowed: cls, mean_patch, cls_mean_patch"):
        load_encoder(folder, pooling="max")
    with pytest.raises(UserInputError, match="unknown normalisation 'clp' .did you mean 'clip'"):
        load_encoder(folder, normalisation="clp")
    with pytest.raises(UserInputError, match="unknown precision 'int8'; allowed: float32, bfloat16, float16"):
        load_encoder(folder, dtype="int8")
    with pytest.raises(UserInputError, match="--num-layers 0 cannot be used; allowed: 1 or more"):
        load_encoder(folder, num_layers=0)
    with pytest.raises(UserInputError, match="cannot be put on 'nowhere' .*; type --device cpu"):
        load_encoder(folder, device="nowhere")
    with pytest.raises(UserInputError, match="--encoder '.*nowhere' cannot be loaded"):
        load_encoder(str(tmp_path / "nowhere"), option="--encoder")
    with pytest.raises(UserInputError, match="cannot be loaded"):
        load_encoder(f"untrained:{tmp_path / 'nowhere'}")
    built(BertConfig(**{**TEXT, "num_hidden_layers": 1})).save_pretrained(tmp_path / "bert")
    with pytest.raises(UserInputError, match=r"\(BertModel\) does not see pictures"):
        load_encoder(str(tmp_path / "bert"), device="cpu")


def test_a_model_that_lacks_weights_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    tiny_model().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    removed = next(name for name in weights if "layer.1" in name)
    save_file({name: tensor for name, tensor in weights.items() if name != removed}, tmp_path / "model.safetensors")
    with pytest.raises(UserInputError, match="lacks 1 weights of a Dinov2Model .*complete encoder, or untrained:"):
        load_encoder(str(tmp_path), device="cpu")


def test_a_model_that_lacks_its_patch_embedding_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    built(ViTConfig(**VIT, **MLP)).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "patch_embeddings.projection" not in name}
    assert len(kept) == len(weights) - 2
    save_file(kept, tmp_path / "model.safetensors")
    with pytest.raises(UserInputError, match=r"lacks 2 weights of a ViTModel \(first: embeddings.patch_embeddings"):
        load_encoder(str(tmp_path), device="cpu")


def test_the_fingerprint_tells_what_leaves_no_trace_in_the_weights():
    first, second = (built(ViTConfig(**VIT, **MLP, layer_norm_eps=eps)) for eps in (1e-12, 1e-3))
    second.load_state_dict(first.state_dict())
    assert Encoder("first", first, 32).fingerprint != Encoder("first", second, 32).fingerprint
    second.config.layer_norm_eps, second.config._name_or_path, second.config.dtype = 1e-12, "elsewhere", "float32"
    assert Encoder("first", first, 32).fingerprint == Encoder("first", second, 32).fingerprint


def test_mae_sees_whole_pictures_also_where_it_was_not_loaded_by_us():
    model = built(ViTMAEConfig(**VIT, **MLP))
    assert model.config.mask_ratio == 0.75
    pixels = normals(32, 32)
    first = picture_tokens(model, pixels)
    assert model.config.mask_ratio == 0.75
    model.config.mask_ratio = 0.0
    assert torch.equal(first, picture_tokens(model, pixels))
