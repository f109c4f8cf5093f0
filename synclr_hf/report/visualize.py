"""Pictures of what an encoder sees: PCA maps, attention maps, nearest neighbours, a plane of all pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from synclr_hf.data.pictures import DECODING_ERRORS, open_picture
from synclr_hf.data.progress import Progress
from synclr_hf.data.seeds import seed_for
from synclr_hf.errors import UserInputError, unknown_name
from synclr_hf.evaluation.encoding.encoder_loading import load_encoder
from synclr_hf.evaluation.encoding.encoders import Encoder, normalised, patch_maps
from synclr_hf.evaluation.encoding.features import FeatureTable, encoder_features
from synclr_hf.evaluation.encoding.vision_outputs import patch_size
from synclr_hf.evaluation.labelled.pictures import resize_and_crop
from synclr_hf.evaluation.neighbours import neighbours_within
from synclr_hf.evaluation.seeing.attention import attention_maps, has_class_token, without_class_token
from synclr_hf.evaluation.seeing.foreground_split import read_threshold
from synclr_hf.evaluation.seeing.pca import PcaBasis, fit_pca_basis
from synclr_hf.evaluation.seeing.principal_components import principal_components
from synclr_hf.evaluation.seeing.resolution import whole_patches
from synclr_hf.evaluation.seeing.shown_pictures import ShownPictures, in_turns, shown_pictures
from synclr_hf.report.visualize_map import THUMBNAIL, class_map, thumbnail_map
from synclr_hf.report.visualize_patches import attention_sheet, pca_sheet
from synclr_hf.report.visualize_sheets import INK, RIGHT, SOFT, WRONG, Cell, sheet

KINDS = ("pca", "attention", "neighbours", "map")
BASIS_FILE = "pca_basis.safetensors"
NUM_NEIGHBOURS = 8
MOST_SHOWN = 64
"""Pictures with maps or neighbours at most."""
SIZE = 448
_NEIGHBOUR_SIDE = 128
_LEAST = {"neighbours": 2, "map": 3}
"""Pictures that a kind needs."""


@dataclass(frozen=True)
class VisualizeConfig:
    """What is drawn, of which encoder and which pictures.

    Attributes:
        model: folder or Hub id of an encoder; untrained:NAME is the same with random weights.
        images: picture files, folders of them, or one data set (a folder or a Hub id).
        output: folder for the pictures.
        kinds: any of pca, attention, neighbours, map, by commas (default: all that the encoder can give).
        count: pictures whose maps and neighbours are drawn, at most 64.
        pool: pictures at most that neighbours are sought among and that the map shows.
        size: long side in pixels at which the encoder sees pictures for pca and attention; they keep their shape, up
            to whole patches.
        height: instead of the size: this height and --width for all, what sticks out is cropped (paper: 336).
        width: see --height (paper: 448).
        threshold: with pca: split off the background at this score of the first component, in standard deviations,
            or otsu; colours are then those of the foreground alone (default: none).
        basis: colours of an earlier run, its pca_basis.safetensors: the same feature keeps its colour.
        smooth: interpolate between patches instead of drawing blocks.
        split: of a data set (default: test if there is one, else the first).
        seed: of the choice of pictures.
        device: where the encoder runs, e.g. cuda (default: cuda where there is a GPU).
    """

    model: str
    images: list[str]
    output: str
    kinds: str | None = None
    count: int = 8
    pool: int = 1000
    size: int = SIZE
    height: int | None = None
    width: int | None = None
    threshold: str | None = None
    basis: str | None = None
    smooth: bool = False
    split: str | None = None
    seed: int = 0
    device: str | None = None


@dataclass
class _Work:
    """What the kinds share."""

    config: VisualizeConfig
    encoder: Encoder
    pictures: ShownPictures
    shown: list[tuple[Image.Image, str]] = field(default_factory=list)
    table: FeatureTable | None = None

    @property
    def folder(self) -> Path:
        return Path(self.config.output).expanduser()

    def pixel_values(self, image: Image.Image) -> Tensor:
        """Return a prepared picture as the encoder takes it, (1, 3, H, W)."""
        return normalised(np.array(image)[None], self.encoder.image_mean, self.encoder.image_std)

    def features(self) -> FeatureTable:
        """Return a vector for each picture that can be read, computed once."""
        if self.table is None:
            self.table = encoder_features(
                self.encoder, self.pictures.data, description="picture features", most_unreadable=1.0
            )
        return self.table


def visualize(config: VisualizeConfig) -> Iterator[str]:
    """Draw the pictures and yield a line for each that names its file.

    Raises:
        UserInputError: settings that cannot be used, no picture that can be read, or a kind was asked for that the
            encoder or the pictures cannot give.
    """
    kinds = _kinds(config)
    basis = _basis(config)
    found = shown_pictures(config.images, split=config.split)
    Path(config.output).expanduser().mkdir(parents=True, exist_ok=True)
    encoder = load_encoder(config.model, seed=config.seed, device=config.device, dtype=torch.float32)
    chosen = in_turns(found.data.labels.tolist(), seed_for(config.seed, "visualize"))[: config.pool]
    work = _Work(config, encoder, found.rows(chosen))
    unreadable = _choose_shown(work)
    hindered = {kind: error for kind in kinds if (error := _hindrance(kind, work)) is not None}
    if hindered and config.kinds is not None:
        raise next(iter(hindered.values()))
    for kind in kinds:
        if kind in hindered:
            yield f"note: no {kind}: {hindered[kind]}"
        elif kind == "pca":
            yield from _draw_pca(work, basis)
        else:
            yield from _DRAWN[kind](work)
    tried = len(work.shown) + unreadable
    if work.table is not None:
        unreadable, tried = work.table.unreadable, len(work.pictures)
    if unreadable:
        yield f"note: {unreadable:,} of {tried:,} pictures cannot be read and are left out"


def _kinds(config: VisualizeConfig) -> list[str]:
    """Check the settings and return the kinds in the order of drawing."""
    kinds = KINDS if config.kinds is None else [kind.strip() for kind in config.kinds.split(",") if kind.strip()]
    for kind in kinds:
        if kind not in KINDS:
            raise unknown_name("kind", kind, KINDS, "--kinds pca,map")
    if not kinds:
        raise UserInputError(f"--kinds '{config.kinds}' names nothing; allowed: {', '.join(KINDS)}; type --kinds pca")
    for name, most in (("count", MOST_SHOWN), ("pool", None), ("size", None), ("height", None), ("width", None)):
        value = getattr(config, name)
        if value is not None and not 1 <= value <= (most or value):
            allowed = f"1 to {most}" if most else "1 or more"
            raise UserInputError(f"--{name} {value} is not allowed; allowed: {allowed}; type --{name} {most or 448}")
    if _threshold(config.threshold) is not None:
        read_threshold(config.threshold)
    if (config.height is None) != (config.width is None):
        missing = "width" if config.width is None else "height"
        raise UserInputError(f"--height and --width come together; type --{missing} as well, e.g. --{missing} 448")
    return [kind for kind in KINDS if kind in kinds]


def _basis(config: VisualizeConfig) -> PcaBasis | None:
    if config.basis is None:
        return None
    if config.threshold is not None:
        raise UserInputError("--basis brings its own threshold; leave --threshold out")
    return PcaBasis.load(config.basis)


def _choose_shown(work: _Work) -> int:
    """Decode the pictures that are shown one by one and return how many had to be passed over."""
    passed_over = 0
    for row, picture in enumerate(work.pictures.data.pictures):
        if len(work.shown) == work.config.count:
            break
        try:
            work.shown.append((open_picture(picture), work.pictures.texts[row]))
        except DECODING_ERRORS:
            passed_over += 1
    if not work.shown:
        raise UserInputError(
            f"none of {passed_over} pictures of --images {work.config.images[0]} can be read; needed: JPEG, PNG or "
            "another format that Pillow opens"
        )
    return passed_over


def _hindrance(kind: str, work: _Work) -> UserInputError | None:
    """Return why a kind cannot be drawn, if so."""
    if kind == "pca":
        try:
            patch_maps(work.encoder, torch.zeros(1, 3, work.encoder.image_size, work.encoder.image_size))
        except UserInputError as error:
            return error
    elif kind == "attention":
        return None if has_class_token(work.encoder) else without_class_token(work.encoder)
    elif len(work.pictures) < _LEAST[kind]:
        return UserInputError(
            f"{kind} needs {_LEAST[kind]} pictures, --images {work.config.images[0]} has {len(work.pictures)}; "
            "type --kinds pca,attention"
        )
    return None


def prepared(image: Image.Image, config: VisualizeConfig, patch: int) -> Image.Image:
    """Return a picture at the size at which its patches are looked at.

    Args:
        image: RGB of any size.
        config: `height` and `width` crop to exactly these; `size` is the long side, both sides rounded to patches.
        patch: side of a patch in pixels.
    """
    if config.height is not None and config.width is not None:
        return ImageOps.fit(image, (config.width, config.height), Image.Resampling.BICUBIC)
    return whole_patches(image, config.size, patch)


def _patch_pictures(work: _Work, what: str, see: Callable[[Encoder, Tensor], Tensor]) -> tuple[list, list[Tensor]]:
    """Return the shown pictures at the size of the encoder's look, and what `see` says of each."""
    side = patch_size(work.encoder.model)
    images = [prepared(image, work.config, side) for image, _ in work.shown]
    maps = []
    with Progress(what, total=len(images), unit="picture") as bar:
        for image in images:
            seen = see(work.encoder, work.pixel_values(image))[0]
            if not seen.isfinite().all():
                raise UserInputError(f"{what} of '{work.encoder.name}' are NaN or infinite; check the model's weights")
            maps.append(seen)
            bar.update()
    return images, maps


def _draw_pca(work: _Work, basis: PcaBasis | None) -> Iterator[str]:
    images, maps = _patch_pictures(work, "patch features", patch_maps)
    config = work.config
    told = _grid_told(maps)
    fitted_on = "all pictures"
    if basis is None:
        basis = fit_pca_basis(maps, threshold=_threshold(config.threshold), model=config.model)
        basis.save(work.folder / BASIS_FILE)
        told += f"; the three colours hold {sum(basis.components.explained):.0%} of the variance"
        yield f"basis: {work.folder / BASIS_FILE} (type --basis with it to give other pictures the same colours)"
    else:
        _check_fits(basis, config, maps[0].shape[-1])
        fitted_on = "the pictures that the basis comes from"
        if basis.model != config.model:
            yield f"note: the basis comes from '{basis.model}'; colours of two encoders mean different things"
    file = work.folder / "pca.png"
    texts = [text for _, text in work.shown]
    pca_sheet(images, maps, texts, basis, smooth=config.smooth, fitted_on=fitted_on).save(file)
    yield f"pca: {file} ({told})"


def _check_fits(basis: PcaBasis, config: VisualizeConfig, width: int) -> None:
    """Refuse a basis for features of another width than the encoder's."""
    if basis.width != width:
        raise UserInputError(
            f"--basis '{config.basis}' takes features of {basis.width} numbers ('{basis.model}'), '{config.model}' "
            f"has {width}; type the basis of a run with this encoder, or leave it out"
        )


def _draw_attention(work: _Work) -> Iterator[str]:
    images, maps = _patch_pictures(work, "attention maps", attention_maps)
    file = work.folder / "attention.png"
    attention_sheet(images, maps, [text for _, text in work.shown], smooth=work.config.smooth).save(file)
    yield f"attention: {file} ({_grid_told(maps, 1)}, {len(maps[0])} heads)"


def _draw_neighbours(work: _Work) -> Iterator[str]:
    table = work.features()
    if len(table) < _LEAST["neighbours"]:
        yield f"note: no neighbours: {len(table)} of {len(work.pictures)} pictures can be read"
        return
    queries = list(range(min(len(work.shown), len(table))))
    rows, similarities = neighbours_within(table.features, queries, count=NUM_NEIGHBOURS)
    lines = []
    for query, near, values in zip(queries, rows.tolist(), similarities.tolist(), strict=True):
        cells = [_thumbnail(work, query, ((_text(work, query), INK),))]
        for row, value in zip(near, values, strict=True):
            colour = SOFT
            if work.pictures.has_classes:
                colour = RIGHT if table.labels[row] == table.labels[query] else WRONG
            words = _text(work, row)
            cells.append(
                _thumbnail(work, row, ((f"{round(value, 2) + 0.0:.2f}", SOFT), *(((words, colour),) if words else ())))
            )
        lines.append(cells)
    note = f"Cosine similarity of the features of {work.encoder.name}; sought among {len(table):,} pictures."
    if work.pictures.has_classes:
        note += " Green: the query's class; red: another one."
    file = work.folder / "neighbours.png"
    headings = ["query", *(f"nearest {place}" for place in range(1, rows.shape[1] + 1))]
    sheet(lines, headings, note=note, wide_first=True).save(file)
    yield f"neighbours: {file} ({len(queries)} of {len(table):,} pictures, the {rows.shape[1]} nearest to each)"


def _draw_map(work: _Work) -> Iterator[str]:
    table = work.features()
    features = F.normalize(table.features, dim=1)
    plane = principal_components(features, 2)
    points = plane.scores(features).numpy()
    file = work.folder / "map.png"
    drawn = thumbnail_map(file, points, lambda row: resize_and_crop(_opened(work, row), THUMBNAIL), plane.explained)
    yield f"map: {file} ({drawn:,} of {len(table):,} pictures drawn)"
    if work.pictures.has_classes:
        file = work.folder / "map_classes.png"
        names = work.pictures.data.label_names
        class_map(file, points, [names[label] for label in table.labels.tolist()], plane.explained)
        yield f"map: {file} ({len(table):,} pictures of {len(set(table.labels.tolist())):,} classes)"


_DRAWN: dict[str, Callable[[_Work], Iterator[str]]] = {
    "attention": _draw_attention,
    "neighbours": _draw_neighbours,
    "map": _draw_map,
}


def _threshold(typed: str | None) -> str | None:
    return None if typed in (None, "none") else typed


def _grid_told(maps: list[Tensor], first: int = 0) -> str:
    """Tell how many pictures of how many patches there are; rows and columns start at axis `first` of a map."""
    grids = sorted({tuple(one.shape[first : first + 2]) for one in maps})
    rows, columns = grids[-1]
    return f"{len(maps)} pictures, {'up to ' if len(grids) > 1 else ''}{rows} x {columns} patches"


def _opened(work: _Work, row: int) -> Image.Image:
    """Decode the picture that row `row` of the features describes."""
    return open_picture(work.pictures.data.pictures[int(work.features().rows[row])])


def _text(work: _Work, row: int) -> str:
    return work.pictures.texts[int(work.features().rows[row])]


def _thumbnail(work: _Work, row: int, lines: tuple[tuple[str, str], ...]) -> Cell:
    """Return the middle of a picture, with words below."""
    return Cell(resize_and_crop(_opened(work, row), _NEIGHBOUR_SIDE), lines)
