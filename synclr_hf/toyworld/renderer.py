"""From a complete scene to pixels: background, shadows, things with texture and shading, light."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from synclr_hf.toyworld.attributes import DrawnScene, DrawnThing
from synclr_hf.toyworld.backgrounds import BACKGROUNDS
from synclr_hf.toyworld.dice import Dice
from synclr_hf.toyworld.full_frames import FULL_FRAMES, draw_texture
from synclr_hf.toyworld.lexicon import LIGHTS
from synclr_hf.toyworld.pose import local_axes, posed_points
from synclr_hf.toyworld.sketch import Sketch
from synclr_hf.toyworld.textures import SURFACES, TILE, noise, tile
from synclr_hf.toyworld.thing import BODY
from synclr_hf.toyworld.things import THINGS

REVISION = "2"
"""Changes whenever the same (caption, seed, size) gives other pixels."""


@dataclass(frozen=True)
class Layer:
    """One thing as pixels.

    Args:
        x: column of the left edge in the picture.
        y: row of the top edge.
        colour: RGB times coverage, 0..255, float32, shape (3, h, w).
        alpha: coverage, 0..1, float32, shape (h, w).
    """

    x: int
    y: int
    colour: np.ndarray
    alpha: np.ndarray


def render(drawn: DrawnScene, size: int) -> tuple[Image.Image, list[Layer]]:
    """Draw a scene.

    Args:
        drawn: the complete scene.
        size: side of the picture in pixels.

    Returns:
        The RGB picture and the layers of the things, in their order.
    """
    canvas = _render_background(drawn, size)
    layers = []
    for one in drawn.things:
        layer = render_thing(one, size, drawn.sun)
        layers.append(layer)
        if layer.alpha.size:
            _cast_shadow(canvas, one, layer, drawn)
            height, width = layer.alpha.shape
            region = canvas[:, layer.y : layer.y + height, layer.x : layer.x + width]
            region *= 1 - layer.alpha
            region += layer.colour
    return _finish(canvas, drawn, size), layers


PALING = 0.55
"""How far the colours of a background are drawn towards grey, as air does with distance; things keep theirs."""
HAZE = 0.3
"""How far its tones are drawn towards their mean, likewise."""


def _render_background(drawn: DrawnScene, size: int) -> np.ndarray:
    dice = Dice(drawn.seed, "toyworld", "background")
    frame = FULL_FRAMES.get(drawn.background)
    if frame is not None and frame.kind == "texture":
        return draw_texture(frame, drawn.paints[0], drawn.paints[1], size, dice)
    draw = BACKGROUNDS[drawn.background].draw if frame is None else frame.draw
    sketch = Sketch(size, dice)
    assert draw is not None
    draw(sketch, drawn.horizon)
    return sketch.finish() if frame is not None else sketch.finish(paling=PALING, haze=HAZE)


def render_thing(one: DrawnThing, size: int, sun: float) -> Layer:
    """Draw one thing, textured and shaded, in its own small board.

    Args:
        one: the thing.
        size: side of the picture in pixels.
        sun: direction the light comes from, in degrees.
    """
    thing = THINGS[one.name]
    scale = 2 if size >= 64 else 4
    left, top = max(math.floor(one.box[0] * size) - 1, 0), max(math.floor(one.box[1] * size) - 1, 0)
    width = min(math.ceil(one.box[2] * size) + 1, size) - left
    height = min(math.ceil(min(one.box[3], one.sunk) * size) + 1, size) - top
    if width <= 0 or height <= 0:
        return Layer(0, 0, np.zeros((3, 0, 0), np.float32), np.zeros((0, 0), np.float32))
    board = Image.new("RGBX", (width * scale, height * scale))
    paper = ImageDraw.Draw(board)
    detailed = one.part != "clutter"
    textured = detailed and one.texture in SURFACES
    cover = Image.new("L", board.size) if textured else None
    stencil = ImageDraw.Draw(cover) if cover else None
    outlines = (posed_points(one) * size - (left, top)) * scale
    flat = outlines.ravel().tolist()
    start = 0
    for part, end in zip(thing.parts, thing.ends, strict=True):
        points = flat[2 * start : 2 * end]
        red, green, blue = one.paints[part.role]
        tone = part.tone
        ink = (min(int(red * tone), 255), min(int(green * tone), 255), min(int(blue * tone), 255), 255)
        paper.polygon(points, fill=ink)
        if stencil is not None:
            stencil.polygon(points, fill=255 if part.role == BODY else 0)
        start = end
    pixels = np.asarray(board.reduce(scale)).transpose(2, 0, 1).astype(np.float32, order="C")
    colour, alpha = pixels[:3], pixels[3] * np.float32(1 / 255)
    if cover is not None:
        _apply_surface(colour, np.asarray(cover.reduce(scale)), one, size, left, top)
    if detailed:
        _apply_shading(colour, alpha, one, size, sun)
    if one.sunk < 1:
        line = int(round(one.sunk * size)) - top
        colour[:, max(line, 0) :] = 0
        alpha[max(line, 0) :] = 0
    return Layer(left, top, colour, alpha)


def _apply_surface(colour: np.ndarray, cover: np.ndarray, one: DrawnThing, size: int, left: int, top: int) -> None:
    """Shift the colour of the body towards a lighter or darker accent, where the pattern says so."""
    surface, inverse = SURFACES[one.texture], local_axes(one)
    height, width = cover.shape
    scale = surface.repeats * TILE / 2
    xs = ((np.arange(width) + left + 0.5) / size - one.x) * scale
    ys = ((np.arange(height) + top + 0.5) / size - one.y) * scale
    u = (inverse[0, 0] * xs)[None, :] + (inverse[0, 1] * ys)[:, None]
    v = (inverse[1, 0] * xs)[None, :] + (inverse[1, 1] * ys)[:, None]
    value = tile(one.texture)[v.astype(np.int32) & (TILE - 1), u.astype(np.int32) & (TILE - 1)]
    body = np.asarray(one.paints[BODY], dtype=np.float32)
    bright = float(body.max()) > 105
    accent = body * np.float32(0.45) if bright else body * np.float32(0.4) + 105
    share = value * cover * np.float32(surface.strength / 255)
    for channel, step in zip(colour, accent - body, strict=True):
        channel += share * step
    np.maximum(colour, 0, out=colour)


def _apply_shading(colour: np.ndarray, alpha: np.ndarray, one: DrawnThing, size: int, sun: float) -> None:
    """Make the thing look round: bright towards the light, dark away from it, most of all near its edge."""
    height, width = alpha.shape
    dx, dy = math.cos(math.radians(sun)), math.sin(math.radians(sun))
    reach = max(1, round(0.22 * one.half * size))
    padded = np.zeros((height + 2 * reach, width + 2 * reach), np.uint8)
    padded[reach:-reach, reach:-reach] = alpha * 255
    soft = np.asarray(Image.fromarray(padded).filter(ImageFilter.BoxBlur(reach))).astype(np.float32)
    x, y = round(reach * dx), round(reach * dy)
    toward = soft[reach + y : reach + y + height, reach + x : reach + x + width]
    away = soft[reach - y : reach - y + height, reach - x : reach - x + width]
    shade = (away - toward) * np.float32(0.45 / 255)
    shade += _slope(height)[:, None] * np.float32(dy) + (_slope(width) * np.float32(dx) + 1)
    colour *= np.minimum(shade, np.float32(1.18))
    if one.texture == "shiny":
        bright = np.exp(-((np.maximum(shade - 1.22, -0.3) / 0.07) ** 2)) * alpha
        colour += bright * np.float32(120)
    np.minimum(colour, alpha * 255, out=colour)


@lru_cache(maxsize=1024)
def _slope(length: int) -> np.ndarray:
    return np.linspace(-0.1, 0.1, length, dtype=np.float32)


def _cast_shadow(canvas: np.ndarray, one: DrawnThing, layer: Layer, drawn: DrawnScene) -> None:
    """Darken the ground below a thing, or the wall behind it."""
    size = canvas.shape[1]
    place = BACKGROUNDS[drawn.background]
    bottom = min(one.box[3], one.sunk)
    if drawn.background in ("blue sky", "night sky") or one.sunk < 1:
        return
    if place.ground:
        rx, ry = (one.box[2] - one.box[0]) * 0.42, 0.05 * (one.box[2] - one.box[0]) + 0.008
        cx, cy = (one.box[0] + one.box[2]) / 2 - math.cos(math.radians(drawn.sun)) * rx * 0.4, bottom - ry * 0.3
        deep = 0.42
    else:
        rx, ry = (one.box[2] - one.box[0]) * 0.42, (bottom - one.box[1]) * 0.42
        cx, cy = (
            (one.box[0] + one.box[2]) / 2 - math.cos(math.radians(drawn.sun)) * 0.04,
            (one.box[1] + bottom) / 2 + 0.03,
        )
        deep = 0.34
    x0, x1 = max(int((cx - 2 * rx) * size), 0), min(int((cx + 2 * rx) * size) + 1, size)
    y0, y1 = max(int((cy - 2 * ry) * size), 0), min(int((cy + 2 * ry) * size) + 1, size)
    if x0 < x1 and y0 < y1:
        across = np.exp(-((((np.arange(x0, x1) + 0.5) / size - cx) / rx) ** 4)).astype(np.float32)
        down = np.exp(-((((np.arange(y0, y1) + 0.5) / size - cy) / ry) ** 2)).astype(np.float32) * np.float32(deep)
        canvas[:, y0:y1, x0:x1] *= 1 - down[:, None] * across


@lru_cache(maxsize=8)
def _corners(size: int) -> np.ndarray:
    """Return 0 in the middle and 1 in the corners, shape (size, size)."""
    axis = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    return (axis[:, None] + axis) / 2


def _finish(canvas: np.ndarray, drawn: DrawnScene, size: int) -> Image.Image:
    """Add the colour of the light, darker corners, blur and noise."""
    dim = 1 - _corners(size) * np.float32(drawn.vignette)
    x, y = (int(share * size) for share in drawn.grain)
    grain = noise("grain", size)[y : y + size, x : x + size] * np.float32(drawn.noise)
    for channel, factor in zip(canvas, LIGHTS.get(drawn.light, (1.0, 1.0, 1.0)), strict=True):
        channel *= dim * np.float32(factor)
        channel += grain
    np.clip(canvas, 0, 255, out=canvas)
    picture = Image.merge("RGB", [Image.fromarray(channel) for channel in canvas.astype(np.uint8)])
    return picture.filter(ImageFilter.BoxBlur(drawn.blur * size)) if drawn.blur else picture
