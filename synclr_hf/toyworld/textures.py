"""Patterns: small periodic tiles for the surfaces of things, and noise for everything.

All values are rounded to 8 bits on the way, so that no machine's last float digit can show in a picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

TILE = 64
"""Side of a surface tile in pixels; a power of two."""


def _round(values: np.ndarray) -> np.ndarray:
    return (np.round(np.clip(values, -4, 4) * 31) / 31).astype(np.float32)


@lru_cache(maxsize=32)
def noise(kind: str, size: int) -> np.ndarray:
    """Return periodic noise, mean 0 and standard deviation 1, repeated twice each way.

    Args:
        kind: `"cloud"` (large soft patches), `"grain"` (fine) or `"streak"` (fine, drawn out sideways).
        size: the period in pixels, i.e. the picture's side.

    Returns:
        float32, shape (2 * size, 2 * size).
    """
    base = 512
    frequency = np.fft.fftfreq(base) * base
    fy, fx = frequency[:, None], frequency[None, :]
    if kind == "cloud":
        envelope = 1 / (1 + (fx**2 + fy**2) / 6) ** 0.95
    elif kind == "streak":
        envelope = np.exp(-((fx / 10) ** 2)) / (1 + (fy / 40) ** 2)
    else:
        envelope = 1 / (1 + (fx**2 + fy**2) / 500) ** 0.45
    envelope[0, 0] = 0
    white = np.random.Generator(np.random.PCG64(7)).standard_normal((base, base))
    values = np.fft.ifft2(np.fft.fft2(white) * envelope).real.astype(np.float32)
    values = np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BOX))
    return np.tile(_round((values - values.mean()) / values.std()), (2, 2))


def _grid() -> tuple[np.ndarray, np.ndarray]:
    axis = (np.arange(TILE) + 0.5) / TILE
    return axis[None, :], axis[:, None]


def _dots(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    near = np.hypot(u - 0.25, v - 0.25), np.hypot(u - 0.75, v - 0.75)
    return np.clip((0.17 - np.minimum(*near)) * 24, 0, 1)


def _stripes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.clip(np.sin((v + 0 * u) * 4 * np.pi) * 6, 0, 1)


def _ribs(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sin((u + 0 * v) * 4 * np.pi) * 0.5


def _checks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return ((np.floor(u * 4) + np.floor(v * 4)) % 2).astype(np.float64)


def _zigzag(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.clip(np.sin((v + 0.16 * np.abs((u * 4) % 2 - 1)) * 6 * np.pi) * 5, 0, 1)


def _diamonds(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    edge = np.minimum(np.abs(((u + v) * 3) % 1 - 0.5), np.abs(((u - v) * 3) % 1 - 0.5))
    return -np.clip(1 - edge * 9, 0, 1)


def _bricks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    row = np.floor(v * 4)
    across = np.abs(((u * 2 + 0.5 * (row % 2)) % 1) - 0.5) * 2
    down = np.abs((v * 4) % 1 - 0.5) * 2
    return -np.clip(np.maximum((across - 0.88) * 12, (down - 0.78) * 8), 0, 1)


def _scales(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    row = np.floor(v * 4)
    across = ((u * 4 + 0.5 * (row % 2)) % 1) - 0.5
    down = (v * 4) % 1
    return -np.clip(1 - np.abs(np.hypot(across * 1.3, down - 0.2) - 0.62) * 9, 0, 1)


def _waves(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sin((v * 4 + 0.18 * np.sin(u * 4 * np.pi)) * 2 * np.pi)


def _wood(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    bend = 0.07 * np.sin(u * 2 * np.pi) + 0.04 * np.sin((u * 2 + v) * 2 * np.pi)
    return np.sin((v + bend) * 10 * np.pi) * 0.6 + np.sin((v + 2 * bend) * 22 * np.pi) * 0.4


def _spots(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(11))
    value = np.zeros((TILE, TILE))
    for x, y, radius in rng.random((26, 3)):
        dx, dy = np.abs(u - x), np.abs(v - y)
        reach = np.hypot(np.minimum(dx, 1 - dx), np.minimum(dy, 1 - dy))
        value = np.maximum(value, np.clip((0.03 + 0.035 * radius - reach) * 60, 0, 1))
    return value


def _fleece(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sin((u * 8 + 0.4 * np.sin(v * 8 * np.pi)) * 2 * np.pi) * np.sin(v * 16 * np.pi)


def _weave(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    over = (np.floor(u * 8) + np.floor(v * 8)) % 2
    return np.where(over > 0, np.sin((u * 8 % 1) * np.pi), np.sin((v * 8 % 1) * np.pi)) - 0.6


def _rivets(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    near = np.hypot((u * 3) % 1 - 0.5, (v * 3) % 1 - 0.5)
    return -np.clip((0.2 - near) * 14, 0, 1)


def _blotch(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return noise("grain", TILE)[:TILE, :TILE].astype(np.float64) * 0.6 + 0 * u * v


@dataclass(frozen=True)
class Surface:
    """A pattern on the body of a thing.

    Args:
        pattern: function of (u, v) in [0, 1) that gives -1..1: how far the colour goes to the accent.
        repeats: how many tiles fit on half a thing.
        strength: how strong the accent is.
    """

    pattern: Callable[[np.ndarray, np.ndarray], np.ndarray]
    repeats: float
    strength: float


SURFACES: dict[str, Surface] = {
    "striped": Surface(_stripes, 1.7, 0.9),
    "dotted": Surface(_dots, 2.0, 0.9),
    "checkered": Surface(_checks, 1.6, 0.85),
    "zigzag": Surface(_zigzag, 1.1, 0.9),
    "speckled": Surface(_spots, 1.1, 0.85),
    "wooden": Surface(_wood, 0.8, 0.45),
    "woolly": Surface(_fleece, 0.9, 0.5),
    "leafy": Surface(_blotch, 0.6, 0.3),
    "needles": Surface(_weave, 1.6, 0.3),
    "spines": Surface(_rivets, 2.2, 0.6),
    "grainy": Surface(_blotch, 1.2, 0.16),
    "diamonds": Surface(_diamonds, 1.0, 0.45),
    "scales": Surface(_scales, 1.3, 0.4),
    "feathers": Surface(_scales, 1.5, 0.3),
    "plates": Surface(_diamonds, 0.75, 0.5),
    "tabby": Surface(_waves, 0.9, 0.28),
    "rivets": Surface(_rivets, 1.3, 0.4),
    "bricks": Surface(_bricks, 1.2, 0.35),
    "ribbed": Surface(_ribs, 2.2, 0.35),
    "woven": Surface(_weave, 0.9, 0.35),
}
"""Surface name -> pattern; `"smooth"` and `"shiny"` have none."""


@lru_cache(maxsize=64)
def tile(name: str) -> np.ndarray:
    """Return the periodic tile of a surface, float32, shape (TILE, TILE), values about -1..1."""
    return _round(np.broadcast_to(SURFACES[name].pattern(*_grid()), (TILE, TILE)))
