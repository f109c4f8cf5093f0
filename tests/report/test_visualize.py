"""`synclr visualize`, typed as a user types it, in this process."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SiglipVisionConfig, SiglipVisionModel

from synclr_hf.cli.main import main
from synclr_hf.models import SynCLRConfig, SynCLRModel
from synclr_hf.report.visualize import VisualizeConfig, prepared
from synclr_hf.report.visualize_map import apart, class_map
from synclr_hf.report.visualize_patches import heat
from synclr_hf.report.visualize_sheets import GAP, Cell, cut, font, sheet

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny encoder, and two classes of pictures in folders, one of them broken."""
    folder = tmp_path_factory.mktemp("visualize")
    torch.manual_seed(0)
    SynCLRModel(SynCLRConfig(**SIZES)).save_pretrained(folder / "model")
    generator = np.random.default_rng(0)
    for number in range(12):
        kind = ("red", "blue")[number % 2]
        pixels = generator.integers(0, 90, (30, 40, 3))
        pixels[8:22, 10:30, 0 if kind == "red" else 2] += 160
        file = folder / "pictures" / kind / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(file)
    (folder / "pictures" / "red" / "broken.png").write_bytes(b"nothing")
    return folder


@pytest.fixture
def typed(capsys, place):
    """Type `synclr visualize ...` and return the exit status, what was printed and what was complained about."""

    def run(*arguments, images=None, model=None):
        standard = ["--model", str(model or place / "model"), "--images", *map(str, images or [place / "pictures"])]
        with pytest.raises(SystemExit) as ended:
            main(["visualize", *standard, *map(str, arguments)])
        out, errors = capsys.readouterr()
        return ended.value.code, out, errors

    return run


def size_of(file):
    with Image.open(file) as opened:
        opened.load()
        return opened.size


def test_every_kind_is_drawn_and_named(typed, tmp_path):
    status, out, errors = typed("--output", tmp_path / "new" / "out", "--size", 64, "--count", 3)
    assert status == 0, errors
    lines = [line for line in out.splitlines() if not line.startswith("note")]
    kinds = ["basis", "pca", "attention", "neighbours", "map", "map"]
    assert [line.partition(":")[0] for line in lines] == kinds
    files = [line.split()[1] for line in lines]
    names = ["pca_basis.safetensors", "pca.png", "attention.png", "neighbours.png", "map.png", "map_classes.png"]
    assert files == [str(tmp_path / "new" / "out" / name) for name in names]
    assert "3 pictures, 6 x 8 patches" in lines[1] and "2 heads" in lines[2] and "the 8 nearest to each" in lines[3]
    assert "12 pictures of 2 classes" in lines[5] and "cannot be read" in out
    sizes = {name: size_of(tmp_path / "new" / "out" / name) for name in names[1:]}
    assert sizes["pca.png"][0] == 3 * 320 + 4 * GAP  # 8 patches of 40 pixels
    assert sizes["attention.png"][0] == 5 * 320 + 6 * GAP
    assert sizes["map.png"][0] == sizes["map_classes.png"][0] == 1200


def test_colours_of_a_saved_basis_are_those_of_the_first_run(typed, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    shape = ("--kinds", "pca", "--height", 24, "--width", 40, "--count", 4, "--threshold", "otsu")
    assert typed("--output", first, *shape)[0] == 0
    shape = shape[:-2]
    assert typed("--output", second, *shape, "--basis", first / "pca_basis.safetensors")[0] == 0
    drawn = [np.asarray(Image.open(BytesIO((folder / "pca.png").read_bytes()))) for folder in (first, second)]
    cells = min(len(one) for one in drawn) - 70  # the note below tells where the basis comes from
    assert cells > 800 and np.array_equal(drawn[0][:cells], drawn[1][:cells])
    assert not (second / "pca_basis.safetensors").exists()
    assert typed("--output", first, *shape, "--smooth")[0] == 0  # other colours: no threshold, and interpolated
    assert (first / "pca.png").read_bytes() != (second / "pca.png").read_bytes()


def test_kinds_that_an_encoder_lacks_are_passed_over_or_refused(typed, tmp_path, place):
    torch.manual_seed(0)
    SiglipVisionModel(SiglipVisionConfig(**SIZES, intermediate_size=16)).save_pretrained(tmp_path / "siglip")
    few = [place / "pictures" / "blue" / "01.png", place / "pictures" / "red" / "00.png"]
    status, out, _ = typed("--output", tmp_path / "out", "--size", 32, images=few, model=tmp_path / "siglip")
    assert status == 0
    assert "note: no attention: " in out and "note: no map: map needs 3 pictures" in out
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "neighbours.png",
        "pca.png",
        "pca_basis.safetensors",
    ]
    status, _, errors = typed("--output", tmp_path / "out", "--kinds", "map,attention", model=tmp_path / "siglip")
    assert status == 2 and len(errors.strip().splitlines()[-1:]) == 1
    assert "SiglipVisionModel) has no class token whose attention could be drawn" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kinds", "tsne"], "no kind 'tsne'|kind 'tsne'"),
        (["--kinds", ","], "--kinds ',' names nothing; allowed: pca, attention, neighbours, map"),
        (["--count", "65"], "--count 65 is not allowed; allowed: 1 to 64"),
        (["--size", "0"], "--size 0 is not allowed; allowed: 1 or more"),
        (["--height", "32"], "--height and --width come together; type --width as well"),
        (["--basis", "x", "--threshold", "0"], "--basis brings its own threshold"),
        (["--basis", "nowhere.safetensors"], "--basis 'nowhere.safetensors' is no basis"),
        (["--threshold", "much"], "--threshold 'much' is no threshold"),
        (["--height", "30", "--width", "32", "--kinds", "pca"], "multiple of 8"),
    ],
)
def test_bad_settings_are_one_line(typed, tmp_path, arguments, message):
    status, _, errors = typed("--output", tmp_path / "out", *arguments)
    assert status == 2
    line = errors.strip().splitlines()[-1]
    assert line.startswith("synclr: error: ")
    assert any(part in line for part in message.split("|")), line


def test_pictures_that_cannot_be_read_are_counted(typed, tmp_path, place):
    broken = place / "pictures" / "red" / "broken.png"
    status, _, errors = typed("--output", tmp_path / "out", images=[broken])
    assert status == 2 and "none of 1 pictures of --images" in errors
    status, out, _ = typed(
        "--output", tmp_path / "out", "--kinds", "neighbours", images=[broken, place / "pictures" / "blue"]
    )
    assert status == 0 and "note: 1 of 7 pictures cannot be read and are left out" in out
    one = place / "pictures" / "blue" / "01.png"
    status, out, _ = typed("--output", tmp_path / "one", "--kinds", "neighbours", images=[broken, one])
    assert status == 0 and "note: no neighbours: 1 of 2 pictures can be read" in out
    assert not (tmp_path / "one" / "neighbours.png").exists()


def test_a_broken_model_is_named_before_anything_is_drawn(typed, tmp_path):
    model = SynCLRModel(SynCLRConfig(**SIZES))
    model.norm.weight.data[0] = float("nan")
    model.save_pretrained(tmp_path / "broken")
    status, _, errors = typed("--output", tmp_path, "--kinds", "pca", "--size", 32, model=tmp_path / "broken")
    assert status == 2 and "patch features of" in errors and "are NaN or infinite; check the model's weights" in errors
    assert not (tmp_path / "pca.png").exists()


def test_a_basis_of_another_width_is_refused(typed, tmp_path):
    torch.manual_seed(0)
    SynCLRModel(SynCLRConfig(**{**SIZES, "hidden_size": 8})).save_pretrained(tmp_path / "narrow")
    assert typed("--output", tmp_path, "--kinds", "pca", "--size", 32, model=tmp_path / "narrow")[0] == 0
    basis = tmp_path / "pca_basis.safetensors"
    status, _, errors = typed("--output", tmp_path, "--kinds", "pca", "--basis", basis)
    assert status == 2 and "takes features of 8 numbers" in errors and "has 16" in errors


def test_prepared_pictures_keep_their_shape_or_are_cropped():
    config = {"model": "m", "images": [], "output": "o"}
    photo = Image.new("RGB", (300, 200))
    assert prepared(photo, VisualizeConfig(**config), 16).size == (448, 304)
    assert prepared(photo, VisualizeConfig(**config, size=500), 14).size == (504, 336)
    assert prepared(photo, VisualizeConfig(**config, height=336, width=448), 14).size == (448, 336)
    assert prepared(Image.new("RGB", (1000, 3)), VisualizeConfig(**config), 16).size == (448, 16)


def test_sheets_are_as_large_as_their_cells():
    cells = [Cell(Image.new("RGB", (40, 30), "red"), (("a word that is much too long", "#000000"),)) for _ in range(2)]
    drawn = sheet([cells, cells, cells], ["one", "two"], blocks=2)
    assert drawn.width == 2 * (80 + GAP) + 28 + 2 * GAP
    assert (np.asarray(drawn) == (255, 0, 0)).all(axis=2).sum() == 6 * 40 * 30
    assert font().getlength(cut("a word that is much too long", 40)) <= 40 and cut("a\nb", 90) == "a b"


def test_attention_that_looks_nowhere_is_not_drawn_as_looking_everywhere():
    even, focused = torch.full((10, 10), 0.01), torch.full((10, 10), 0.001)
    focused[3:5, 4] = 0.4
    assert len(np.unique(heat(even).reshape(-1, 3), axis=0)) == 1
    assert heat(even).sum(axis=2).max() < 1.2 < heat(focused)[3, 4].sum() < 3
    assert heat(torch.zeros(2, 2)).max() < 0.1


def test_classes_beyond_ten_are_grey_and_odd_names_are_drawn(tmp_path):
    names = ["", "$x^2", "日本 <b>", "a name that is much too long for any legend of this width", *"abcdefghij"]
    classes = [name for number, name in enumerate(names) for _ in range(1 if number > 9 else 2)]
    points = np.random.default_rng(0).normal(size=(len(classes), 2)) * (3, 1)
    class_map(tmp_path / "map.png", points, classes, (0.5, 0.25))
    with Image.open(tmp_path / "map.png") as drawn:
        pixels = np.asarray(drawn.convert("RGB"))
    assert pixels.shape[1] == 1200 and 675 <= pixels.shape[0] <= 1275
    assert (pixels[:, -10:] == 255).all() and (pixels == (0xC3, 0xCA, 0xCD)).all(axis=2).any()


def test_squares_that_would_lie_on_an_earlier_one_are_left_out():
    places = np.asarray([[0.0, 0.0], [5.0, 5.0], [10.0, 0.0], [10.0, 9.0], [0.0, 10.0]])
    assert apart(places, 10) == [0, 2, 4]
