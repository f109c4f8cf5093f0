import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from synclr_hf.captions.stage import CaptionsConfig, write_captions
from synclr_hf.cli.main import main
from synclr_hf.data.pictures import open_picture
from synclr_hf.data.reading import read_images
from synclr_hf.data.schemas import image_features
from synclr_hf.errors import UserInputError
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.regenerate import regenerate
from synclr_hf.images.stage import write_images
from synclr_hf.toyworld import image_generator


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    return write_captions(CaptionsConfig(tmp_path_factory.mktemp("toy") / "captions", num_captions=6), workers=1)


@pytest.fixture(scope="module")
def toy(captions, tmp_path_factory):
    config = ImagesConfig(tmp_path_factory.mktemp("toy") / "images", captions, size=64, guidance_scale=4)
    return write_images(config, workers=1)


def command(*arguments):
    """Return the exit status of a command."""
    with pytest.raises(SystemExit) as caught:
        main(["images", *map(str, arguments)])
    return caught.value.code or 0


def changed(toy, path, change):
    """Return a set of one row: the second one of the toy set, changed."""
    row = dict(read_images(toy)[1])
    row |= change(row)
    (path / "changed/data").mkdir(parents=True)
    table = pa.Table.from_pylist([row], schema=image_features().arrow_schema)
    pq.write_table(table, path / "changed/data/train-00000.parquet")
    return str(path / "changed")


def with_provenance(**entries):
    return lambda row: {"provenance": json.dumps(json.loads(row["provenance"]) | entries)}


def test_a_toy_row_comes_out_the_same(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (toy / "run.json").rename(toy / "hidden.json")  # the row is enough
    try:
        assert command("--regenerate", 3, "--output-dir", toy) == 0
    finally:
        (toy / "hidden.json").rename(toy / "run.json")
    row = read_images(toy)[3]
    assert capsys.readouterr().out.splitlines() == [
        row["caption"],
        *(f"picture {number}, seed {seed}: same bytes" for number, seed in enumerate(row["seeds"])),
        "all pictures are the same, within a mean difference of 1 of 255",
        "stored above new: regenerated-3.png",
    ]
    sheet = np.asarray(Image.open("regenerated-3.png"))
    assert sheet.shape == (132, 268, 3)
    for number, image in enumerate(row["images"]):
        for top in (0, 68):
            shown = sheet[top : top + 64, number * 68 : number * 68 + 64]
            assert (shown == np.asarray(open_picture(image))).all()


def test_another_picture_is_told(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = changed(toy, tmp_path, lambda row: {"seeds": [*row["seeds"][:3], 7]})
    assert command("--regenerate=0", "--images", folder) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith("same bytes") for line in lines[1:5]] == [True, True, True, False]
    assert lines[4].startswith("picture 3, seed 7: largest difference ") and lines[-2] == "1 of 4 pictures are others"


def test_a_small_difference_is_no_other_picture(toy, tmp_path):
    def a_little_brighter(row):
        levels = np.array(open_picture(row["images"][0]))
        levels[:16] = levels[:16].clip(None, 252) + 3
        Image.fromarray(levels).save(tmp_path / "near.png")
        return {"images": [{"bytes": (tmp_path / "near.png").read_bytes(), "path": None}, *row["images"][1:]]}

    made = regenerate(changed(toy, tmp_path, a_little_brighter), 0)
    assert made.is_same and 0.5 < made.pictures[0].differences.mean() < 1
    assert "largest difference 3, mean 0." in made.pictures[0].told() and "same bytes" in made.pictures[1].told()


def test_a_newer_renderer_is_named(toy, monkeypatch):
    monkeypatch.setattr(image_generator, "REVISION", "9999")
    revision = json.loads(read_images(toy)[0]["provenance"])["revision"]
    assert regenerate(str(toy), 0).notes == (f"revision: {revision} when they were drawn, 9999 now",)


def test_an_extended_row_is_made_with_what_drew_each_part(toy, tmp_path):
    def extended(row):
        provenance = json.loads(row["provenance"])
        first = {"count": 3, **provenance, "revision": "older", "quality": 20}
        first["first_pictures"] = {"count": 1, **provenance}
        return {"provenance": json.dumps(provenance | {"first_pictures": first})}

    made = regenerate(changed(toy, tmp_path, extended), 0)
    assert [picture.stored == picture.again for picture in made.pictures] == [True, False, False, True]
    assert len(made.notes) == 1 and "revision: older when they were drawn" in made.notes[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: {"provenance": '{"imported_from": "photos"}'}, "row 0 of '.*' does not say which model drew"),
        (lambda row: {"provenance": None}, "does not say which model drew its pictures"),
        (with_provenance(back_end="diffusers", generator="/gone"), "again: .* '/gone' cannot be loaded .*; put the"),
        (with_provenance(back_end="dalle"), "unknown image generator 'dalle:toyworld-renderer'"),
    ],
)
def test_rows_that_cannot_be_made_again(toy, tmp_path, change, said):
    with pytest.raises(UserInputError, match=said):
        regenerate(changed(toy, tmp_path, change), 0)


def test_no_such_row_or_set(toy, capsys):
    assert command("--regenerate", 6, "--output-dir", toy) == 2
    assert "has 6 rows; allowed: 0 to 5; type --regenerate 0" in capsys.readouterr().err
    assert command("--regenerate", -1, "--output-dir", toy) == 2
    assert command("--regenerate", 0, "--output-dir", "no/such/folder") == 2
    assert "'no/such/folder' does not exist" in capsys.readouterr().err
    assert command("--regenerate", "--help") == 0
    assert "--output-dir SET, --images SET" in capsys.readouterr().out


@pytest.fixture(scope="module")
def drawn(captions, tmp_path_factory):
    """A set that a pipeline drew, several captions in one batch."""
    from tiny_diffusion import save_tiny_stable_diffusion

    model = save_tiny_stable_diffusion(tmp_path_factory.mktemp("model"))
    config = ImagesConfig(
        tmp_path_factory.mktemp("drawn") / "images", captions, model, num_inference_steps=2, size=24, batch_size=8
    )
    return write_images(config, workers=1)


def test_a_row_of_a_pipeline_comes_out_the_same(drawn):
    made = regenerate(str(drawn), 2)
    assert made.is_same and len(made.pictures) == 4 and made.notes == ()
    assert max(picture.differences.max() for picture in made.pictures) <= 8
