"""A board for backgrounds: bands of colour, outlines and soft light, in coordinates from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from synclr_hf.toyworld.dice import Dice
from synclr_hf.toyworld.textures import noise

Colour = tuple[float, float, float]
"""RGB in 0..255."""


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour that lies `share` of the way from the first to the second."""
    return tuple(a + (b - a) * share for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


class Sketch:
    """Draws a background at twice the picture's side and reduces it at the end.

    Args:
        size: side of the picture in pixels.
        dice: the source of all variation.
    """

    def __init__(self, size: int, dice: Dice) -> None:
        self.size = size
        self.dice = dice
        self._side = 2 * size
        self._image = Image.new("RGB", (self._side, self._side))
        self._draw = ImageDraw.Draw(self._image)
        self._grains: list[tuple[str, float, float, float]] = []
        self._glows: list[tuple[float, float, float, Colour]] = []

    def shade(self, colour: Colour, spread: float = 12.0) -> Colour:
        """Return the colour with its brightness and each channel a little changed."""
        lift = self.dice.between(-spread, spread)
        return tuple(channel + lift + self.dice.between(-spread, spread) * 0.4 for channel in colour)  # type: ignore

    def bands(self, *stops: tuple[float, Colour]) -> None:
        """Fill everything with a vertical gradient through (height, colour) stops; call it first."""
        heights = [height for height, _ in stops]
        rows = (np.arange(self._side) + 0.5) / self._side
        column = np.stack(
            [np.interp(rows, heights, channel) for channel in zip(*(c for _, c in stops), strict=True)], 1
        )
        column = np.clip(column, 0, 255).astype(np.uint8)
        narrow = Image.frombytes("RGB", (1, self._side), column.tobytes())
        self._image = narrow.resize((self._side, self._side), Image.Resampling.NEAREST)
        self._draw = ImageDraw.Draw(self._image)

    def outline(self, points: Sequence[float], colour: Colour) -> None:
        """Fill the polygon through x0, y0, x1, y1, ..."""
        self._draw.polygon([value * self._side for value in points], fill=_ink(colour))

    def oval(self, cx: float, cy: float, rx: float, ry: float, colour: Colour) -> None:
        """Fill an ellipse."""
        side = self._side
        edges = ((cx - rx) * side, (cy - ry) * side, (cx + rx) * side, (cy + ry) * side)
        self._draw.ellipse(edges, fill=_ink(colour))

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """Fill a rectangle."""
        side = self._side
        self._draw.rectangle((x0 * side, y0 * side, x1 * side, y1 * side), fill=_ink(colour))

    def line(self, x0: float, y0: float, x1: float, y1: float, width: float, colour: Colour) -> None:
        """Draw a straight line; the width is a share of the picture's side."""
        side = self._side
        edges = (x0 * side, y0 * side, x1 * side, y1 * side)
        self._draw.line(edges, fill=_ink(colour), width=max(1, round(width * side)))

    def hills(self, base: float, height: float, colour: Colour, *, down_to: float = 1.0, waves: float = 1.5) -> None:
        """Fill from a wavy line around `base` down to `down_to`."""
        first, second, third = (self.dice.between(0, 2 * math.pi) for _ in range(3))
        points = [0.0, down_to]
        for step in range(25):
            x = step / 24
            wave = math.sin(waves * 6.3 * x + first) + 0.5 * math.sin(waves * 13 * x + second)
            points += [x, base - height * (0.5 + 0.3 * wave + 0.08 * math.sin(waves * 31 * x + third))]
        self.outline([*points, 1.0, down_to], colour)

    def clouds(self, count: int, top: float, bottom: float, colour: Colour) -> None:
        """Draw heaps of soft ovals between two heights."""
        for _ in range(count):
            x, y, width = self.dice.between(0, 1), self.dice.between(top, bottom), self.dice.between(0.07, 0.15)
            for shift, lift, share in ((-0.7, 0.1, 0.6), (0.75, 0.12, 0.55), (-0.2, -0.22, 0.7), (0.25, -0.1, 0.72)):
                self.oval(x + shift * width, y + lift * width, share * width, share * width * 0.6, colour)
            self.oval(x, y + 0.24 * width, 1.25 * width, 0.28 * width, blend(colour, (255, 255, 255), 0.2))

    def specks(self, count: int, top: float, bottom: float, radius: float, colours: Sequence[Colour]) -> None:
        """Scatter small ovals that shrink towards `top`, as things further away do."""
        for _ in range(count):
            depth = self.dice.roll()
            reach = radius * (0.35 + 0.65 * depth) * self.dice.between(0.6, 1.2)
            y = top + (bottom - top) * depth
            self.oval(self.dice.roll(), y, reach, reach * 0.8, self.dice.pick(colours))

    def grain(self, kind: str, strength: float, top: float = 0.0, bottom: float = 1.0) -> None:
        """Modulate the brightness between two heights by noise; `strength` is in steps of 255."""
        self._grains.append((kind, strength, top, bottom))

    def glow(self, cx: float, cy: float, radius: float, colour: Colour) -> None:
        """Add soft light of the given colour around a point."""
        self._glows.append((cx, cy, radius, colour))

    def finish(self, *, paling: float = 0.0, haze: float = 0.0) -> np.ndarray:
        """Return the picture, float32 in 0..255, shape (3, size, size).

        Args:
            paling: how far each colour is drawn towards grey, 0..1.
            haze: how far each tone is drawn towards the mean of the picture, 0..1; grain and glow are weakened alike.
        """
        size = self.size
        small = self._image.reduce(2)
        if paling or haze:
            small = small.convert("RGB", _fading(small, paling, haze))
        canvas = np.asarray(small).transpose(2, 0, 1).astype(np.float32, order="C")
        for kind, strength, top, bottom in self._grains:
            first, last = max(round(top * size), 0), min(round(bottom * size), size)
            if first < last:
                x, y = self.dice.whole(0, size - 1), self.dice.whole(0, size - 1)
                patch = noise(kind, size)[y : y + last - first, x : x + size]
                canvas[:, first:last] += patch * np.float32(strength * (1 - haze))
        axis = (np.arange(size, dtype=np.float32) + 0.5) / size
        for cx, cy, radius, colour in self._glows:
            light = np.exp(-(((axis - cy) / radius) ** 2))[:, None] * np.exp(-(((axis - cx) / radius) ** 2))[None]
            for channel, value in zip(canvas, colour, strict=True):
                channel += light * np.float32(value * (1 - haze))
        return canvas


def _fading(image: Image.Image, paling: float, haze: float) -> tuple[float, ...]:
    """Return the 3 x 4 colour matrix that takes away colour and contrast."""
    mean = sum(image.reduce(image.size).getpixel((0, 0))) / 3  # type: ignore[arg-type]
    off = (1 - haze) * paling / 3
    on = (1 - haze) * (1 - paling) + off
    lift = haze * mean
    return (on, off, off, lift, off, on, off, lift, off, off, on, lift)


def _ink(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = colour
    return min(max(int(red), 0), 255), min(max(int(green), 0), 255), min(max(int(blue), 0), 255)
