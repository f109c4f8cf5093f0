"""Pictures and captions that were made elsewhere become an images set of ours."""

import csv
import io
import json
import math
import tarfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from image_sets import picture
from PIL import Image as Pillow

from synclr_hf.cli.main import main as synclr
from synclr_hf.data.parquet_rows import ParquetRows
from synclr_hf.data.reading import read_images
from synclr_hf.data.runs import read_record
from synclr_hf.data.schemas import image_features
from synclr_hf.data.shards import ShardTask
from synclr_hf.data.tally import Tally
from synclr_hf.errors import UserInputError
from synclr_hf.images.import_index import Index
from synclr_hf.images.import_maker import ImportMaker, UnreadablePicture, stored_picture
from synclr_hf.images.import_stage import ImportConfig, find_source, import_images

CAPTIONS = ("A mug, on a table.", 'A hat that says "hello".', "Zwei Glocken über dem Tal.", "A bell\nin the snow.")
LINES = tuple(" ".join(caption.split()) for caption in CAPTIONS)


def encode(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures():
    """Encoded pictures, four of each caption: two to keep, a large one and a PNG."""
    made = {}
    for row, caption in enumerate(CAPTIONS):
        sizes = ((40, 40), (64, 48), (300, 180), (50, 70))
        drawn = [picture(10 * row + k, 64).resize(size) for k, size in enumerate(sizes)]
        made[caption] = [encode(drawn[0]), encode(drawn[1], "WEBP"), encode(drawn[2]), encode(drawn[3], "PNG")]
    return made


@pytest.fixture(scope="module")
def layout(pictures, tmp_path_factory):
    """The layout of the authors' code: captions.csv, and four folders with the same file names."""
    root = tmp_path_factory.mktemp("layout")
    with open(root / "captions.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([f"{row % 2}/{row}.jpg", caption] for row, caption in enumerate(CAPTIONS))
    for row, contents in enumerate(pictures.values()):
        for k, encoded in enumerate(contents):
            path = root / f"gen_{k}" / f"{row % 2}" / f"{row}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded)
    return root


@pytest.fixture
def config(layout, tmp_path):
    folders = [layout / f"gen_{k}" for k in range(4)]
    return ImportConfig(tmp_path / "out", layout / "captions.csv", folders, size=96, rows_per_shard=3)


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, contents in files:
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            tar.addfile(member, io.BytesIO(contents))
    return path


def samples(pictures):
    """Webdataset samples of one picture each, the captions in turns, as text and as JSON."""
    for k in range(4):
        for row, (caption, contents) in enumerate(pictures.items()):
            key = f"{'deep/' * 30}{k}{row:03d}"  # longer than the 100 bytes of a plain header
            yield f"{key}.jpg", contents[k]
            if k % 2:
                yield f"{key}.json", json.dumps({"prompt": caption, "seed": k, "concept": "thing"}).encode()
            else:
                yield f"{key}.txt", f"{caption}\n".encode()


def rows_of(folder):
    return [
        (row["caption_id"], row["caption"], [one["bytes"] for one in row["images"]]) for row in read_images(folder)
    ]


def counts_of(folder):
    notes = [json.loads(path.read_text()) for path in sorted((folder / "shards").iterdir())]
    return {name: sum(note["counts"].get(name, 0) for note in notes) for note in notes for name in note["counts"]}


def shards(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "data").iterdir())}


def test_the_layout_of_the_authors_code(config, layout, pictures):
    folder = import_images(config, workers=1)
    rows = read_images(folder)
    assert rows["caption"][:] == list(LINES) and rows["caption_id"][:] == [0, 1, 2, 3]
    assert ParquetRows(folder)[2]["images"] == rows[2]["images"]
    assert Dataset.from_parquet(str(folder / "data/train-00000.parquet")).features == image_features()
    first = rows[0]
    assert first["concept"] is None and first["seeds"] == [-1] * 4 and math.isnan(first["guidance_scale"])
    told = json.loads(first["provenance"])
    assert told["imported_from"] == first["source"] == "captions.csv"
    assert told["originals"] == [f"gen_{k}/0/0.jpg" for k in range(4)]
    stored = [one["bytes"] for one in first["images"]]
    assert stored[:2] == pictures[CAPTIONS[0]][:2], "small JPEG and WebP files stay as they are"
    opened = [Pillow.open(io.BytesIO(one)) for one in stored]
    assert [one.format for one in opened] == ["JPEG", "WEBP", "JPEG", "JPEG"]
    assert [one.size for one in opened] == [(40, 40), (64, 48), (160, 96), (50, 70)]
    assert str(layout) not in first["provenance"]
    card = (folder / "README.md").read_text()
    assert "made elsewhere" in card and "licence was not checked" in card and "license: unknown" in card
    assert "--folders " in card and f"gen_0 {layout}" in card, "a command that can be typed"


def test_three_sources_give_the_same_rows(config, pictures, tmp_path):
    expected = rows_of(import_images(config, workers=1))
    files = list(samples(pictures))
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "shards/00000.tar", files[:10])
    write_tar(tmp_path / "shards/00001.tar", [*files[10:], ("._0.jpg", b"x"), ("alone.txt", b"A text.")])
    flat = [
        {"jpg": {"bytes": contents[k], "path": None}, "text": caption, "label": row % 2, "seed": k}
        for k in range(4)
        for row, (caption, contents) in enumerate(pictures.items())
    ]
    (tmp_path / "rows").mkdir()
    rows = Dataset.from_list(flat).cast_column("jpg", Image()).cast_column("label", ClassLabel(names=["mug", "hat"]))
    rows.to_parquet(tmp_path / "rows" / "part.parquet")
    (tmp_path / "pictures").mkdir()
    with open(tmp_path / "pictures.csv", "w", newline="", encoding="utf-8-sig") as file:
        table = csv.writer(file)
        table.writerow(["seed", "caption", "file_name"])
        for number, row in enumerate(flat):
            (tmp_path / "pictures" / f"{number}.png").write_bytes(row["jpg"]["bytes"])
            table.writerow([row["seed"], row["text"], f"{number}.png"])
    sources = {
        "tars": {"source": tmp_path / "shards"},
        "pattern": {"source": tmp_path / "shards/{00000..00001}.tar"},
        "parquet": {"source": tmp_path / "rows", "concept_column": "label"},
        "one folder": {"source": tmp_path / "pictures.csv", "folders": [tmp_path / "pictures"]},
    }
    for name, source in sources.items():
        settings = replace(config, **{"folders": [], **source}, output_dir=tmp_path / name)
        folder = import_images(settings, workers=1)
        assert rows_of(folder) == expected, name
        row = read_images(folder)[1]
        assert row["seeds"] == ([-1, 1, -1, 3] if name in ("tars", "pattern") else [0, 1, 2, 3])
        assert row["concept"] == {"tars": "thing", "pattern": "thing", "parquet": "hat"}.get(name)
    assert read_images(tmp_path / "pattern")["source"][0] == "shards/{00000..00001}.tar"
    with pytest.raises(
        UserInputError, match=r"1 of the 3 files of .* are missing, such as .*00002.tar'; type --source"
    ):
        import_images(replace(config, source=tmp_path / "shards/{00000..00002}.tar", folders=[]))
    told = json.loads(read_images(tmp_path / "tars")[1]["provenance"])["originals"]
    assert told[3] == f"00001.tar/{'deep/' * 30}3001.jpg"


def test_a_folder_of_pictures_with_metadata(config, pictures, tmp_path):
    (tmp_path / "photos").mkdir()
    lines = []
    for number, contents in enumerate(pictures[CAPTIONS[0]]):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(contents)
        lines.append(json.dumps({"file_name": f"{number}.jpg", "text": "A mug"}))
    (tmp_path / "photos/metadata.jsonl").write_text("\n".join(lines))
    folder = import_images(replace(config, source=tmp_path / "photos", folders=[]), workers=1)
    row = read_images(folder)[0]
    assert (row["caption"], row["source"], len(row["images"])) == ("A mug", "photos", 4)
    assert json.loads(row["provenance"])["originals"] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]


def test_rows_that_are_grouped_already(config, pictures, tmp_path):
    features = Features({"pics": List(Image()), "json": {"prompt": Value("string")}, "seeds": List(Value("int64"))})
    rows = [
        {"pics": [{"bytes": one, "path": None} for one in some], "json": {"prompt": caption}, "seeds": [5, 6, 7, 8]}
        for caption, some in pictures.items()
    ]
    Dataset.from_list(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    settings = replace(config, source=tmp_path / "rows.parquet", folders=[], images_per_caption=2)
    folder = import_images(settings, workers=1)
    assert rows_of(folder) == [(k, line, pictures[CAPTIONS[k]][:2]) for k, line in enumerate(LINES)]
    assert read_images(folder)[0]["seeds"] == [5, 6] and counts_of(folder) == {"left_over": 8}


def test_rubbish_is_counted_and_the_rest_survives(config, layout, pictures, tmp_path):
    good = pictures[CAPTIONS[0]]
    files = {
        "a.jpg": good[0],
        "text.jpg": b"not a picture at all",
        "b.jpg": good[2],
        "cut.jpg": good[2][:700],
        "same.jpg": good[0],
        "vector.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "c.jpg": good[1],
    }
    (tmp_path / "p").mkdir()
    for name, contents in files.items():
        (tmp_path / "p" / name).write_bytes(contents)
    (tmp_path / "secret.jpg").write_bytes(good[3])
    names = [*list(files)[:-1], "missing.jpg", "../secret.jpg"]
    lines = [f'{name},"A mug"' for name in names] + ["c.jpg,A mug of its own", "c.jpg,", "c.jpg", ""]
    lines += ["a.jpg,Half broken", "missing.jpg,Half broken", "a.jpg,Two hats", "b.jpg,Two  hats"]
    (tmp_path / "list.csv").write_text("image,text\n" + "\n".join(lines))
    settings = replace(config, source=tmp_path / "list.csv", folders=[tmp_path / "p"])
    folder = import_images(settings, workers=1)
    assert [(number, caption, len(some)) for number, caption, some in rows_of(folder)] == [
        (0, "A mug", 2),
        (2, "Two hats", 2),
    ]
    assert counts_of(folder) == {
        "unreadable": 6,
        "same_picture": 1,
        "single_picture": 2,
        "empty_caption": 1,
        "incomplete_row": 1,
    }
    assert (
        "| single\\_picture | 2 |" in (folder / "README.md").read_text()
        or "single" in (folder / "README.md").read_text()
    )


def test_too_many_broken_pictures_are_refused_by_name(config, layout, tmp_path):
    (tmp_path / "p").mkdir()
    for number in range(60):
        contents = (layout / "gen_0/0/0.jpg").read_bytes() if number % 2 == 0 else b"rubbish"
        (tmp_path / "p" / f"{number}.jpg").write_bytes(contents + bytes([number]))
    (tmp_path / "list.csv").write_text("".join(f"{number}.jpg,A mug {number // 4}\n" for number in range(60)))
    settings = replace(config, source=tmp_path / "list.csv", folders=[tmp_path / "p"])
    with pytest.raises(
        UserInputError, match=r"21 of 4\d pictures of 'list.csv' cannot be read \('p/1.jpg': it is no p"
    ):
        import_images(settings, workers=1)
    folder = import_images(replace(settings, max_unreadable_share=0.5), workers=1)
    assert len(read_images(folder)) == 15 and counts_of(folder)["unreadable"] == 30


def test_killed_and_started_again_the_bytes_are_the_same(config, tmp_path):
    whole = shards(import_images(config, workers=2))
    folder = import_images(replace(config, output_dir=tmp_path / "again"), workers=1)
    (folder / "shards/00001.json").unlink()
    (folder / "data/train-00001.parquet").write_bytes(b"PAR1 half")
    assert shards(import_images(replace(config, output_dir=tmp_path / "again"), workers=1)) == whole
    assert len(whole) == 2


def test_a_changed_source_is_noticed(config, layout, tmp_path):
    (tmp_path / "list.csv").write_text((layout / "captions.csv").read_text())
    settings = replace(config, source=tmp_path / "list.csv")
    folder = import_images(settings, workers=1)
    assert read_record(folder)["stage"] == "images"
    (tmp_path / "moved.csv").write_text((layout / "captions.csv").read_text())
    import_images(replace(settings, source=tmp_path / "moved.csv"), workers=1)
    (tmp_path / "list.csv").write_text((layout / "captions.csv").read_text().replace("mug", "jug"))
    with pytest.raises(UserInputError, match=r"another configuration: source_fingerprint \w+ there, \w+ now"):
        import_images(settings, workers=1)
    with pytest.raises(UserInputError, match=r"another configuration: source_fingerprint"):
        import_images(replace(settings, source=tmp_path / "moved.csv", folders=settings.folders[::-1]), workers=1)


def test_what_is_stored_of_a_picture():
    def opened(contents):
        return Pillow.open(io.BytesIO(stored_picture(contents, 64, 90)))

    exif = Pillow.Exif()
    exif[0x0112] = 6
    lying = picture(1, 64).resize((60, 30))
    assert opened(encode(lying, exif=exif)).size == (30, 60)
    assert opened(encode(picture(2, 900).resize((900, 600)))).size == (96, 64)
    assert opened(encode(picture(2, 64).convert("L"), "PNG")).mode == "RGB"
    clear = Pillow.new("RGBA", (20, 20), (0, 0, 0, 0))
    assert np.asarray(opened(encode(clear, "WEBP", lossless=True))).min() > 250
    frames = [picture(seed, 20) for seed in (1, 2)]
    moving = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=50)
    assert opened(moving).format == "JPEG"
    kept = encode(picture(3, 64).convert("L"))
    assert stored_picture(kept, 64, 90) == kept
    bomb = encode(Pillow.new("1", (14000, 13000)), "PNG")
    with pytest.raises(UnreadablePicture, match="decompression bomb"):
        stored_picture(bomb, 64, 90)


@pytest.mark.parametrize(
    ("name", "contents", "said"),
    [
        ("a.csv", b"url,alt\nhttp://x/y.jpg,A mug\n", r"has no column path or file_name or image \(it has url, alt\)"),
        ("a.csv", b"image,words\nx.jpg,A mug\n", r"has no column caption .*\(it has image, words\).*--caption-column"),
        ("a.csv", "x.jpg,Müll\n".encode("latin1"), "is not in UTF-8 .*iconv"),
        ("a.csv", "image,text\nx.jpg,A\n".encode("utf-16"), "is not in UTF-8"),
        ("a.csv", b'image,text\nx.jpg,"A' + b"a\n" * 100_000, "is no csv file .*double quotes"),
        ("a.csv", b"", "has no first row"),
        ("a.csv", b"x.jpg,A mug\ny.jpg,A mug\n", r"none of the first 2 pictures of 'a.csv' can be read .*--folders"),
        ("a.csv", b"x.jpg,A mug\ny.jpg,A hat\n", "each of the 2 captions of 'a.csv' has one picture"),
        ("a.csv", b"image,text\nx.jpg,\n", r"no picture with a caption was found in 'a.csv' \(1 empty_caption\)"),
        ("a.tar", b"no tar" * 300, "is no whole tar file"),
        ("a.tar.gz", b"", "is compressed"),
        ("a.parquet", b"rubbish", "cannot be loaded .*--source with a csv"),
        ("a.txt", b"x", "--source .*a csv file, tar files"),
    ],
)
def test_sources_that_cannot_be_used(tmp_path, config, name, contents, said):
    (tmp_path / name).write_bytes(contents)
    with pytest.raises(UserInputError, match=said):
        import_images(replace(config, source=tmp_path / name, folders=[]), workers=1)
    assert not (tmp_path / "out").exists()


def test_tar_files_that_are_damaged(tmp_path, config, pictures):
    whole = write_tar(tmp_path / "a.tar", samples(pictures)).read_bytes()
    settings = replace(config, source=tmp_path / "a.tar", folders=[])
    for damaged in (whole[:9000], whole[: 512 * 6] + b"x" * 2000):
        (tmp_path / "a.tar").write_bytes(damaged)
        with pytest.raises(UserInputError, match="is no whole tar file .*fetch it again"):
            import_images(settings, workers=1)
    write_tar(tmp_path / "a.tar", [("1.jpg", b"x"), ("1.json", b"{"), ("2.jpg", b"x"), ("2.txt", b"\xff\xfe")])
    with pytest.raises(UserInputError, match=r"no picture with a caption .*\(2 unreadable_caption\)"):
        import_images(settings, workers=1)


def test_captions_of_tar_files_that_are_odd(tmp_path, config, pictures):
    """Half a character, a list in place of a text, JSON that is nested too deeply, and JSON that is no object."""
    texts = [b'{"caption": "A \\ud800 mug"}', b'{"caption": ["A", "B"], "text": "A hat"}', b"[" * 10**5, b"3"]
    files = [
        (f"{row}{k}.{suffix}", contents)
        for row, text in enumerate(texts)
        for k in range(2)
        for suffix, contents in (("png", pictures[CAPTIONS[0]][k]), ("json", text))
    ]
    folder = import_images(replace(config, source=write_tar(tmp_path / "a.tar", files), folders=[]), workers=1)
    assert read_images(folder)["caption"][:] == ["A ? mug", "A hat"]
    assert counts_of(folder) == {"unreadable_caption": 2, "empty_caption": 2}


def test_a_source_that_changes_while_it_is_read(tmp_path, config):
    table = tmp_path / "list.csv"
    table.write_text("0/0.jpg,A mug\n1/1.jpg,A hat\n")
    source, index = find_source(replace(config, source=table)), Index()
    source.index(index)
    table.write_text("0/0.jpg,A mug\n1/1\n")
    maker = ImportMaker(source, 64, 90, 4, 0.05, Counter())
    places = [dict(zip(("places", "pictures"), index.groups().of(1), strict=True))]
    with pytest.raises(UserInputError, match="'list.csv' cannot be read any more .it has changed.; run the same com"):
        list(maker.make(ShardTask(1, 1, 1, tuple(places)), Tally(), int))
    source.close()


def test_columns_that_cannot_be_used(tmp_path, config, pictures):
    file = tmp_path / "a.parquet"
    settings = replace(config, source=file, folders=[])
    rows = [{"image": {"bytes": one, "path": None}, "words": "A mug.", "n": 1} for one in pictures[CAPTIONS[0]]]
    Dataset.from_list(rows).cast_column("image", Image()).to_parquet(file)
    for changes, said in (
        ({}, r"has no column of captions \(it has words, n\); type --caption-column"),
        ({"caption_column": "n"}, r"column 'n' of .* holds no texts \(int64\)"),
        ({"image_column": "words"}, r"column 'words' of .* holds no pictures \(string\); allowed: image"),
        ({"image_column": "imge", "caption_column": "words"}, "has no column 'imge'"),
        ({"split": "test", "caption_column": "words"}, r"has no split 'test' \(train\); type --split"),
    ):
        with pytest.raises(UserInputError, match=said):
            import_images(replace(settings, **changes), workers=1)
    assert len(rows_of(import_images(replace(settings, caption_column="words"), workers=1))[0][2]) == 4


def test_the_command(layout, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed = ["import", "--source", str(layout / "captions.csv"), "--workers", "1"]
    with pytest.raises(SystemExit) as caught:
        synclr([*typed, "--folders", *(str(layout / f"gen_{k}") for k in range(3))])
    assert caught.value.code == 0 and capsys.readouterr().out == "images: outputs/images\n"
    assert [len(row[2]) for row in rows_of(tmp_path / "outputs/images")] == [3] * 4
    with pytest.raises(SystemExit) as caught:
        synclr([*typed, "--folders", "nowhere"])
    assert caught.value.code == 2 and "--folders nowhere is no folder" in capsys.readouterr().err


@pytest.fixture
def hub_with_pictures(hub, pictures):
    """A Hub with `ada/found`: a picture a row, and a card that states a licence."""
    rows = [{"image": {"bytes": one, "path": None}, "prompt": text} for text in CAPTIONS for one in pictures[text]]
    file = io.BytesIO()
    Dataset.from_list(rows).cast_column("image", Image()).to_parquet(file)
    card = b"---\nlicense: cc-by-4.0\n---\n# Things"
    hub.add("ada/found", {"data/train-00000.parquet": file.getvalue(), "README.md": card}, "dataset")
    return hub


def test_a_data_set_of_the_hub(hub_with_pictures, config, tmp_path):
    folder = tmp_path / "out"
    hub_with_pictures.python(
        "from synclr_hf.images.import_stage import ImportConfig, find_source, import_images\n"
        f"import_images(ImportConfig({str(folder)!r}, 'ada/found', size=96), workers=1)"
    )
    expected = rows_of(import_images(replace(config, output_dir=tmp_path / "csv"), workers=1))
    assert rows_of(folder) == expected
    assert "its card says license `cc-by-4.0`" in (folder / "README.md").read_text()
    assert read_images(folder)[0]["source"] == "ada/found"


@pytest.mark.slow
def test_what_was_imported_is_pushed(hub_with_pictures):
    code = "import sys; from synclr_hf.cli.main import main; main(sys.argv[1].split())"
    typed = "import --source ada/found --workers 2 --push-to-hub ada/things"
    told = hub_with_pictures.python(
        f"import sys; sys.argv = ['', {typed!r}]\nif __name__ == '__main__': exec({code!r})"
    )
    assert told.splitlines() == [
        f"published: {hub_with_pictures.url}/datasets/ada/things",
        "images: outputs/things",
    ]
    assert "license `cc-by-4.0`" in hub_with_pictures.files("ada/things", "dataset")["README.md"].decode()
