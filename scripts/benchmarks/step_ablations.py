"""What the fast step is made of, each switched off or to another mode: `train_step.py --ablate` measures one by one.

They reach into the model and into torch of the process that measures, so the package needs no switches for them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any


def compile_off(model: Any) -> None:
    """Run everything as it is written."""
    from synclr_hf import devices

    devices.can_compile = lambda: False


def compile_mode(mode: str) -> Callable[[Any], None]:
    """Return a function that compiles in another mode of torch."""

    def choose(model: Any) -> None:
        import torch

        torch.compile = functools.partial(torch.compile, mode=mode)

    return choose


def packing_off(model: Any) -> None:
    """Give global and local crops a pass each, of the same blocks."""
    encode = model._encode

    def apart(encoder: Any, crops: Any, masked_positions: Any) -> list[Any]:
        return [
            encode(encoder, [stream], None if place else masked_positions)[0] for place, stream in enumerate(crops)
        ]

    model._encode = apart


def varlen_attention_off(model: Any) -> None:
    """Attend to the crops of each size apart, as on a CPU."""
    from synclr_hf.models import packed

    packed.varlen_attention_works = lambda *arguments: False


def last_block_whole(model: Any) -> None:
    """Send all tokens through the last block, then choose; without stochastic depth only."""
    for encoder in (model.student, model.synclr):
        layer = encoder.layers[-1]

        def whole(tokens: Any, work: Any = None, inner: Callable[..., Any] = layer.forward, **kwargs: Any) -> Any:
            if work is None or work.wanted is None:
                return inner(tokens, work=work, **kwargs)
            return inner(tokens, work=replace(work, wanted=None), **kwargs)[work.wanted]

        layer.forward = whole


def prototype_loss_plain(model: Any) -> None:
    """Compute assignments and cross-entropy on whole matrices."""
    model.objectives["ibot"].implementation = "plain"


ABLATIONS: dict[str, Callable[[Any], None]] = {
    "compile off": compile_off,
    "packing off": packing_off,
    "variable-length attention off": varlen_attention_off,
    "last block whole": last_block_whole,
    "prototype loss plain": prototype_loss_plain,
    "CUDA graphs (reduce-overhead)": compile_mode("reduce-overhead"),
    "compile mode max-autotune-no-cudagraphs": compile_mode("max-autotune-no-cudagraphs"),
}
"""Name -> what is done to the fast model before the first step; the ones that compile for long come last."""
