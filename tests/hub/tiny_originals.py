"""Checkpoints in the layout of the authors' code, made of seeded random numbers and small."""

import argparse

import torch

HEADS = 2
"""Heads of these encoders, of width 32."""

OPTIONS = {
    "contrast_loss_weight": 2.0,
    "contrast_temperature": 0.1,
    "ibot_loss_weight": 0.5,
    "warmup_teacher_temp": 0.05,
    "teacher_temp": 0.06,
    "warmup_teacher_temp_epochs": 1.0,
    "drop_path_rate": 0.3,
}


def _filled(shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        tensors[name] = centre + 0.2 * torch.randn(shape, generator=generator)
    return tensors


def encoder(seed=0, *, width=32, depth=2, patch=8, grid=4, qkv_bias=True, mask_token=False):
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 1 + grid**2, width)}
    if mask_token:
        shapes["mask_token"] = (1, 1, width)
    shapes |= {"patch_embed.proj.weight": (width, 3, patch, patch), "patch_embed.proj.bias": (width,)}
    for block in (f"blocks.{i}" for i in range(depth)):
        shapes |= {f"{block}.norm{i}.{part}": (width,) for i in (1, 2) for part in ("weight", "bias")}
        linear = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
        linear |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
        for name, shape in linear.items():
            shapes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
        if not qkv_bias:
            del shapes[f"{block}.attn.qkv.bias"]
    shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
    return _filled(shapes, seed)


def _mlp(name, sizes):
    """Linear, LayerNorm, GELU, ..., Linear without bias: layers 0, 1, 3, 4, 6 as the reference counts them."""
    shapes = {}
    for i, (inside, outside) in enumerate(zip(sizes, sizes[1:], strict=False)):
        shapes[f"{name}.mlp.{3 * i}.weight"] = (outside, inside)
        if i < len(sizes) - 2:
            shapes[f"{name}.mlp.{3 * i}.bias"] = (outside,)
            shapes |= {f"{name}.mlp.{3 * i + 1}.{part}": (outside,) for part in ("weight", "bias")}
    return shapes


def _prototypes(name, width):
    shapes = {}
    for i, (inside, outside) in enumerate([(width, 20), (20, 20), (20, 12)]):
        shapes |= {f"{name}.mlp.{2 * i}.weight": (outside, inside), f"{name}.mlp.{2 * i}.bias": (outside,)}
    return shapes | {f"{name}.last_layer.weight_g": (40, 1), f"{name}.last_layer.weight_v": (40, 12)}


def contrast_heads(width=32):
    shapes = _mlp("student.pred", (16, 24, 16))
    for model in ("student", "teacher"):
        shapes |= _mlp(f"{model}.proj", (width, 24, 24, 16))
    return _filled(shapes, 5)


def prototype_heads(width=32):
    return _filled(_prototypes("student.dino_head", width) | _prototypes("teacher.dino_head", width), 6)


def training(**sizes):
    """The weights of a training checkpoint with contrast and iBOT."""
    weights = {f"student.backbone.{name}": t for name, t in encoder(1, mask_token=True, **sizes).items()}
    weights |= {f"teacher.backbone.{name}": t for name, t in encoder(2, mask_token=True, **sizes).items()}
    return weights | contrast_heads() | prototype_heads() | {"ibot_loss.center": torch.zeros(1, 1, 40)}


def prefixed(prefix, weights):
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


def saved(tmp_path, content, name="checkpoint.pth"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


def checkpoint(tmp_path, weights=None, *, epoch=4, **options):
    """A file as the training script writes it: options in a Namespace, state of AdamW and of the gradient scaler."""
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    content = {
        "model": training() if weights is None else weights,
        "optimizer": optimizer.state_dict(),
        "epoch": epoch,
        "scaler": {"scale": 65536.0, "growth_factor": 2.0},
        "args": argparse.Namespace(**{**OPTIONS, "mask_ratio": [0.5], "csv_path": None, **options}),
    }
    return saved(tmp_path, content)
