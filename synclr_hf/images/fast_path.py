"""What makes a pipeline draw faster without changing what it draws."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import nn

logger = logging.getLogger(__name__)

SECONDS_BEFORE_COMPILING = 900.0
"""Compiling the blocks takes one to three minutes and saves a part of every step: it is begun once so much drawing has
been done, or lies ahead in one call, that it costs a fraction of that and may pay many times over."""

ELEMENTS_AT_ONCE = 2**29
"""Elements of the widest activation of a VAE's decoder that are computed at once: 1 GiB in bfloat16. Eight pictures of
512 px keep a GPU busy; beyond 2**31 kernels fall back to slow forms, or fail."""


def denoiser(pipeline: DiffusionPipeline) -> nn.Module | None:
    """Return the network that every denoising step runs: the UNet or the transformer."""
    net: nn.Module | None = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    return net


def prepare(pipeline: DiffusionPipeline) -> None:
    """Have a pipeline's VAE decode in slices that fit, and lay it out where it is on a CUDA device."""
    vae = getattr(pipeline, "vae", None)
    if vae is not None and hasattr(vae, "decode"):
        vae.decode = SlicedDecoder(vae.decode, int(getattr(pipeline, "vae_scale_factor", 8)))
    if pipeline.device.type == "cuda":
        lay_out(pipeline)


def lay_out(pipeline: DiffusionPipeline) -> None:
    """Put channels last for convolutions, make queries, keys and values one product, keep timesteps on the host.

    It draws the same pictures; on a CPU it is not worth it.
    """
    import torch
    from diffusers import UNet2DConditionModel

    net, vae = denoiser(pipeline), getattr(pipeline, "vae", None)
    for part in (net if isinstance(net, UNet2DConditionModel) else None, vae):
        if part is not None and all(weight.dim() != 5 for weight in part.parameters()):
            part.to(memory_format=torch.channels_last)
    for part in (net, vae):
        if hasattr(part, "fuse_qkv_projections"):
            with suppress(ValueError):  # attention with keys and values of its own for the text
                part.fuse_qkv_projections()
    if isinstance(net, UNet2DConditionModel):
        HostTimesteps(pipeline.scheduler, net)


class HostTimesteps:
    """Keeps a scheduler's timesteps on the CPU, and hands the UNet copies that lie on its device already.

    The schedulers index tables on the CPU with the timestep and compare it with 0: with timesteps on a GPU each of
    these waits until the GPU has caught up, several times a step. The copies are made once a call, before the loop.
    Schedulers that add noise at every step copy it from the CPU, where each picture's own generator draws it.

    Args:
        scheduler: its `set_timesteps` is replaced.
        unet: its `forward` gets the copies.
    """

    def __init__(self, scheduler: Any, unet: nn.Module) -> None:
        self._set = scheduler.set_timesteps
        self._scheduler = scheduler
        self._on_device: dict[float, torch.Tensor] = {}

        @functools.wraps(self._set)
        def set_timesteps(*args: Any, device: Any = None, **settings: Any) -> None:
            self._set(*args, device="cpu", **settings)
            there = scheduler.timesteps.to(device)
            self._on_device = dict(zip(scheduler.timesteps.tolist(), there.unbind(), strict=True))

        scheduler.set_timesteps = set_timesteps
        unet.register_forward_pre_hook(self._replace, with_kwargs=True)

    def _replace(self, _: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if len(args) > 1:
            return (args[0], self._there(args[1]), *args[2:]), named
        return args, {**named, "timestep": self._there(named["timestep"])}

    def _there(self, timestep: Any) -> Any:
        on_host = getattr(timestep, "device", None) is not None and timestep.device.type == "cpu"
        return self._on_device.get(timestep.item(), timestep) if on_host and timestep.dim() == 0 else timestep


class SlicedDecoder:
    """A VAE's `decode` that splits a batch of latents into slices that fit the device, not into single pictures.

    Slices start with `ELEMENTS_AT_ONCE`, and are halved for good when the memory does not hold them.

    Args:
        decode: the VAE's own method.
        scale: pixels a latent, a side.
        widest: channels of the decoder at full size; 256 in the VAEs of Stable Diffusion, SDXL and Flux.
    """

    def __init__(self, decode: Callable[..., Any], scale: int, widest: int = 256) -> None:
        self._decode = decode
        self._scale = scale
        self._widest = widest
        self.largest: int | None = None

    def __call__(self, latents: torch.Tensor, *args: Any, **settings: Any) -> Any:
        """Return what `decode` returns for all of `latents` (B, C, h, w)."""
        import torch

        size = self._first_size(latents)
        while True:
            size = min(size, self.largest or size)
            try:
                return self._joined(latents, size, args, settings)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
            self.largest = -(-size // 2)
            free_memory()

    def _first_size(self, latents: torch.Tensor) -> int:
        pixels = latents.shape[-2] * latents.shape[-1] * self._scale**2
        return max(1, min(len(latents), ELEMENTS_AT_ONCE // (self._widest * pixels)))

    def _joined(self, latents: torch.Tensor, size: int, args: tuple[Any, ...], settings: dict[str, Any]) -> Any:
        import torch

        if size >= len(latents):
            return self._decode(latents, *args, **settings)
        parts = [self._decode(part, *args, **settings) for part in latents.split(size)]
        if isinstance(parts[0], tuple):
            return (torch.cat([part[0] for part in parts]),)
        return type(parts[0])(sample=torch.cat([part.sample for part in parts]))


class CompiledBlocks:
    """Compiles the repeated blocks of a denoiser once that pays, see `SECONDS_BEFORE_COMPILING`.

    These are the transformer blocks, as diffusers lists them, and the residual blocks of a UNet, whose normalisations
    and activations are otherwise passes over the memory of their own.

    Args:
        net: the denoiser; `None`, or one without such blocks: never.
        seconds: drawing time that compiling must be worth.
    """

    def __init__(self, net: nn.Module | None, seconds: float = SECONDS_BEFORE_COMPILING) -> None:
        self._net = net if getattr(net, "_repeated_blocks", None) else None
        self._seconds = seconds
        self.active = False

    def consider(self, drawn: int, seconds: float, left: int) -> None:
        """Compile if it pays.

        Args:
            drawn: pictures drawn until now.
            seconds: the time that they took.
            left: pictures that are left in this call.
        """
        if self._net is None or self.active or drawn == 0:
            return
        if seconds * (1 + left / drawn) >= self._seconds:
            try:
                self._compile(self._net)
                self.active = True
            except Exception as error:  # a net without such blocks after all, a torch that cannot compile
                self.give_up(error)

    def _compile(self, net: nn.Module) -> None:
        import torch
        from diffusers.models.resnet import ResnetBlock2D

        limit = torch._dynamo.config.recompile_limit  # a UNet has some fifteen pairs of widths
        torch._dynamo.config.recompile_limit = max(limit, 64)
        net.compile_repeated_blocks(fullgraph=True)
        for block in net.modules():
            if isinstance(block, ResnetBlock2D):
                block.compile(fullgraph=True)

    def give_up(self, error: Exception) -> None:
        """Go on without compiled blocks, e.g. on a machine without a compiler."""
        assert self._net is not None
        for module in self._net.modules():
            module._compiled_call_impl = None
        self._net, self.active = None, False
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        logger.warning("the model cannot be compiled and goes on as it is: %s", reason)

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """Run without compiled blocks, e.g. for a batch of another size, which would compile them again."""
        import torch

        with torch.compiler.set_stance("force_eager"):
            yield


def free_memory() -> None:
    """Give what the allocator keeps back to the device."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
