"""Rows from captions: what is drawn again, kept, dropped, and taken over from an earlier version of a shard."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from synclr_hf.data.pictures import open_picture
from synclr_hf.data.reading import read_images
from synclr_hf.data.schemas import image_features
from synclr_hf.data.seeds import seed_for
from synclr_hf.data.shards import ShardTask, read_note
from synclr_hf.data.tally import Tally
from synclr_hf.errors import UserInputError
from synclr_hf.images import drawing, generators, maker
from synclr_hf.images.config import ImagesConfig
from synclr_hf.images.generators import find_image_generator
from synclr_hf.images.maker import ImageMaker
from synclr_hf.images.stage import write_images

SIZE = 32


def pattern(seed):
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(blocks.repeat(8, 0).repeat(8, 1))


class Obedient:
    """A prompt says what each try gives, the last word for all the rest: `black blocked good`."""

    takes = ()

    def __init__(self):
        self.calls = []
        self.provenance = {"generator": "obedient"}

    def generate(self, prompts, *, seeds, guidance_scale, num_inference_steps, size):
        self.calls.append(list(prompts))
        for prompt, seed in zip(prompts, seeds, strict=True):
            words = prompt.split()
            word = words[min(len(self.calls), len(words)) - 1]
            yield {
                "good": pattern(seed),
                "same": pattern(0),
                "flat": Image.new("RGB", (SIZE, SIZE), "grey"),
                "black": Image.new("RGB", (SIZE, SIZE)),
                "blocked": None,
            }[word]

    def is_cut(self, prompt):
        return len(prompt.split()) > 2


class Threaded(Obedient):
    """The same in one process, so that pictures are encoded on threads."""


class Miscounting(Obedient):
    """Forgets the last picture, or draws one more."""

    more = False

    def generate(self, prompts, **settings):
        if self.more:
            return super().generate([*prompts, "good"], **{**settings, "seeds": [*settings["seeds"], 0]})
        return super().generate(prompts[:-1], **{**settings, "seeds": settings["seeds"][:-1]})


Obedient.parallel_processes = True
Threaded.parallel_processes = False


@pytest.fixture(autouse=True)
def known(monkeypatch):
    for cls in (Obedient, Threaded, Miscounting):
        monkeypatch.setitem(generators.IMAGE_GENERATORS, cls.__name__.lower(), f"{__name__}:{cls.__name__}")


def settings(**changes):
    given = {"output_dir": "out", "captions": "captions", "image_generator": "obedient", "images_per_caption": 2}
    return ImagesConfig(**given | {"size": SIZE, **changes}).resolved()


def captions(*texts):
    return tuple(
        {"caption_id": 10 + number, "caption": text, "concept": text[:5], "source": "test"}
        for number, text in enumerate(texts)
    )


def made(config, rows, *, index=0, kept=None, kept_num_rows=0):
    """Return the rows of a shard, its tally, the units told and the generator."""
    one = ImageMaker(config, find_image_generator(config.image_generator, config.options()))
    one.load()
    tally, told = Tally(), []
    task = ShardTask(index, 0, len(rows), rows, kept, kept_num_rows)
    return list(one.make(task, tally, told.append)), tally, sum(told), one._generator


def decoded(row, number):
    return np.asarray(open_picture(row["images"][number]), dtype=int)


def seed(caption_id, number, *attempt):
    return seed_for(0, "image", caption_id, number, *attempt)


@pytest.mark.parametrize("back_end", ["obedient", "threaded"])
def test_what_is_no_good_is_drawn_again_and_counted(back_end):
    texts = ("good", "black good", "blocked flat good", "same", "flat", "black", "  ", "blocked")
    rows, tally, told, generator = made(settings(image_generator=back_end), captions(*texts))
    assert [row["caption"] for row in rows] == list(texts[:5])
    assert [row["seeds"] for row in rows] == [
        [seed(10, 0), seed(10, 1)],
        [seed(11, 0, 1), seed(11, 1, 1)],
        [seed(12, 0, 2), seed(12, 1, 2)],
        [seed(13, 0), seed(13, 1, 4)],
        [seed(14, 0, 4), seed(14, 1, 4)],
    ]
    for row in rows[:3]:
        for number, used in enumerate(row["seeds"]):
            assert abs(decoded(row, number) - np.asarray(pattern(used), dtype=int)).mean() < 15
    assert tally.counts == {
        "black": 2 + 10,
        "blocked": 2 + 10,
        "flat": 2 + 8,
        "near_identical": 4,
        "kept_near_identical": 1,
        "kept_flat": 2,
        "empty_caption": 1,
        "caption_cut": 1,
        "dropped_black": 1,
        "dropped_blocked": 1,
    }
    assert tally.dropped == 3 and tally.concepts["same"] == 4 and tally.concepts["good"] == 0
    assert tally.cost["pictures"] == 14 + 11 + 9 + 7 + 7
    assert tally.cost["seconds"] > 0 and told == 2 * len(texts)
    assert generator.calls[0] == [text for text in texts if text.strip() for _ in range(2)]
    assert generator.calls[1] == ["black good"] * 2 + ["blocked flat good"] * 2 + ["same"] + [
        text for text in ("flat", "black", "blocked") for _ in range(2)
    ]


def test_rows_come_block_by_block(monkeypatch):
    monkeypatch.setattr(maker, "ROWS_PER_GROUP", 2)
    texts = ("good", "black good", "good good", "flat good", "good")
    one = ImageMaker(settings(), find_image_generator("obedient"))
    one.load()
    rows = one.make(ShardTask(0, 0, 5, captions(*texts)), Tally(), lambda units: None)
    next(rows)
    assert one._generator.calls == [["good"] * 2 + ["black good"] * 2, ["black good"] * 2]
    assert len(list(rows)) == 4


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (
            "black",
            "could be kept: 128 are black, as when .*; type --dtype float32 or --dtype bfloat16 with a new",
        ),
        ("blocked", "its safety checker blocks 128 of them; type --no-safety-checker with a new --output-dir"),
    ],
)
def test_a_model_that_draws_nothing_is_given_up(word, said):
    with pytest.raises(UserInputError, match=f"obedient drew 128 pictures and .*{said}"):
        made(settings(), captions(*[word] * 100), index=7)
    with pytest.raises(UserInputError, match=r"obedient drew 20 pictures and none"):
        made(settings(), captions(word, word))


def test_one_blocked_caption_does_not_end_a_run():
    rows, tally, _, _ = made(settings(), captions("blocked"), index=7)
    assert rows == [] and tally.dropped == 1
    rows, tally, _, _ = made(settings(images_per_caption=140), captions("blocked good", "good"))
    assert len(rows) == 2 and tally.counts["blocked"] == 140


def test_captions_that_are_all_empty():
    with pytest.raises(UserInputError, match="the captions of 'captions' are empty.*type --captions"):
        made(settings(), captions("", "\n"))


@pytest.mark.parametrize(("more", "said"), [(False, "drew 3 pictures"), (True, "drew more than 4 pictures")])
def test_a_wrong_number_of_pictures_is_told(monkeypatch, more, said):
    monkeypatch.setattr(Miscounting, "more", more)
    with pytest.raises(RuntimeError, match=f"{said} for 4 prompts"):
        made(settings(image_generator="miscounting"), captions("good", "good"))


def stored(path, rows):
    pq.write_table(pa.Table.from_pylist(rows, schema=image_features().arrow_schema), path)
    return path


def test_an_extended_row_keeps_its_pictures(tmp_path):
    texts = ("good", "good flat", "black", "good blocked good", "good")
    first, _, _, _ = made(settings(), captions(*texts[:3]))
    kept = stored(tmp_path / "kept.parquet", first)
    rows, tally, told, generator = made(
        settings(images_per_caption=3), captions(*texts), index=7, kept=kept, kept_num_rows=3
    )
    assert [len(row["images"]) for row in rows] == [3] * 4
    for before, row in zip(first, rows, strict=False):
        assert row["images"][:2] == before["images"] and row["seeds"][:2] == before["seeds"]
    assert generator.calls == [["good", "good flat"] + ["good blocked good"] * 3 + ["good"] * 3]
    assert rows == made(settings(images_per_caption=3), captions(*texts))[0], "as if made at once"
    assert told == tally.cost["pictures"] == 8, "what was there is not told again"
    assert tally.dropped == 0 and tally.counts == {"caption_cut": 1}, "nor what was dropped"


def test_a_row_that_can_have_no_more_pictures_stays_as_it_was(tmp_path):
    first, _, _, _ = made(settings(), captions("good blocked", "good"))
    kept = stored(tmp_path / "kept.parquet", [{**first[0], "caption": "blocked"}, first[1]])  # a model that changed
    more = captions("blocked", "good")
    rows, tally, _, _ = made(settings(images_per_caption=4), more, kept=kept, kept_num_rows=2)
    assert [len(row["images"]) for row in rows] == [2, 4] and tally.dropped == 0
    assert rows[0]["images"] == first[0]["images"] and rows[0]["provenance"] == first[0]["provenance"]
    assert tally.counts["kept_fewer_blocked"] == 1


def test_captions_that_share_an_id_keep_their_own_pictures(tmp_path):
    both = tuple({**row, "caption_id": 7} for row in captions("black good", "good"))
    first, _, _, _ = made(settings(), both)
    kept = stored(tmp_path / "kept.parquet", first)
    rows, _, _, _ = made(settings(images_per_caption=3), both, kept=kept, kept_num_rows=2)
    assert [row["images"][:2] for row in rows] == [row["images"] for row in first]
    assert first[0]["images"] != first[1]["images"]


def test_columns_of_others_may_be_null():
    rows = [{**row, "concept": None} for row in captions("good", "black good")] + [
        {**captions("")[0], "caption_id": 99, "caption": None}
    ]
    drawn, tally, _, _ = made(settings(), tuple(rows))
    assert len(drawn) == 2 and tally.dropped == 1 and tally.counts["empty_caption"] == 1
    assert tally.concepts == {"": 2}


def test_a_model_that_drew_something_is_not_given_up(monkeypatch):
    monkeypatch.setattr(drawing, "HOPELESS_DRAWS", 4)
    one = ImageMaker(settings(), find_image_generator("obedient", settings().options()))
    one.load()
    good, bad = captions("good"), captions(*["blocked"] * 20)
    assert len(list(one.make(ShardTask(0, 0, 1, good), Tally(), lambda more: None))) == 1
    one._generator.calls.clear()
    assert list(one.make(ShardTask(1, 1, 20, bad), tally := Tally(), lambda more: None)) == []
    assert tally.dropped == 20


def test_a_new_picture_is_compared_with_those_that_are_kept(tmp_path):
    kept = stored(tmp_path / "kept.parquet", made(settings(), captions("same good"))[0])
    rows, tally, _, _ = made(settings(images_per_caption=3), captions("same good"), kept=kept)
    assert tally.counts == {"near_identical": 1} and rows[0]["seeds"][2] == seed(10, 2, 1)


def test_a_row_whose_first_pictures_something_else_drew_says_so(tmp_path):
    first, _, _, _ = made(settings(), captions("good", "good"))
    old = json.dumps(json.loads(first[0]["provenance"]) | {"revision": "older"}, sort_keys=True)
    kept = stored(tmp_path / "kept.parquet", [row | {"provenance": old} for row in first[:1]])
    rows = made(settings(images_per_caption=3), captions("good", "good"), kept=kept)[0]
    told = [json.loads(row["provenance"]) for row in rows]
    assert told[0]["first_pictures"] == {"count": 2, **json.loads(old)} and "first_pictures" not in told[1]
    unchanged, _, _, generator = made(settings(), captions("good"), kept=kept)
    assert unchanged[0]["provenance"] == old and generator.calls == []


class Lengths:
    """Scores a picture by the length of its file."""

    def __init__(self, model_id):
        assert model_id == "org/clip"

    def scores(self, captions, pictures):
        return [[float(len(picture)) for picture in row] for row in pictures]


def test_scores_are_asked_for_once(tmp_path, monkeypatch):
    monkeypatch.setattr(maker, "ImageTextScorer", Lengths)
    config, texts = settings(score_model="org/clip"), captions("good", "black", "good")
    first = made(config, texts)[0]
    assert all(row["scores"] == [len(image["bytes"]) for image in row["images"]] for row in first)
    kept = tmp_path / "kept.parquet"
    old = [row | {"scores": [0.25, 0.5]} for row in first]
    pq.write_table(pa.Table.from_pylist(old, schema=image_features(scores=True).arrow_schema), kept)
    rows = made(replace(config, images_per_caption=3), captions("good", "black", "good"), kept=kept, kept_num_rows=3)[
        0
    ]
    assert [row["scores"] for row in rows] == [[0.25, 0.5, len(row["images"][2]["bytes"])] for row in rows]


def test_rows_that_are_dropped_do_not_disturb_a_run(tmp_path):
    """Through the writer, with the toy world: the shards are finished, and killed ones are made again the same."""
    texts = ("a red cat on a beach", " ", "a blue car", "a green tree", "", "an owl in a park")
    table = pa.Table.from_pylist(list(captions(*texts)))
    table = table.append_column("template", pa.array(["concept"] * 6))
    for name in ("background", "relation", "language_model"):
        table = table.append_column(name, pa.array([None] * 6, pa.string()))
    table = table.append_column("seed", pa.array(range(6)))
    (tmp_path / "captions/data").mkdir(parents=True)
    pq.write_table(table, tmp_path / "captions/data/train-00000.parquet")
    config = ImagesConfig(tmp_path / "images", tmp_path / "captions", size=32, rows_per_shard=2, images_per_caption=2)
    folder = write_images(config, workers=1)
    rows = read_images(folder)
    assert rows["caption_id"][:] == [10, 12, 13, 15]
    assert json.loads(rows[0]["provenance"]).items() >= {"back_end": "toy", "device": "cpu"}.items()
    assert [read_note(folder, index).dropped for index in range(3)] == [1, 0, 1]
    before = (folder / "data/train-00002.parquet").read_bytes()
    (folder / "data/train-00002.parquet").unlink()
    write_images(config, workers=1)
    assert (folder / "data/train-00002.parquet").read_bytes() == before
