"""PCA maps: one to eight pictures in colours that mean the same in all of them, and what is like a chosen patch."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from PIL import Image

from synclr_hf.errors import UserInputError
from synclr_hf.evaluation.encoding.vision_outputs import patch_size
from synclr_hf.evaluation.seeing.pca import PcaBasis, fit_pca_basis
from synclr_hf.evaluation.seeing.resolution import whole_patches_of
from synclr_hf.explorer.heat_maps import Scale, common_scale, cosines, heat_map
from synclr_hf.explorer.look import Look, look
from synclr_hf.report.visualize_sheets import enlarged

if TYPE_CHECKING:
    from synclr_hf.explorer.session import Explorer

MOST_PICTURES = 8
MOST_PATCHES = 8_192
"""Of all pictures together: eight at 448 pixels with patches of 14, half a minute of a ViT-B on two slow cores."""
RESOLUTIONS = (112, 224, 448, 672)
"""Pixels of the longer side that can be chosen."""
_LONG_SIDE = 480
"""Pixels of a drawn map at most, if its patches allow."""
_BASES_KEPT = 64
_BACKGROUND = 0.25
"""Brightness of the picture where a map leaves the background out."""


@dataclass(frozen=True)
class PcaMaps:
    """Several pictures and the colours of their patches.

    Attributes:
        looks: the pictures and their patches.
        basis: what the colours mean.
        model: what the encoder is called.
    """

    looks: Sequence[Look]
    basis: PcaBasis
    model: str

    def drawn(self, overlay: float = 1.0, *, smooth: bool = False) -> list[Image.Image]:
        """Draw every picture.

        Args:
            overlay: from 0, the picture alone, to 1, the colours alone.
            smooth: interpolate between patches.
        """
        return [self._drawn(one, overlay, smooth) for one in self.looks]

    def _drawn(self, seen: Look, overlay: float, smooth: bool) -> Image.Image:
        rows, columns = seen.grid
        side = max(4, _LONG_SIDE // max(rows, columns))
        size = (columns * side, rows * side)
        image = seen.image.resize(size, Image.Resampling.LANCZOS)
        colours = enlarged(self.basis.colours(seen.patches).numpy(), size, smooth=smooth)
        mixed = Image.blend(image, colours, overlay)
        if self.basis.foreground is None:
            return mixed
        is_thing = self.basis.foreground.is_foreground(seen.patches).numpy().astype(np.uint8) * 255
        dark = image.convert("L").point(lambda value: int(value * (1 - overlay * (1 - _BACKGROUND)))).convert("RGB")
        return Image.composite(mixed, dark, Image.fromarray(is_thing).resize(size, Image.Resampling.NEAREST))

    @property
    def words(self) -> str:
        """What the colours are, in two sentences."""
        shares = ", ".join(f"{share:.0%}" for share in self.basis.components.explained)
        grids = sorted({one.grid for one in self.looks})
        rows, columns = grids[-1]
        what = "all patches" if self.basis.foreground is None else "the foreground patches"
        of = "this picture" if len(self.looks) == 1 else f"these {len(self.looks)} pictures"
        told = (
            f"Red, green and blue are the first three principal components of {what} of {of}, {shares} of their "
            f"variance; {'up to ' if len(grids) > 1 else ''}{rows} x {columns} patches. The same colour means the "
            "same in every picture."
        )
        if self.basis.foreground is not None:
            told += (
                " Foreground is the side of the first component that touches the border less, above the threshold; "
                "the rest is left dark."
            )
        return told

    def sheet(self, *, smooth: bool = False) -> Image.Image:
        """Return pictures and maps as one sheet."""
        from synclr_hf.report.visualize_patches import pca_sheet

        maps, words = [one.patches for one in self.looks], [""] * len(self.looks)
        seen_by = f"these pictures, seen by {self.model}"
        return pca_sheet([one.image for one in self.looks], maps, words, self.basis, smooth=smooth, fitted_on=seen_by)

    def zipped(self, overlay: float = 1.0, *, smooth: bool = False) -> bytes:
        """Return a ZIP file: the sheet, every map as a PNG, and the basis, which `synclr visualize --basis` takes."""
        import tempfile
        from pathlib import Path

        packed = BytesIO()
        with ZipFile(packed, "w", ZIP_STORED) as files, tempfile.TemporaryDirectory() as folder:
            basis = Path(folder) / "pca_basis.safetensors"
            self.basis.save(basis)
            files.write(basis, basis.name)
            pictures = {"sheet.png": self.sheet(smooth=smooth)}
            drawn = self.drawn(overlay, smooth=smooth)
            pictures |= {f"map_{number}.png": one for number, one in enumerate(drawn, start=1)}
            for name, picture in pictures.items():
                file = BytesIO()
                picture.save(file, "PNG")
                files.writestr(name, file.getvalue())
        return packed.getvalue()


def pca_maps(
    explorer: Explorer, pictures: Sequence[Image.Image], resolution: int = 224, threshold: float | None = None
) -> PcaMaps:
    """Find colours that the patches of some pictures have in common.

    What was computed a moment ago is remembered, so that another threshold does not run the model again.

    Args:
        explorer: what is loaded.
        pictures: RGB, 1 to `MOST_PICTURES`.
        resolution: pixels of the longer side, one of `RESOLUTIONS`.
        threshold: patches whose first component is above it are foreground, in standard deviations; `None`: all.

    Raises:
        UserInputError: a setting cannot be used, or too few patches are left.
    """
    looks = looks_at(explorer, pictures, resolution)
    encoder = explorer.encoder()
    basis = _BASES.basis(looks, threshold, explorer.config.model_name or encoder.name)
    return PcaMaps(looks, basis, explorer.config.model_name)


def looks_at(explorer: Explorer, pictures: Sequence[Image.Image], resolution: int) -> list[Look]:
    """Look at 1 to `MOST_PICTURES` pictures at one of the `RESOLUTIONS`; see `pca_maps` for the errors.

    No more than `MOST_PATCHES` together, so that nobody else waits for minutes on two cores.
    """
    if not pictures:
        raise UserInputError("there is no picture yet: upload one to eight, or send some here from another tab")
    if len(pictures) > MOST_PICTURES:
        raise UserInputError(f"{len(pictures)} pictures are too many; give up to {MOST_PICTURES}")
    if resolution not in RESOLUTIONS:
        allowed = ", ".join(map(str, RESOLUTIONS))
        raise UserInputError(f"resolution {resolution} cannot be chosen; allowed: {allowed}; type 224")
    encoder = explorer.encoder()
    if encoder.model is not None:
        side = patch_size(encoder.model)
        sizes = [whole_patches_of(picture.size, int(resolution), side) for picture in pictures]
        patches = sum(columns * rows for columns, rows in sizes)
        if patches > MOST_PATCHES:
            raise UserInputError(
                f"{len(pictures)} pictures at {resolution} pixels are {patches:,} patches; at most {MOST_PATCHES:,} "
                "are looked at together: choose a lower resolution or fewer pictures"
            )
    return look(explorer, pictures, int(resolution))


def similar_patches(
    looks: Sequence[Look], picture: int, row: int, column: int, *, smooth: bool = False
) -> tuple[list[Image.Image], Scale]:
    """Draw how alike every patch of every picture is to a chosen one, which gets a frame.

    Args:
        looks: pictures and their patches.
        picture: number of the picture with the chosen patch, from 0.
        row: of the patch.
        column: of the patch.
        smooth: interpolate between patches.

    Raises:
        UserInputError: there is no such patch.
    """
    if not 0 <= picture < len(looks):
        raise UserInputError(f"there is no picture {picture + 1}; allowed: 1 to {len(looks)}")
    rows, columns = looks[picture].grid
    if not (0 <= row < rows and 0 <= column < columns):
        raise UserInputError(
            f"picture {picture + 1} has no patch in row {row}, column {column}; allowed: rows 0 to {rows - 1}, "
            f"columns 0 to {columns - 1}"
        )
    chosen = looks[picture].patches[row, column]
    values = [cosines(one.patches, chosen) for one in looks]
    scale = common_scale(values)
    marks = [(row, column) if number == picture else None for number in range(len(looks))]
    drawn = [
        heat_map(one.image, value, scale, marked=mark, smooth=smooth)
        for one, value, mark in zip(looks, values, marks, strict=True)
    ]
    return drawn, scale


class _Bases:
    """The last few bases: moving a slider that only changes the drawing finds nothing to compute."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, PcaBasis] = OrderedDict()
        self._lock = threading.Lock()

    def basis(self, looks: Sequence[Look], threshold: float | None, model: str) -> PcaBasis:
        key = (tuple(one.key for one in looks), threshold)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        try:
            found = fit_pca_basis([one.patches for one in looks], threshold=threshold, model=model)
        except UserInputError as error:
            if threshold is None:
                raise UserInputError(
                    "these pictures have fewer than three patches; choose a higher resolution"
                ) from error
            raise UserInputError(
                "too few patches are foreground for three colours; move the threshold down, or switch it off"
            ) from error
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > _BASES_KEPT:
                self._kept.popitem(last=False)
        return found


_BASES = _Bases()
